# The store's disk is full. Writes wait, reads continue, the log says why, and everything works again when
# there is space. Acknowledged rows survive a kill of the store on a full disk.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $small = "$ENV{TESTDATADIR}/small";
# test/run-tap mounts a tmpfs there
die "\"$small\" is no small file system: run the tests through test/run-tap as root or with sudo\n"
  unless -d $small && `stat -f -c %T $small` =~ /tmpfs/;

my $store = PageserverTest->new_store('small', dir => "$small/store", start => 0, conf => "min_free_space = 40MB\ncheckpoint_distance = 16MB\n");
$store->{log} = PageserverTest::test_dir() . '/store.log';
$store->start;
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "shared_buffers = 1MB\npageserver_smgr.cache_size = 1MB\npageserver_smgr.cache_limit = 256MB\n");
$c->sql("CREATE TABLE t AS SELECT i, repeat('x', 500) pad FROM generate_series(1, 10000) i");

is(system("dd if=/dev/zero of=$small/filler bs=1M count=1000 2>/dev/null") >> 8, 1, 'the disk is filled');
my $insert = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-q', '-d', $c->connstr, '-c', "INSERT INTO t SELECT i, 'later' FROM generate_series(10001, 10100) i" ], '<', \undef, '>', '/dev/null');
PageserverTest::wait_until(sub { $c->sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") ne '0' }, 'a commit that waits');
pass('a commit waits');
$c->sql_is('SELECT count(*), sum(length(pad)) FROM t WHERE i <= 10000', '10000|5000000', 'reads continue');
like($store->log_content, qr/free in/, 'the log of the store says why');
is($c->sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), '1', 'the commit still waits');
unlink "$small/filler";
$insert->finish;
is($insert->result(0), 0, 'the commit succeeds when there is space');
$c->sql_is('SELECT count(*) FROM t', '10100', 'no row is missing');

# The disk becomes full while the store flushes, and the store is killed; a redo helper needs space for a
# lock file.
system("dd if=/dev/zero of=$small/filler bs=1M count=1000 2>/dev/null");
truncate("$small/filler", (-s "$small/filler") - 4 * 1024 * 1024);
$store->kill9;
$store->start;
$c->sql_is('SELECT count(*) FROM t', '10100', 'a store that starts on a full disk serves reads');
unlink "$small/filler";
$c->sql("UPDATE t SET pad = pad || 'y'");
$c->kill9;
$c = $store->start_compute('main', name => 'second');
$c->sql_is('SELECT count(*), sum(length(pad)) FROM t', '10100|5010600', 'no acknowledged row is lost');
$c->stop;
$store->stop;
done_testing();
