# File numbers that are used again after OIDs have wrapped around: nothing of
# the relation that had the number before may come back, and no relation may be
# made in place of one that is still there.
#
# lsn_cache_set_relation() in ps_create() and ps_unlink() has no test: a number
# is given out again only if the store answers that it has no such relation
# (check_number_is_free()), and then it has taken in the drop, so that an older
# LSN does no harm.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use TrapTest;

my $dir = PageserverTest::test_dir();
my $bindir = PageserverTest::bindir();

# a cluster whose next OID is near the end
sub run_ok
{
	my (@command) = @_;
	my $out = '';
	ok(IPC::Run::run(\@command, '<', \undef, '>&', \$out), (split '/', $command[0])[-1]) or diag("@command: $out");
}
run_ok("$bindir/initdb", '-D', "$dir/source", '-U', 'postgres', '-A', 'trust', '-N');
# single-user mode does not mind OIDs that are for initdb
run_ok("$bindir/pg_resetwal", '-o', '20000', '-D', "$dir/source");
my $single = "CREATE TABLE a (id int, pad text);\n"
  . "INSERT INTO a SELECT i, repeat('a', 900) FROM generate_series(1, 400) i;\n"
  . "VACUUM (FREEZE) a;\n"
  . "CREATE TABLE b (id int);\n"
  . "SELECT lo_create(0) FROM generate_series(1, 10);\n"
  . "TRUNCATE b;\n"
  . "INSERT INTO b SELECT generate_series(1, 500);\n";
my $out = '';
ok(IPC::Run::run([ "$bindir/postgres", '--single', '-D', "$dir/source", 'postgres' ], '<', \$single, '>&', \$out), 'tables of the cluster');
run_ok("$bindir/pg_resetwal", '-o', '4294960000', '-D', "$dir/source");

my $store = PageserverTest->new_store('main');
$store->ctl_ok('import', 'import', '--pgdata', "$dir/source", 'main');
my $c = trap_compute($store, 1, "shared_buffers = 16MB\n");
my ($r, $observer) = (session($c), session($c));

# consumes OIDs up to this one
sub next_oid
{
	my ($last) = @_;
	$c->sql("DO \$\$ BEGIN LOOP EXIT WHEN pg_nextoid('pg_class', 'oid', 'pg_class_oid_index')::bigint = $last; END LOOP; END \$\$");
}

my $number = $c->sql("SELECT pg_relation_filenode('a')");
is($number, 20000, 'file number of the table');
my $all_visible = 'SELECT count(*) FILTER (WHERE all_visible) FROM pg_visibility_map';
$c->sql_is("$all_visible('a')", '50', 'and a visibility map');
$c->sql('DROP TABLE a; CHECKPOINT; VACUUM pg_class');
next_oid($number - 1);
$c->sql('CREATE TABLE a2 (id int, pad text)');
$c->sql_is("SELECT pg_relation_filenode('a2')", $number, 'another table gets its number');
$r->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$observer->ask("INSERT INTO a2 SELECT i, repeat('n', 900) FROM generate_series(1, 400) i; VACUUM a2");
is($observer->errors, '', 'VACUUM of it has nothing to complain of');
is($observer->ask("$all_visible('a2')"), '0', 'its visibility map has nothing of the other');
$r->ask('COMMIT');
$c->sql_is('SELECT count(*), min(pad) = max(pad) FROM a2', '400|t', 'nor has it rows of the other');

# a relation that this compute has not touched has no local file that says that its number is taken
my $taken = $c->sql("SELECT relfilenode FROM pg_class WHERE relname = 'b'");
next_oid($taken - 1);
my ($rc, $stdout, $err) = $c->psql('CREATE TABLE c (id int)');
like($err, qr/the page store has such a relation/, 'a number that is taken is not given out');
$c->sql('CREATE TABLE c (id int)');
$c->sql_is('SELECT count(*), sum(id) FROM b', '500|125250', 'the relation that has it is as it was');
$c->sql_is('SELECT count(*) FROM c', '0', 'the next number is free');
$_->close for $r, $observer;
$c->stop;
$store->stop;
done_testing();
