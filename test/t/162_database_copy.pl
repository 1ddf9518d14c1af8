# Databases that are copied as a whole. The copy is available at once, however large the source is, and
# stays correct while and after its pages are written: beside changes of both databases, when the source
# is dropped, in branches that start in between, in the past, in an export, and after kills.
use strict;
use warnings;
use Manifest;
use PageserverTest;
use Test::More;

my $dir = PageserverTest::test_dir();
my $settings = "checkpoint_distance = 1MB\ncompaction_threshold = 2\ncompaction_fanout = 2\ntarget_file_size = 1MB\npage_cache_size = 1MB\n";
my $store = PageserverTest->new_store('main', conf => $settings . "compaction_workers = 0\n");
my $small = "shared_buffers = 512kB\npageserver_smgr.cache_size = 1MB\npageserver_smgr.cache_limit = 512MB\nautovacuum = off\nallow_in_place_tablespaces = on\n";
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => $small);

$c->sql("CREATE TABLESPACE ts LOCATION ''");
$c->sql('CREATE DATABASE src');
$c->sql("CREATE TABLE t (id int PRIMARY KEY, v text) WITH (fillfactor = 70); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 20000) i;"
	  . " CREATE TABLE cut (id int); INSERT INTO cut SELECT generate_series(1, 20000); CREATE TABLE gone (id int); INSERT INTO gone SELECT generate_series(1, 3000);"
	  . " CREATE UNLOGGED TABLE u (id int); INSERT INTO u VALUES (1)", db => 'src');
my $sum = 'SELECT count(*), sum(id), md5(string_agg(v, \'\' ORDER BY id)) FROM t';
my $as_it_was = $c->sql($sum, db => 'src');

# The copies that the manifest names.
sub copies
{
	return @{ Manifest::state(Manifest::directory($store, 'main'))->{copies} // [] };
}

# Both change after the copy, through records that need the previous page; one relation is truncated,
# another one dropped.
$c->sql('CREATE DATABASE a TEMPLATE src STRATEGY file_copy');
$store->ctl_ok('a branch right after the copy', 'branch', 'create', 'after', '--from', 'main');
$c->sql("UPDATE t SET v = 'src' WHERE id % 3 = 0", db => 'src');
$c->sql("UPDATE t SET v = 'a' WHERE id % 7 = 0; DELETE FROM cut WHERE id > 100; VACUUM cut; DROP TABLE gone", db => 'a');
my $a = $c->sql($sum, db => 'a');
is($a, $c->sql("SELECT count(*), sum(id), md5(string_agg(CASE WHEN id % 7 = 0 THEN 'a' ELSE md5(id::text) END, '' ORDER BY id)) FROM t", db => 'a'), 'the copy does not see changes of the source');
$c->sql('INSERT INTO cut SELECT generate_series(30001, 50000)', db => 'a');
$c->sql_is('SELECT count(*), sum(id) FROM cut', (100 + 20000) . '|' . (5050 + 20000 * 40000 + 10000), 'blocks that were truncated and extended again are new', db => 'a');

# a copy of the copy, which is moved and moved back
$c->sql('CREATE DATABASE b TEMPLATE a STRATEGY file_copy');
$c->sql('ALTER DATABASE b SET TABLESPACE ts');
$c->sql("UPDATE t SET v = v || 'b' WHERE id % 5 = 0", db => 'b');
my $b = $c->sql($sum, db => 'b');
$c->sql('ALTER DATABASE b SET TABLESPACE pg_default');
$c->sql_is($sum, $b, 'a database can be moved and moved back', db => 'b');
# The source is dropped.
$c->sql('DROP DATABASE src');
$c->sql_is($sum, $a, 'a copy outlives its source', db => 'a');

sub all_is_there
{
	my ($when) = @_;
	$c->sql_is($sum, $a, "$when: the copy", db => 'a');
	$c->sql_is($sum, $b, "$when: the copy of the copy, which was moved", db => 'b');
	$c->sql_is("SET enable_seqscan = off; SELECT v FROM t WHERE id = 14", 'a', "$when: a row found through the index", db => 'a');
	$c->sql_is('SELECT count(*), sum(id) FROM cut', (100 + 20000) . '|' . (5050 + 20000 * 40000 + 10000), "$when: the truncated table", db => 'b');
}
sub next_compute
{
	$c->kill9;
	$c = $store->start_compute('main', conf => $small);
}

$store->kill9;
$store->start;
next_compute();
all_is_there('after a kill');
PageserverTest::wait_until(sub { $c->sql('CREATE TABLE IF NOT EXISTS w (i int); INSERT INTO w SELECT generate_series(1, 5000)'); (() = copies()) == 4 }, 'the records to be in layer files');
like($_, qr{^\d+/\d+ [0-9A-F]+/[0-9A-F]+ [0-9A-F]+/[0-9A-F]+$}, 'the manifest lists the copy') for copies();
$store->kill9;
$store->start;
next_compute();
all_is_there('after a kill with the records in layer files');
is(scalar(() = copies()), 4, 'all copies are still to be written');

# Only the present is kept, and what the copies need.
$c->stop;
$store->stop;
$store->append_conf("compaction_workers = 1\ngc_horizon = 0\npitr_interval = 0\n");
$store->start;
$c = $store->start_compute('main', conf => $small);
$store->ctl_ok('compact', 'branch', 'compact', 'main');
is(scalar(() = copies()), 0, 'the pages of all copies have been written');
like($store->log_content, qr/wrote \d+ pages of copied database \d+ in tablespace \d+ to ([2-9]|\d\d) files/, 'the pages are written to several files');
all_is_there('with the pages written');
$store->ctl_ok('compact again', 'branch', 'compact', 'main');
next_compute();
all_is_there('with the garbage removed');
my $compute = $store->start_compute('after', conf => $small);
$compute->sql_is($sum, $as_it_was, 'in the branch that began in between: the copy', db => 'a');
$compute->sql_is($sum, $as_it_was, 'in the branch that began in between: the source', db => 'src');
$compute->sql_is('SELECT count(*), sum(id) FROM gone', '3000|4501500', 'in the branch that began in between: what was dropped later', db => 'a');
$compute->stop;
$c->stop;
$store->ctl_ok('export', 'export', 'main', '-D', "$dir/exported");
is(system(PageserverTest::bindir() . "/pg_checksums --check -D $dir/exported >/dev/null 2>&1") >> 8, 1, 'an export is a data directory without data checksums');
$store->stop;
done_testing();
