# Clusters and computes with various settings. Each does the same work, with small caches and across
# changes of the compute; then all data must be unchanged, pg_amcheck must be clean, and stock programs
# must accept an export, checksums included.
#
# The test also covers settings that change from one compute to the next, commit timestamps, prepared
# transactions across several computes, and what a killed compute leaves behind.
use strict;
use warnings;
use Oracle;
use PageserverTest;
use StockServer;
use Test::More;
use TrapTest;

my $dir = PageserverTest::test_dir();
my $bindir = PageserverTest::bindir();
my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 16MB\n");

# ---- the work ----

my $work = <<'END';
CREATE TABLE w (id int PRIMARY KEY, n int, t text, big text, a int[], p point);
ALTER TABLE w ALTER big SET STORAGE EXTERNAL;
INSERT INTO w SELECT i, i % 100, md5(i::text), CASE WHEN i % 50 = 0 THEN repeat(md5(i::text), 200) END, ARRAY[i % 50, i % 77 + 100], point(i % 97, i % 89) FROM generate_series(1, 6000) i;
CREATE INDEX w_t ON w (t); CREATE INDEX w_h ON w USING hash (n); CREATE INDEX w_a ON w USING gin (a); CREATE INDEX w_g ON w USING gist (p);
CREATE INDEX w_s ON w USING spgist (t); CREATE INDEX w_b ON w USING brin (id); CREATE SEQUENCE w_seq; CREATE UNLOGGED TABLE w_u AS SELECT 1 AS i;
SELECT nextval('w_seq');
UPDATE w SET n = n + 1, big = big || 'x' WHERE id % 3 = 0; DELETE FROM w WHERE id % 7 = 0; VACUUM w;
INSERT INTO w SELECT i, 5, 'later', 'b', '{1}', '(1,1)' FROM generate_series(10001, 11000) i;
SELECT count(*) FROM w; REINDEX INDEX w_t; ALTER TABLE w ADD more int DEFAULT 3;
BEGIN; UPDATE w SET more = 4 WHERE id % 100 = 1; SAVEPOINT s; DELETE FROM w WHERE id > 10900; PREPARE TRANSACTION 'w1';
BEGIN; INSERT INTO w (id) VALUES (20000); PREPARE TRANSACTION 'w2';
CREATE DATABASE w_db; VACUUM (FREEZE) w; CLUSTER pg_class USING pg_class_oid_index;
END
my $sums = 'SELECT count(*), sum(n), sum(length(t)), sum(length(big)), sum(hashtext(w::text)::bigint), sum(more) FROM w';
# each index in turn
my $by_index = join ' ', 'SET enable_seqscan = off;', map { "SELECT count(*), sum(id) FROM w WHERE $_;" } "t = 'later'", 'n = 6', 'a @> ARRAY[1]', "p <@ box '((1,1),(9,9))'", "t ^@ 'a'", 'id BETWEEN 100 AND 300';

sub start
{
	my ($branch, $conf) = @_;
	my $c = $store->start_compute($branch, conf => $TrapTest::conf . ($conf // ''));
	return $c;
}

my $stock = StockServer->new("$dir/stock", conf => "max_prepared_transactions = 4\n");
$stock->sql($work);
my $before = $stock->sql("$sums; $by_index");
$stock->sql("COMMIT PREPARED 'w1'; ROLLBACK PREPARED 'w2'");
my $after = $stock->sql("$sums; $by_index");
$stock->stop;

my @clusters = (
	{ name => 'checksums_pglz_1MB', initdb => [ '-k', '--wal-segsize=1' ], conf => "wal_compression = pglz\n" },
	{ name => 'lz4_64MB', initdb => ['--wal-segsize=64'], conf => "wal_compression = lz4\nwal_level = logical\n" },
	{ name => 'checksums_zstd', create => ['--data-checksums'], conf => "wal_compression = zstd\ntrack_commit_timestamp = on\n", checksums => 1 },
	# Settings that the library does not allow are overridden; and the library is not confused with
	# another one that has functions of the same names.
	{ name => 'full_page_writes', create => [], conf => "full_page_writes = on\nwal_log_hints = off\nfsync = on\nshared_buffers = 128\n"
		  . "shared_preload_libraries = '$ENV{PAGESERVER_TOP}/test/modules/same_names,pageserver_smgr'\n" },
);

for my $cluster (@clusters)
{
	my $name = $cluster->{name};
	my $checksums = $name =~ /checksums/;
	if ($cluster->{initdb})
	{
		StockServer::run_program('initdb', '-D', "$dir/$name", '-U', 'postgres', '-A', 'trust', '-N', '-E', 'UTF8', '--locale=C.UTF-8', @{ $cluster->{initdb} });
		$store->ctl_ok("$name: import", 'import', '--pgdata', "$dir/$name", $name);
	}
	else
	{
		$store->ctl_ok("$name: branch create", 'branch', 'create', @{ $cluster->{create} }, $name);
	}
	my $c = start($name, $cluster->{conf});
	$c->sql("CREATE EXTENSION pg_prewarm; CREATE EXTENSION pageserver_smgr; CREATE TABLE big AS SELECT i, repeat('x', 900) pad FROM generate_series(1, 10000) i; VACUUM (FREEZE) big");
	$c->sql_is("SELECT string_agg(current_setting(s), ' ') FROM unnest(ARRAY['data_checksums', 'full_page_writes', 'wal_log_hints', 'fsync']) s",
		($checksums ? 'on' : 'off') . ' off on off', "$name: settings");
	$c->sql($work =~ s/;\n/";\nCHECKPOINT;\n" . churn()/ger);
	$c->sql_is("$sums; $by_index", $before, "$name: the data");
	if (my ($kind) = $cluster->{conf} =~ /wal_compression = (\w+)/)
	{
		# Index builds log whole pages.
		my $lsn = $c->sql('CREATE EXTENSION pg_walinspect; SELECT pg_current_wal_lsn()');
		$c->sql("CREATE INDEX big_i ON big (i)");
		like($c->sql("SELECT string_agg(block_ref, ' ') FROM (SELECT block_ref FROM pg_get_wal_records_info_till_end_of_wal('$lsn') WHERE fpi_length > 0) x"),
			qr/compression saved: \d+, method: $kind/, "$name: page images are compressed");
	}
	$c->kill9;
	$c = start($name, $cluster->{conf});
	$c->sql_is("$sums; $by_index", $before, "$name: in the next compute");
	$c->sql_is('SELECT count(*) FROM w_u', '0', "$name: unlogged tables are empty");
	$c->sql("COMMIT PREPARED 'w1'; ROLLBACK PREPARED 'w2'");
	$c->sql_is(churn() . "$sums; $by_index", $after, "$name: after its prepared transactions have ended");
	$c->sql('CREATE TABLE after_start (i int)', db => 'w_db');
	$c->program_ok("$name: pg_amcheck", 'pg_amcheck', '--all', '--install-missing', '--heapallindexed', '--parent-check');
	$c->stop;

	# what stock programs report about the export
	$store->ctl_ok("$name: export", 'export', $name, '-D', "$dir/export_$name");
	my $out = '';
	my $ok = IPC::Run::run([ "$bindir/pg_checksums", '--check', '-D', "$dir/export_$name" ], '<', \undef, '>&', \$out);
	$checksums ? ok($ok, "$name: checksums of the export") : like($out, qr/data checksums are not enabled/, "$name: no checksums");
	my $e = bless { dir => "$dir/export_$name", host => $dir, port => PageserverTest::free_port(), store => 'StockServer::NoStore' }, 'StockServer';
	PostgreSQL::Test::Utils::append_to_file("$e->{dir}/postgresql.conf", "shared_preload_libraries = ''\nfsync = off\nlisten_addresses = ''\nunix_socket_directories = '$dir'\nport = $e->{port}\nmax_prepared_transactions = 4\n");
	$e->start;
	$e->sql_is("$sums; $by_index", $after, "$name: a stock server on the export");
	$e->stop;
	oracle_ok($store, $name, name => $name, count => 1) if $cluster->{initdb};
}

# ---- other settings from one compute to the next ----

my $branch = 'checksums_zstd';
my $commit_time = "SELECT count(pg_xact_commit_timestamp(xmin)), count(*) FROM w WHERE id > 30000";
my $c = start($branch, "track_commit_timestamp = on\n");
$c->sql("INSERT INTO w (id) SELECT generate_series(30001, 30010)");
$c->sql("BEGIN; INSERT INTO w (id) VALUES (30011); SAVEPOINT s; INSERT INTO w (id) VALUES (30012); COMMIT");
$c->sql("BEGIN; INSERT INTO w (id) VALUES (30013); SAVEPOINT s; INSERT INTO w (id) VALUES (30014); PREPARE TRANSACTION 'ts'");
$c->sql("COMMIT PREPARED 'ts'");
my $times = "SELECT id, pg_xact_commit_timestamp(xmin), (pg_xact_commit_timestamp_origin(xmin)).roident FROM w WHERE id > 30000 ORDER BY id";
my $last = 'SELECT xid, timestamp, roident FROM pg_last_committed_xact()';
my ($t, $l) = ($c->sql($times), $c->sql($last));
is(scalar(grep { /\|2\d\d\d-/ } split /\n/, $t), 14, 'commit timestamps are recorded');
$c->kill9;
$c = start($branch, "track_commit_timestamp = on\nmax_connections = 2000\nmax_worker_processes = 30\nmax_locks_per_transaction = 128\nmax_prepared_transactions = 50\n");
is($c->sql($times), $t, 'commit timestamps of an older compute');
# A stock server returns the same after a restart.
$c->sql_is('SELECT xid IS NULL FROM pg_last_committed_xact()', 't', 'nothing was committed in this compute yet');
$c->sql('SHOW max_connections');
# more prepared transactions than the next computes accept by default
$c->sql("BEGIN; UPDATE w SET n = -$_ WHERE id = $_; SAVEPOINT s; INSERT INTO w (id) VALUES (40000 + $_); CREATE TABLE made$_ (i int); INSERT INTO made$_ VALUES ($_);"
	  . " PREPARE TRANSACTION 'p$_'") for 1 .. 20;
$c->stop;
$c = start($branch, "max_connections = 20\nmax_prepared_transactions = 25\nmax_worker_processes = 8\n");
my ($rc, $out, $err) = $c->psql($times);
like($err, qr/could not get commit timestamp data/, 'without track_commit_timestamp there are no commit timestamps');
$c->sql('INSERT INTO w (id) VALUES (50001)');
$c->sql_is('SELECT count(*) FROM pg_prepared_xacts', '20', 'all prepared transactions survive');
$c->kill9;
my ($fails, $o, $e) = $store->start_compute($branch, name => 'toofew', conf => $TrapTest::conf . "max_prepared_transactions = 5\n", ok => 0);
isnt($fails, 0, 'a compute with too small max_prepared_transactions does not start');
my $log = PostgreSQL::Test::Utils::slurp_file("$dir/main_toofew/log/postgres.log");
like($log, qr/maximum number of prepared transactions reached/, 'the log says why the compute does not start');
$c = start($branch, "track_commit_timestamp = on\nmax_prepared_transactions = 30\n");
for my $i (1, 10, 20)
{
	($rc, $out, $err) = $c->psql("SET lock_timeout = '50ms'; UPDATE w SET n = 0 WHERE id = $i");
	like($err, qr/lock timeout/, "the row lock of p$i is held after three changes of the compute");
}
$c->sql(($_ % 2 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'p$_'") for 1 .. 20;
$c->sql_is('SELECT count(*), sum(n) FROM w WHERE n < 0', '9|-93', 'each prepared transaction is committed or rolled back');
$c->sql_is("SELECT count(*) FROM w WHERE id BETWEEN 40001 AND 40020", '10', 'subtransactions of the prepared transactions have the same outcome');
$c->sql_is("SELECT count(*) FROM pg_class WHERE relname ~ '^made\\d+\$'", '10', 'the tables of the committed transactions exist');
$c->sql_is("SELECT * FROM made$_", $_, "made$_") for 1, 19;
# commit timestamps start again
($rc, $out, $err) = $c->psql("SELECT pg_xact_commit_timestamp(xmin) FROM w WHERE id = 50001");
is($out, '', 'no commit timestamps from before track_commit_timestamp was switched on again');
# nor of transactions that began before
my $now = 'SELECT id, pg_xact_commit_timestamp(xmin) FROM w WHERE id IN (40001, 50001, 50002) ORDER BY id';
$c->sql('INSERT INTO w (id) VALUES (50002)');
my $times_now = $c->sql($now);
like($times_now, qr/^40001\|\n50001\|\n50002\|2\d\d\d-/, 'a new transaction has a commit timestamp');
$c->kill9;
$c = start($branch, "track_commit_timestamp = on\nmax_prepared_transactions = 30\n");
$c->sql_is($now, $times_now, 'the next compute has the new commit timestamp');

# ---- a parallel worker that reads its first page from the store while it takes over the settings of its leader ----
# All settings are reset then, .store included, and default_tablespace is checked, for which pg_tablespace
# must be read.
$c->stop;
$c = $store->start_compute($branch, conf => "max_prepared_transactions = 30\nautovacuum = off\n");
my $parallel = "SET statement_timeout = '20s'; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;\n"
  . 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT count(pad) FROM big';
$c->sql($parallel) for 1, 2;
PostgreSQL::Test::Utils::append_to_file("$c->{dir}/postgresql.conf", "default_tablespace = 'pg_default'\n");
$c->sql('SELECT pg_reload_conf()');
wait_for('the new setting', sub { $c->sql('SHOW default_tablespace') eq 'pg_default' });
($rc, $out, $err) = $c->psql($parallel);
is($err, '', 'no error from a parallel query whose workers begin with a request to the store');
like($out, qr/Workers Launched: [1-9]/, 'the parallel query had workers');
$c->stop;
$c = start($branch, "track_commit_timestamp = on\nmax_prepared_transactions = 30\n");

# ---- temporary files ----
$c->sql('SET work_mem = 64; SELECT count(*) FROM (SELECT a.id FROM w a JOIN w b ON a.t = b.t ORDER BY a.t) x');
my $s = session($c);
my $sorting = $s->ask('SELECT pg_backend_pid()');
$s->send('SET work_mem = 64; SELECT a.pad FROM big a, big b ORDER BY 1');
my $temp = sub { my @files = glob "$c->{dir}/base/pgsql_tmp/*"; return scalar @files };
wait_for('temporary files', sub { $temp->() > 0 });
# Stopped, so that it cannot notice the end of the postmaster and remove the files before it is killed
# itself.
stop_process($sorting);
my $killed = $c->{dir};
my $port = PageserverTest::free_port();
$c->kill9;
cmp_ok($temp->(), '>', 0, 'a killed compute leaves temporary files');
$store->ctl_ok('the compute is started again in its directory', 'compute', 'start', $branch, '-D', $killed, '-p', $port, '-o', "-c unix_socket_directories=$dir");
$c->{port} = $port;
$c->{pid} = (split /\n/, PostgreSQL::Test::Utils::slurp_file("$killed/postmaster.pid"))[0];
is($temp->(), 0, 'the temporary files are removed');
$c->sql_is('SELECT count(*) FROM w WHERE id > 30000', '26', 'the rows survive');
$c->stop;
$store->stop;
done_testing();
