# File numbers that are reused after OIDs have wrapped around. No data of the relation that had the number
# before may come back, and no relation may be created with the number of one that still exists.
#
# lsn_cache_set_relation() in ps_create() and ps_unlink() has no test: a number is assigned only after the
# store has answered that it has no such relation (check_number_is_free()), and by then it has ingested
# the drop, so that an older LSN does no harm.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use TrapTest;

my $dir = PageserverTest::test_dir();
my $bindir = PageserverTest::bindir();

# a cluster whose next OID is close to the end
sub run_ok
{
	my (@command) = @_;
	my $out = '';
	ok(IPC::Run::run(\@command, '<', \undef, '>&', \$out), (split '/', $command[0])[-1]) or diag("@command: $out");
}
run_ok("$bindir/initdb", '-D', "$dir/source", '-U', 'postgres', '-A', 'trust', '-N');
# Single-user mode accepts OIDs that are reserved for initdb.
run_ok("$bindir/pg_resetwal", '-o', '20000', '-D', "$dir/source");
my $single = "CREATE TABLE a (id int, pad text);\n"
  . "INSERT INTO a SELECT i, repeat('a', 900) FROM generate_series(1, 400) i;\n"
  . "VACUUM (FREEZE) a;\n"
  . "CREATE TABLE b (id int);\n"
  . "SELECT lo_create(0) FROM generate_series(1, 10);\n"
  . "TRUNCATE b;\n"
  . "INSERT INTO b SELECT generate_series(1, 500);\n"
  . "CREATE TABLE d (id int);\nSELECT lo_create(0) FROM generate_series(1, 10);\nTRUNCATE d;\nINSERT INTO d VALUES (1);\n"
  . join('', map { "CREATE TABLE t$_ (i int PRIMARY KEY, x text);\n" } 1 .. 20);
my $out = '';
ok(IPC::Run::run([ "$bindir/postgres", '--single', '-D', "$dir/source", 'postgres' ], '<', \$single, '>&', \$out), 'tables of the cluster');
run_ok("$bindir/pg_resetwal", '-o', '4294960000', '-D', "$dir/source");

my $store = PageserverTest->new_store('main');
$store->ctl_ok('import', 'import', '--pgdata', "$dir/source", 'main');
my $c = trap_compute($store, 1, "pageserver_smgr.cache_size = 64MB\npageserver_smgr.max_wal_lag = 1\n");
my $observer = session($c);

# Removes table d from the catalogs, as if a kill had left its file behind.
my $unknown = $c->sql("SELECT relfilenode FROM pg_class WHERE relname = 'd'");
$c->sql("SET allow_system_table_mods = on; DELETE FROM pg_attribute WHERE attrelid = 'd'::regclass;"
	  . " DELETE FROM pg_type WHERE typname IN ('d', '_d'); DELETE FROM pg_class WHERE relname = 'd'");

# consumes OIDs up to this one
sub next_oid
{
	my ($last) = @_;
	$c->sql("DO \$\$ BEGIN LOOP EXIT WHEN pg_nextoid('pg_class', 'oid', 'pg_class_oid_index')::bigint = $last; END LOOP; END \$\$");
}

my $number = $c->sql("SELECT pg_relation_filenode('a')");
is($number, 20000, 'the file number of the table is as expected');
$c->sql_is('SELECT count(*) FROM a', '400', 'its pages are in the cache');
$c->sql('DROP TABLE a; CHECKPOINT; VACUUM pg_class');
next_oid($number - 1);
$c->sql('CREATE TABLE a2 (id int, pad text); ALTER TABLE a2 ALTER pad SET STORAGE PLAIN');
$c->sql_is("SELECT pg_relation_filenode('a2')", $number, 'another table gets the number of the dropped table');
extend_by_many($c, $observer, 'a2');
for my $push (evict(), churn())
{
	$observer->ask($push);
	$c->sql_is('SELECT count(*), min(id) FROM a2', '6|1000', 'the new table has no row of the dropped one');
}
# A relation that this compute has not touched has no local file to show that its number is taken.
my $taken = $c->sql("SELECT relfilenode FROM pg_class WHERE relname = 'b'");
next_oid($taken - 1);
$c->sql('CREATE TABLE c (id int)');
cmp_ok($c->sql("SELECT oid FROM pg_class WHERE relname = 'c'"), '>', $taken, 'a number that is taken is skipped');
$c->sql_is('SELECT count(*), sum(id) FROM b', '500|125250', 'the relation that has the number is unchanged');
$c->sql_is('SELECT count(*) FROM c', '0', 'the new relation is empty');
# a relation that is not in pg_class either
next_oid($unknown - 1);
my ($rc, $stdout, $err) = $c->psql('CREATE TABLE e (id int)');
like($err, qr/the page store already has a relation with this file number/, 'the number of a relation that no catalog knows is refused');
$c->sql('CREATE TABLE e (id int)');
cmp_ok($c->sql("SELECT oid FROM pg_class WHERE relname = 'e'"), '>', $unknown, 'the refused number is skipped from then on');
next_oid($c->sql("SELECT min(oid) FROM pg_class WHERE relname LIKE 't%' AND relkind = 'r' AND oid > $unknown + 2") - 1);
for my $i (1 .. 30)
{
	($rc, $stdout, $err) = $c->psql($i % 3 == 0 ? "REINDEX TABLE t20" : $i % 3 == 1 ? 'TRUNCATE c' : 'VACUUM FULL c');
	is($err, '', "numbers of relations that nobody has touched are skipped ($i)");
}
$c->sql_is('SELECT ' . join(' + ', map { "(SELECT count(*) FROM t$_)" } 1 .. 20), '0', 'the relations that have these numbers are unchanged');
$observer->close;
$c->stop;
$store->stop;
done_testing();
