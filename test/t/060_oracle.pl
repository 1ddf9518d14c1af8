# A script with a lot of DDL prints what it prints on a stock server, and leaves the same data. Then the
# oracle compares the result of replaying the store's own WAL on a stock server with what the store
# exports, at LSNs within that WAL and at its end.
#
# Other tests end with the same comparison, after the compute was stopped or killed:
#	use Oracle;
#	oracle_ok($store, 'main', lsns => [ ... ], count => 2);
# lsns: LSNs of interest, from pg_current_wal_insert_lsn(). test/lib/Oracle.pm has the details.
use strict;
use warnings;
use Oracle;
use PageserverTest;
use PostgreSQL::Test::RecursiveCopy;
use Test::More;

my $dir = PageserverTest::test_dir();
my $bindir = PageserverTest::bindir();
my $conf = "max_prepared_transactions = 10\nshared_buffers = 4MB\npageserver_smgr.cache_size = 8MB\ntrack_commit_timestamp = on\n";
my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 32MB\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
$store->ctl_ok('export of the beginning', 'export', 'main', '-D', "$dir/start");

# ---- the same script on a stock server and on a compute ----
sub script
{
	my ($host, $port, $file, $out) = @_;
	local $ENV{PGOPTIONS} = '-c intervalstyle=postgres';
	system("$bindir/psql -a -X -U postgres -h $host -p $port -d postgres -f $ENV{PAGESERVER_TOP}/test/sql/$file > $out 2>&1");
	return PostgreSQL::Test::Utils::slurp_file($out);
}

PostgreSQL::Test::RecursiveCopy::copypath("$dir/start", "$dir/stock");
chmod 0700, "$dir/stock";
my $stock_port = PageserverTest::free_port();
is(system("$bindir/pg_ctl start -s -w -D $dir/stock -l $dir/stock.log -o '-p $stock_port -c listen_addresses= -c unix_socket_directories=$dir -c max_prepared_transactions=10 -c track_commit_timestamp=on'"), 0, 'stock server starts');
my $stock_out = script($dir, $stock_port, 'ddl.sql', "$dir/ddl.stock");
my $stock_check = script($dir, $stock_port, 'ddl_check.sql', "$dir/check.stock");
system("$bindir/pg_ctl stop -s -w -m fast -D $dir/stock");

my $c = $store->start_compute('main', conf => $conf);
my $out = script($dir, $c->port, 'ddl.sql', "$dir/ddl.compute");
ok($out eq $stock_out, 'the script prints the same as on a stock server') or diag(`diff $dir/ddl.stock $dir/ddl.compute | head -60`);
ok(script($dir, $c->port, 'ddl_check.sql', "$dir/check.compute") eq $stock_check, 'the script leaves the same data as on a stock server') or diag(`diff $dir/check.stock $dir/check.compute | head -60`);
$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--install-missing', '--heapallindexed');
$c->kill9;
$c = $store->start_compute('main', conf => $conf);
ok(script($dir, $c->port, 'ddl_check.sql', "$dir/check.second") eq $stock_check, 'the next compute has the same data') or diag(`diff $dir/check.stock $dir/check.second | head -60`);
$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--heapallindexed');

# ---- the oracle ----
$c->program_ok('pgbench -i', 'pgbench', '-i', '-q', '-s', 2, 'postgres');
$c->program_ok('pgbench', 'pgbench', '-c', 4, '-T', 5, '-n', 'postgres');
$c->sql("BEGIN; INSERT INTO audit VALUES ('left prepared', 1); PREPARE TRANSACTION 'left'");
$c->sql('CREATE TABLE mx (i int PRIMARY KEY); INSERT INTO mx SELECT generate_series(1, 3000)');
my @lockers = map {
	IPC::Run::start([ "$bindir/psql", '-X', '-q', '-d', $c->connstr, '-c', "BEGIN; SELECT count(*) FROM (SELECT 1 FROM mx FOR KEY SHARE) x; SELECT pg_sleep(1); COMMIT" ], '<', \undef, '>', '/dev/null')
} 1 .. 3;
$_->finish for @lockers;
my $last_check = script($dir, $c->port, 'ddl_check.sql', "$dir/check.last");
$c->kill9;
oracle_ok($store, 'main', count => 4);
$store->ctl_ok('export of the end', 'export', 'main', '-D', "$dir/end");

# the export is a working cluster
my $port = PageserverTest::free_port();
is(system("$bindir/pg_ctl start -s -w -D $dir/end -l $dir/end.log -o '-p $port -c listen_addresses= -c unix_socket_directories=$dir -c max_prepared_transactions=10'"), 0, 'stock PostgreSQL starts on the export');
ok(script($dir, $port, 'ddl_check.sql', "$dir/check.export") eq $last_check, 'the export has the data of the last compute') or diag(`diff $dir/check.last $dir/check.export | head -60`);
system("$bindir/pg_ctl stop -s -w -m fast -D $dir/end");
$store->stop;
done_testing();
