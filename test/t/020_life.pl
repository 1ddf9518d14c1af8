# The life of a cluster: it is written to, its compute is lost, and another one is started elsewhere.
# Committed data must survive clean stops and kills of the compute and of the store, and stock PostgreSQL
# must start on an export.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
like($store->ctl_ok('branch list', 'branch', 'list'), qr/\bmain\b/, 'the branch is listed');

my $c = $store->start_compute('main');
$c->sql_is("SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'", 'pageserver_smgr', 'the library is loaded');
$c->sql('CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 20000) i');
$c->sql('CREATE UNLOGGED TABLE u (id int PRIMARY KEY); INSERT INTO u SELECT generate_series(1, 1000)');
$c->sql('CREATE SEQUENCE s');
my $last = $c->sql("SELECT nextval('s') FROM generate_series(1, 10) OFFSET 9");
my $sum = $c->sql('SELECT md5(string_agg(v, \',\' ORDER BY id)) FROM t');
$c->sql_is('SELECT pg_relation_size(\'t\') = 8192 * (SELECT max(split_part(trim(ctid::text, \'()\'), \',\', 1)::int) + 1 FROM t)', 't', 'pg_relation_size returns the true size');

# a clean stop, then the same branch in a new directory
$c->sql("CREATE EXTENSION pg_freespacemap; UPDATE t SET v = v; VACUUM t");
my $spaces = $c->sql("SELECT sum(avail) FROM pg_freespace('t')");
$c->stop;
$c = $store->start_compute('main');
$c->sql_is('SELECT last_value, is_called FROM s', "$last|t", 'a sequence is unchanged in the next compute');
$c->sql_is('SELECT sum(avail) FROM pg_freespace(\'t\')', $spaces, 'the free space map is unchanged in the next compute');
$c->sql_is('SELECT md5(string_agg(v, \',\' ORDER BY id)) FROM t', $sum, 'rows are there after a clean stop');
$c->sql_is('SELECT count(*) FROM u', '0', 'an unlogged table is empty in the next compute');
$c->sql('INSERT INTO u SELECT generate_series(1, 50)');
$c->sql_is('SELECT count(*) FROM u WHERE id > 10', '40', 'the unlogged table and its index can be used');
is($c->sql("SELECT nextval('s')"), ++$last, 'the sequence continues where it was');

# a kill, with one transaction open and another one prepared
$c->sql('ALTER SYSTEM SET work_mem = \'5MB\'');
$c->sql('DELETE FROM t WHERE id <= 100');
my $in_doubt = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-q', '-d', $c->connstr, '-c',
		'BEGIN; INSERT INTO t SELECT -i, \'open\' FROM generate_series(1, 500) i; SELECT pg_sleep(600)' ],
	'<', \undef, '>', '/dev/null', '2>', '/dev/null');
PageserverTest::wait_until(sub { $c->sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND wait_event = 'PgSleep'") ne '0' }, 'the open transaction');
$c->kill9;
$in_doubt->finish;
$c = $store->start_compute('main');
ok($c->sql("SELECT nextval('s')") > $last, 'after a kill the sequence returns no value twice');
$c->sql_is('SELECT count(*), min(id) FROM t', '19900|101', 'committed rows survive a kill, those of an open transaction do not');
$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--install-missing', '--heapallindexed');

# The same directory can be used again only through pageserver_ctl, which starts afresh.
$c->stop;
my ($rc, $out) = $c->program('pg_ctl', 'start', '-w', '-D', $c->dir, '-l', $c->dir . '/log/second');
isnt($rc, 0, 'postgres refuses to start in a used compute directory');
like(PostgreSQL::Test::Utils::slurp_file($c->dir . '/log/second'), qr/start-it-with:pageserver_ctl-compute-start/, 'the refusal says how to start the compute');

# When the store restarts, nothing is lost and clients wait.
$c = $store->start_compute('main');
$c->sql('INSERT INTO t SELECT i, \'after\' FROM generate_series(30001, 31000) i');
$store->stop;
$store->start;
$c->sql_is('SELECT count(*) FROM t', '20900', 'all rows after a clean restart of the store');
$store->kill9;
$store->start;
$c->sql('INSERT INTO t VALUES (0, \'x\')');
$c->sql_is('SELECT count(*) FROM t', '20901', 'all rows after a kill of the store');
$c->kill9;
$c = $store->start_compute('main');
$c->sql_is('SELECT count(*) FROM t', '20901', 'all rows in a new compute after a kill of the store');

# export: a plain data directory
my $dir = PageserverTest::test_dir() . '/export';
$store->ctl_ok('export', 'export', 'main', '-D', $dir);
my $port = PageserverTest::free_port();
is(system(PageserverTest::bindir() . "/pg_ctl start -s -w -D $dir -l $dir.log -o '-p $port -c listen_addresses= -c unix_socket_directories=" . PageserverTest::test_dir() . "'"),
	0, 'stock PostgreSQL starts on the export');
my $exported = bless { %$c, port => $port, dir => $dir, host => PageserverTest::test_dir() }, 'PageserverTest::Compute';
$exported->sql_is('SELECT count(*) FROM t', '20901', 'the export has every row');
$exported->sql_is("SHOW shared_preload_libraries", '', 'the export does not use the extension');
$exported->program_ok('pg_amcheck of the export', 'pg_amcheck', '--all', '--heapallindexed');
is(system(PageserverTest::bindir() . "/pg_ctl stop -s -w -D $dir"), 0, 'stock PostgreSQL stops');
$c->stop;
$store->stop;
done_testing();
