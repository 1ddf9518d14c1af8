# Space for WAL, and a process that sends it. Pages that are merely cached occupy no disk space that WAL
# needs. The WAL worker runs whatever max_worker_processes is, and keeps its connection whatever
# wal_sender_timeout is.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use Time::HiRes qw(usleep);

my $small = "$ENV{TESTDATADIR}/small_compute";
# test/run-tap mounts a tmpfs there
die "\"$small\" is no small file system: run the tests through test/run-tap as root or with sudo\n"
  unless -d $small && `stat -f -c %T $small` =~ /tmpfs/;

sub free_mb
{
	return int(`stat -f -c '%a' $small` * `stat -f -c '%S' $small` / 1048576);
}

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch', 'branch', 'create', 'main');

# ---- max_worker_processes, wal_sender_timeout ----
for my $workers (0, 1)
{
	my $c = $store->start_compute('main', name => "workers$workers", conf => "max_worker_processes = $workers\nwal_sender_timeout = 1000\n");
	$c->sql_is("CREATE TABLE w$workers (i int); SELECT 'committed'", 'committed', "a commit succeeds with max_worker_processes = $workers");
	# several times as long as the timeout, without anything to send
	usleep(3_500_000) if $workers == 1;
	unlike($c->log_content, qr/no message from the page store/, 'a worker with nothing to do keeps its connection');
	$c->stop;
}

# ---- a disk of 400 MB, of which 130 MB are free ----
my $c = $store->start_compute('main', name => 'first');
$c->sql("CREATE TABLE a AS SELECT i, repeat(md5(i::text), 30) pad FROM generate_series(1, 120000) i; CREATE TABLE b (i int, pad text); CREATE EXTENSION pageserver_smgr");
cmp_ok($c->sql("SELECT pg_relation_size('a') / 1048576"), '>', 110, 'a large table');
$c->stop;
symlink("$small/compute", PageserverTest::test_dir() . '/main_small') or die $!;
mkdir "$small/compute" or die $!;
chmod 0700, "$small/compute";
$c = $store->start_compute('main', name => 'small', conf => "shared_buffers = 16MB\nmax_wal_size = 2GB\nmax_parallel_workers_per_gather = 0\nwal_recycle = off\n");
my $filler = free_mb() - 130;
is(system("dd if=/dev/zero of=$small/filler bs=1M count=$filler 2>/dev/null"), 0, 'the disk is filled');
$c->sql('SELECT count(*) FROM a');
cmp_ok(free_mb(), '>=', 45, 'a sequential scan leaves space for WAL');
$c->sql_is('SELECT count(*) FROM a', '120000', 'a second sequential scan reads all rows');
$c->sql("INSERT INTO b SELECT i, repeat('x', 1000) FROM generate_series(1, 75000) i");
$c->sql_is('SELECT count(*) FROM b', '75000', 'WAL gets the space of the cache');
# WAL of pages that stay in shared buffers: only the worker can notice that it is written.
$c->sql("SELECT count(pg_logical_emit_message(false, 'x', repeat('y', 4000))) FROM generate_series(1, 3500)");
$c->sql('SELECT count(*) FROM a');
cmp_ok(free_mb(), '<', 60, 'the disk is nearly full');
unlike($c->log_content, qr/No space left|PANIC/, 'nothing ran out of space');
unlink "$small/filler";
my $used = 'SELECT used / 1048576 FROM pageserver_smgr_cache';
$c->sql('SELECT count(*) FROM a');
cmp_ok($c->sql($used), '>', 100, 'more is cached when there is more space');
$c->stop;
$store->stop;
done_testing();
