# After a crash, a compute is started again by its supervisor: the one that "compute start" leaves behind,
# or "compute run". A compute that was stopped, or whose branch another compute has taken over, is not
# started again.
use strict;
use warnings;
use IO::Socket::UNIX;
use PageserverTest;
use POSIX ();
use Socket qw(SOCK_DGRAM);
use Test::More;
use Time::HiRes qw(usleep);

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $dir = PageserverTest::test_dir();
my $pg_bin = PageserverTest::bindir();
my $c = $store->start_compute('main', name => 'c');
$c->sql("CREATE TABLE t AS SELECT 1 i; ALTER SYSTEM SET work_mem = '7MB'");
my $supervisor_file = "$c->{dir}/pageserver_ctl.pid";

sub supervisor
{
	return -s $supervisor_file ? (split /\n/, PostgreSQL::Test::Utils::slurp_file($supervisor_file))[0] : undef;
}

# Kills a busy backend, as the kernel does when memory is short; returns when the postmaster has ended.
sub crash
{
	my ($compute) = @_;
	my $session = IPC::Run::start([ "$pg_bin/psql", '-X', '-d', $compute->connstr, '-c', 'SELECT pg_sleep(600)' ], '<', \undef, '>', '/dev/null', '2>', '/dev/null');
	my $pid;
	PageserverTest::wait_until(sub { $pid = $compute->sql("SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") }, 'a backend at work');
	$compute->{shared_memory}->note($compute->processes) if $compute->{shared_memory};
	kill 'KILL', $pid;
	PageserverTest::wait_gone($compute->{pid});
	$session->finish;
}

# Waits until the compute accepts connections, as another process.
sub is_back
{
	my ($compute, $what) = @_;
	my $old = $compute->{pid};
	my $file = "$compute->{dir}/postmaster.pid";
	PageserverTest::wait_until(sub { -e $file && PostgreSQL::Test::Utils::slurp_file($file) =~ /^(\d+)\n.*\nready *\n/s && $1 != $old && ($compute->{pid} = $1) }, $what);
	$compute->sql_is("SELECT count(*), current_setting('work_mem') FROM t", '1|7MB', "$what: it runs again, with the settings");
}

# ---- compute start ----
for my $n (1 .. 2)
{
	crash($c);
	is_back($c, "crash $n");
}
like($c->log_content, qr/pageserver_ctl: error: the compute in "\Q$c->{dir}\E" has ended: .*exit code 1/, 'the log says why it was started again');
is(($store->ctl('compute', 'status', '-D', $c->{dir}))[0], 0, 'status');

# A compute that was stopped, by any means, stays stopped.
my $supervisor = supervisor();
$c->stop;
PageserverTest::wait_gone($supervisor);
ok(!-e $supervisor_file && !-e "$c->{dir}/postmaster.pid", 'nothing runs after a stop');
$c = $store->start_compute('main', name => 'c', port => $c->{port});
$supervisor = supervisor();
system("$pg_bin/pg_ctl", 'stop', '-s', '-D', $c->{dir}) if $> != 0;
system('setpriv', '--reuid', 'postgres', '--regid', 'postgres', '--init-groups', "$pg_bin/pg_ctl", 'stop', '-s', '-D', $c->{dir}) if $> == 0;
PageserverTest::wait_gone($supervisor);
ok(!-e "$c->{dir}/postmaster.pid", 'nothing runs after pg_ctl stop');
$c = $store->start_compute('main', name => 'c', port => $c->{port});
$supervisor = supervisor();
$c->kill9;
PageserverTest::wait_gone($supervisor);
ok(!-e $supervisor_file, 'the supervisor ends when the postmaster was killed');

# The owner has switched restarts off.
$c = $store->start_compute('main', name => 'c', port => $c->{port}, conf => "restart_after_crash = off\n");
$supervisor = supervisor();
crash($c);
PageserverTest::wait_gone($supervisor);
is(($store->ctl('compute', 'status', '-D', $c->{dir}))[0], 3, 'the compute is not started again with restart_after_crash = off');

# The store is down: the start is tried again and again, until it succeeds or the compute is stopped.
$c = $store->start_compute('main', name => 'c', port => $c->{port});
$store->stop;
crash_without_store($c);
like(($store->ctl('compute', 'status', '-D', $c->{dir}))[1], qr/is not running, but is being restarted/, 'status while the compute is being started again');
$store->start;
is_back($c, 'the store was down');
$store->stop;
crash_without_store($c);
$supervisor = supervisor();
$store->ctl_ok('stop of a compute that is being started again', 'compute', 'stop', '-D', $c->{dir});
PageserverTest::wait_gone($supervisor);
$store->start;

sub crash_without_store
{
	my ($compute) = @_;
	my @children = $compute->processes;
	shift @children;
	$compute->{shared_memory}->note($compute->{pid}, @children);
	kill 'KILL', $children[0];
	PageserverTest::wait_gone($compute->{pid});
	PageserverTest::wait_until(sub { $compute->log_content =~ /store .* is not running/ }, 'a start that fails');
	unlink "$compute->{dir}/log/postgres.log";
}

# a compute with WAL that the store can no longer get
$c = $store->start_compute('main', name => 'c', port => $c->{port});
$c->{shared_memory}->note($c->processes);
my $write = "INSERT INTO t VALUES (2); DELETE FROM t WHERE i = 2; SELECT pg_switch_wal();\n";
my $script = "$dir/lost.sql";
PostgreSQL::Test::Utils::append_to_file($script, "SET synchronous_commit = off;\n$write"
	. "\\! touch $dir/warm; while [ ! -e $dir/cold ]; do sleep 0.02; done\n${write}INSERT INTO t VALUES (3);\n");
my $writer = IPC::Run::start([ "$pg_bin/psql", '-X', '-q', '-d', $c->connstr, '-f', $script ], '<', \undef, '>', '/dev/null');
PageserverTest::wait_until(sub { -e "$dir/warm" }, 'a session that no longer needs the store');
$store->stop;
PostgreSQL::Test::Utils::append_to_file("$dir/cold", '');
$writer->finish;
is($writer->result(0), 0, 'the compute has WAL that the store does not have');
my ($segment) = reverse sort grep { /\/[0-9A-F]{24}$/ } glob "$c->{dir}/pg_wal/*";
unlink $segment or die "$segment: $!";
$store->start;
is_back($c, 'some of its WAL is missing');
$c->sql_is('SELECT i FROM t', '1', 'it starts with the WAL that the store has');
$c->stop;

# If another compute was started meanwhile, this one is not started again.
$c = $store->start_compute('main', name => 'c', port => $c->{port});
$supervisor = supervisor();
kill 'STOP', $supervisor;
my @children = $c->processes;
kill 'KILL', $children[1];
PageserverTest::wait_until(sub { !-e "$c->{dir}/postmaster.pid" }, 'the end of the compute');
my $d = $store->start_compute('main', name => 'd');
kill 'CONT', $supervisor;
PageserverTest::wait_gone($supervisor);
$d->sql_is('SELECT i FROM t', 1, 'a compute that was started after the crash continues');
like($c->log_content, qr/was taken over: a compute of generation \d+ \(\S+_d\) was started/, 'the log of the first compute says why it was not started again');
ok(!-e "$c->{dir}/postmaster.pid", 'the first compute was not started again');
$d->stop;
delete $c->{pid};

# ---- compute run ----
my $notified = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dir/notify") or die "$dir/notify: $!";
$notified->blocking(0);
chmod 0777, "$dir/notify";
my $told = '';

sub was_told
{
	my ($what) = @_;
	PageserverTest::wait_until(sub {
			my $text;
			$told .= "$text\n" while defined recv $notified, $text, 1000, 0;
			return $told =~ /$what/;
	}, "the service manager is told $what");
	$told = '';
	pass("the service manager is told $what");
}

# Starts it in the foreground; returns the compute, with its handle.
sub run_compute
{
	my ($compute, @args) = @_;
	local $ENV{NOTIFY_SOCKET} = "$dir/notify";
	local $ENV{PAGESERVER_STORE} = $store->dir;
	$compute->{run} = IPC::Run::start([ "$pg_bin/pageserver_ctl", 'compute', 'run', 'main', '-D', $compute->{dir}, '-p', $compute->{port},
			'-o', "-c unix_socket_directories=$dir -c listen_addresses=", @args ], '<', \undef, '>', "$dir/run.out", '2>', "$dir/run.err");
	was_told('READY=1');
	$compute->{pid} = (split /\n/, PostgreSQL::Test::Utils::slurp_file("$compute->{dir}/postmaster.pid"))[0];
	$compute->{run_pid} = $compute->{run}{KIDS}[0]{PID};
}

# Returns its exit code.
sub end_of_run
{
	my ($compute) = @_;
	$compute->{run}->finish;
	return $compute->{run}->result(0);
}

my $r = bless { store => $store, branch => 'main', dir => $c->{dir}, port => $c->{port}, host => $dir, shared_memory => $c->{shared_memory} }, 'PageserverTest::Compute';
push @{ $store->{computes} }, $r;
run_compute($r);
$r->sql_is('SELECT i FROM t', 1, 'compute run');
PostgreSQL::Test::Utils::append_to_file("$r->{dir}/postgresql.auto.conf", "log_min_duration_statement = 4321\n");
kill 'HUP', $r->{run_pid};
PageserverTest::wait_until(sub { $r->sql('SHOW log_min_duration_statement') eq '4321ms' }, 'SIGHUP');
crash($r);
is_back($r, 'run: a crash');
was_told('READY=1');
$r->sql('SELECT pg_stat_reset()');
my @all = $r->processes;
$r->{shared_memory}->note(@all);
kill 'KILL', $r->{pid};
is_back($r, 'run: the postmaster is killed');
my $started = $r->{pid};
kill 'INT', $r->{run_pid};
is(end_of_run($r), 0, 'run: SIGINT, exit code');
PageserverTest::wait_gone($started);
like($r->log_content, qr/received fast shutdown request/, 'run: SIGINT is a fast shutdown');
was_told('STOPPING=1');

run_compute($r);
my $session = IPC::Run::start([ "$pg_bin/psql", '-X', '-d', $r->connstr, '-c', 'SELECT pg_sleep(2)' ], '<', \undef, '>', "$dir/session.out");
PageserverTest::wait_until(sub { $r->sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(2)'") }, 'a session');
kill 'TERM', $r->{run_pid};
is(end_of_run($r), 0, 'run: SIGTERM, exit code');
$session->finish;
is($session->result(0), 0, 'run: SIGTERM waits for the session');

run_compute($r);
my $other = $store->start_compute('main', name => 'other', args => ['--takeover']);
is(end_of_run($r), 0, 'run: exit code when another compute takes over');
$other->sql_is('SELECT i FROM t', 1, 'run: the compute that took over works');
$other->stop;
delete $r->{pid};

my ($rc, $out, $err) = $store->ctl('compute', 'run', 'main', '-D', $r->{dir}, '-o', '-c nosuch=1');
is($rc, 1, 'run: exit code when PostgreSQL rejects a setting');
like($err, qr/unrecognized configuration parameter "nosuch"/, 'run: the error names the setting');
$store->stop;
done_testing();
