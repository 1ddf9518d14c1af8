# The visibility map. A page's bit that was cleared right before the compute is killed, or right before
# the map's page is evicted, is clear in the next compute, too, and index-only scans notice. Redo clears
# the bits according to flags of heap records that do not mention the map's page (interpret_heap() in
# src/pageserver/pg/interpret_storage.c); a compute keeps the map's pages (KEEP_COMPUTE_LIFE in
# src/compute/keep_reasons.c).
#
# Only 030 and 060 have tables whose rows are on two pages of the map (one page covers 255 MB of heap).
# XLOG_HEAP2_LOCK_UPDATED cannot clear a bit, because a page with a row version that is locked through an
# older one has a transaction that is not frozen; test/unit/t_wal_records.c tests its rule.
#
# Hint bits: a page on which only hints were set is evicted and read back by another session, with data
# checksums enabled.
use strict;
use warnings;
use Oracle;
use PageserverTest;
use Test::More;
use TrapTest;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', '--data-checksums', 'main');
my $c = trap_compute($store, 1);
my $out = "CHECKPOINT;\n" . churn();

# Each operation has its own table of 2000 rows, frozen: the statement, and what an index-only scan then
# counts.
my %ops = (
	insert => [ "INSERT INTO t VALUES (0, 0, 'new')", 2001 ],
	multi_insert => [ "COPY t FROM PROGRAM 'seq -f %g,0,n -2 -1' (FORMAT csv)", 2002 ],
	delete => [ 'DELETE FROM t WHERE id = 77', 1999 ],
	update => [ 'UPDATE t SET id = -id WHERE id = 77', 2000 ],
	hot_update => [ "UPDATE t SET v = 1 WHERE id = 78", 2000 ],
	lock => [ 'SELECT count(*) FROM (SELECT 1 FROM t WHERE id = 79 FOR UPDATE) x', 2000 ],
	multi_lock => [ "BEGIN; SELECT 1 FROM t WHERE id = 79 FOR KEY SHARE; SAVEPOINT s; UPDATE t SET v = 1 WHERE id = 79; ROLLBACK TO s; COMMIT", 2000 ],
	on_conflict => [ 'INSERT INTO t VALUES (80, 0) ON CONFLICT (id) DO UPDATE SET v = 5', 2000 ],
	on_conflict_new => [ 'INSERT INTO t VALUES (-80, 0) ON CONFLICT (id) DO NOTHING', 2001 ],
	aborted_insert => [ "BEGIN; INSERT INTO t VALUES (0, 0, 'gone'); ROLLBACK", 2000 ],
	aborted_delete => [ 'BEGIN; DELETE FROM t WHERE id = 77; ROLLBACK', 2000 ],
	prepared_delete => [ "BEGIN; DELETE FROM t WHERE id = 77; PREPARE TRANSACTION 'p'", 2000 ],
	copy_freeze => [ "BEGIN; TRUNCATE t; COPY t FROM PROGRAM 'seq -f %g,0,n 1 2' (FORMAT csv, FREEZE); COMMIT; DELETE FROM t WHERE id = 1", 1 ],
);

sub make_tables
{
	for my $op (sort keys %ops)
	{
		$c->sql("CREATE TABLE vis_$op (id int PRIMARY KEY, v int, pad text) WITH (fillfactor = 90);"
			  . " INSERT INTO vis_$op SELECT i, 0, repeat('v', 100) FROM generate_series(1, 2000) i; VACUUM (FREEZE) vis_$op");
	}
	$c->sql($out);
}

sub check_tables
{
	my ($when) = @_;
	for my $op (sort keys %ops)
	{
		my $table = "vis_$op";
		$c->sql_is(churn() . "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM $table", $ops{$op}[1], "$op, $when: index-only scan");
		# pages that the map wrongly calls all-visible or all-frozen
		$c->sql_is("SELECT (SELECT count(*) FROM pg_check_visible('$table')), (SELECT count(*) FROM pg_check_frozen('$table'))", '0|0', "$op, $when: the map is right");
		# no more bits are cleared than needed: those of two or three of about 35 pages
		cmp_ok($c->sql("SELECT count(*) FROM pg_visibility_map('$table') WHERE all_visible"), '>', 25, "$op, $when: the other pages are still all-visible")
		  unless $op eq 'copy_freeze';
	}
}

make_tables();
like($c->sql('SET enable_seqscan = off; SET enable_bitmapscan = off; EXPLAIN SELECT count(id) FROM vis_insert'), qr/Index Only Scan/, 'the scans are index-only');
$c->sql($ops{$_}[0] =~ s/\bt\b(?=[ ;(])/vis_$_/gr) for sort keys %ops;
check_tables('evicted');
$c->sql("ROLLBACK PREPARED 'p'");
$c->sql("DROP TABLE vis_$_") for keys %ops;

# The compute is killed right after the changes.
make_tables();
$c->sql(join ";\n", map { $ops{$_}[0] =~ s/\bt\b(?=[ ;(])/vis_$_/gr } sort keys %ops);
$c->kill9;
$c = trap_compute($store, 0);
check_tables('in the next compute');
$c->sql("COMMIT PREPARED 'p'");
$c->sql_is('SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM vis_prepared_delete', 1999, 'COMMIT PREPARED');
$c->sql('VACUUM');
$ops{prepared_delete}[1] = 1999;
check_tables('after VACUUM');

# ---- hint bits ----
$c->sql("CREATE TABLE hints (id int, pad text); INSERT INTO hints SELECT i, repeat('h', 200) FROM generate_series(1, 20000) i; DELETE FROM hints WHERE id % 2 = 0; $out");
my @sessions = (session($c), session($c));
for my $round (1 .. 2)
{
	is($_->ask('SELECT count(*), sum(id) FROM hints'), '10000|100000000', "hints, round $round") for @sessions;
	$sessions[0]->ask($out);
}
$_->close for @sessions;
$c->sql_is("SELECT count(*) FROM pg_stat_database WHERE checksum_failures > 0", '0', 'no checksum is wrong');
$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--heapallindexed');
$c->kill9;
oracle_ok($store, 'main', count => 1);
$store->stop;
done_testing();
