# Visibility maps and free space maps across computes. The store derives the visibility map from records
# of heap pages that do not mention the map, and it has the free space map only because the compute logs
# it. Both must be the same in the next compute, after a kill and after a clean stop.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use TrapTest;

my $store = trap_store();
my $c = trap_compute($store, 1);

# One table for each record type that clears bits of the map.  Each has more pages than are changed, and
# all of it is frozen first.  XLOG_HEAP2_LOCK_UPDATED can clear a bit as well, but no session can produce
# that: it is written for versions newer than the locker's snapshot, and the page of such a version is
# never all-frozen.
my %clears = (
	insert => "INSERT INTO vm_insert VALUES (-1, 'x')",
	multi_insert => "COPY vm_multi_insert FROM PROGRAM 'for i in 1 2 3 4 5 6 7 8; do echo \"-\$i,y\"; done' (FORMAT csv)",
	delete => "DELETE FROM vm_delete WHERE id = 1",
	hot_update => "UPDATE vm_hot_update SET pad = 'h' WHERE id = 1",
	# The new version is stored on another all-visible page; in the second case the old one is on a page
	# that is not all-visible.
	update => "UPDATE vm_update SET pad = repeat('u', 1900) WHERE id = 1",
	update_new => "DELETE FROM vm_update_new WHERE id = 2; UPDATE vm_update_new SET pad = repeat('u', 1900) WHERE id = 1",
	lock => "SELECT 1 FROM vm_lock WHERE id = 1 FOR UPDATE");
for my $kind (sort keys %clears)
{
	my $fill = $kind eq 'hot_update' ? 50 : 100;
	$c->sql("CREATE TABLE vm_$kind (id int, pad text) WITH (fillfactor = $fill); INSERT INTO vm_$kind SELECT i, repeat('v', 300) FROM generate_series(1, 1000) i;"
		  . " DELETE FROM vm_$kind WHERE id > 990; VACUUM (FREEZE) vm_$kind");
	my $changed = "SELECT count(*) FROM pg_visibility_map('vm_$kind') WHERE NOT (all_visible AND all_frozen)";
	$c->sql_is($changed, '0', "$kind: the whole table is frozen");
	$c->sql($clears{$kind});
	cmp_ok($c->sql($changed), '>', 0, "$kind: some of it is no longer frozen");
}

# a query for the contents of all maps
my $maps = join ' UNION ALL ', map { "SELECT '$_', * FROM pg_visibility_map('vm_$_')" } sort keys %clears;
my $before = $c->sql("$maps ORDER BY 1, 2");

# an index-only scan over pages that were all-visible, with changes that were rolled back
$c->sql("CREATE TABLE vis (id int PRIMARY KEY, pad text); INSERT INTO vis SELECT i, repeat('v', 100) FROM generate_series(1, 5000) i; VACUUM vis;"
	  . " DELETE FROM vis WHERE id % 4 = 0; INSERT INTO vis SELECT i, 'n' FROM generate_series(100001, 101000) i;"
	  . " BEGIN; INSERT INTO vis SELECT i, 'aborted' FROM generate_series(200001, 201000) i; ROLLBACK");

# A table that is half free and has no dead rows: only the map knows its free space.
$c->sql("CREATE TABLE fsm AS SELECT i AS id, repeat('f', 400) pad FROM generate_series(1, 10000) i; DELETE FROM fsm WHERE id % 2 = 0; VACUUM (FREEZE) fsm; CHECKPOINT");
my $size = $c->sql("SELECT pg_relation_size('fsm')");
my $free = $c->sql("SELECT sum(avail) FROM pg_freespace('fsm')");
$c->kill9;

$c = trap_compute($store, 0);
is($c->sql("$maps ORDER BY 1, 2"), $before, 'the next compute has the same visibility maps');
for my $kind (sort keys %clears)
{
	$c->sql_is("SELECT (SELECT count(*) FROM pg_check_visible('vm_$kind')) + (SELECT count(*) FROM pg_check_frozen('vm_$kind'))", '0', "$kind: no bit is set wrongly");
}
$c->sql_is('SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM vis', '4750', 'an index-only scan in the next compute');
$c->sql_is("SELECT sum(avail) FROM pg_freespace('fsm')", $free, 'the free space map in the next compute');
$c->sql("INSERT INTO fsm SELECT i, repeat('g', 400) FROM generate_series(1, 4000) i");
$c->sql_is("SELECT pg_relation_size('fsm')", $size, 'the table does not grow, because its free space is known');

# A clean stop while pages of the map are dirty: nothing may be logged after the shutdown checkpoint.
$c->sql("DELETE FROM fsm WHERE id % 3 = 0; VACUUM fsm");
$c->stop;
unlike($c->log_content, qr/PANIC/, 'no PANIC in a stop with dirty pages of the free space map');
$c = trap_compute($store, 0);
$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--heapallindexed');
$c->stop;
$store->stop;
done_testing();
