# Every wait for the store can be interrupted, and a store that comes back is used again.
#
# Each kind of wait (src/compute/README.md lists them) is tested with a store that is stopped (the kernel
# accepts requests, nobody answers), killed (connections are refused) and silent (connections are
# accepted, then nothing is sent). Cancel, statement_timeout and pg_terminate_backend() end the wait
# within a second, lock_timeout does not, and the same statement works when the store is back.
use strict;
use warnings;
use PageserverTest;
use TrapTest;
use Test::More;
use IO::Socket::UNIX;
use Time::HiRes qw(time usleep);

my $conf = "autovacuum = off\nmax_parallel_workers_per_gather = 0\njit = off\nwal_writer_delay = 10000\n"
  . "pageserver_smgr.connect_retry_max_delay = 500\npageserver_smgr.shutdown_timeout = 2s\nshared_buffers = 16MB\n";
my $probe = "$ENV{PAGESERVER_TOP}/test/modules/wait_probe.so";
my $space = PageserverTest::test_dir() . '/space';
mkdir $space;
my $store = PageserverTest->new_store('main', conf => "wait_timeout = 1s\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => $conf);
$c->sql("CREATE TABLE r$_ AS SELECT i, repeat('x', 500) pad FROM generate_series(1, 5000) i; VACUUM (FREEZE) r$_") for 0 .. 20;
# (table big is for stop_wal())
$c->sql("CREATE EXTENSION pageserver_smgr; CREATE EXTENSION pg_prewarm; CREATE TABLE big (i int); VACUUM (FREEZE) big");
$c->sql("CREATE FUNCTION wait_probe(regclass, bigint, text) RETURNS boolean AS '$probe' LANGUAGE C STRICT");
$c->sql("CREATE FUNCTION start_deaf_worker(regclass, text) RETURNS void AS '$probe' LANGUAGE C STRICT");
$c->sql('CREATE TABLE w (i int, pad text); ALTER TABLE w ALTER pad SET STORAGE PLAIN');
$c->sql('CREATE DATABASE other');
$c->sql("CREATE TABLESPACE s$_ LOCATION '$space/$_'") for grep { mkdir "$space/$_" } 0 .. 1;

# The next compute has no page of r1 to r20, and does not know their sizes; the catalog pages that the
# statements need are read while the store answers.
$c->stop;
$c = $store->start_compute('main', conf => $conf);
my $observer = session($c);

# A session that has read all catalog pages for the statements below.
sub warm_session
{
	my $s = session($c);
	$s->ask("BEGIN; LOCK TABLE r$_ IN ACCESS SHARE MODE; COMMIT") for 1 .. 20;
	$s->ask('EXPLAIN SELECT count(*) FROM r1; EXPLAIN SELECT * FROM r3');
	$s->ask('SELECT count(*) FROM r0; SELECT count(*) FROM r0 WHERE i < 0; BEGIN; DECLARE c CURSOR FOR SELECT * FROM r0; FETCH 3 FROM c; MOVE ALL IN c; COMMIT');
	$s->ask("SELECT wait_probe('r0', 3, 'locked'), wait_probe('r4', 0, 'locked'); SELECT count(*) FROM pg_tablespace_databases(1663)");
	$s->ask("BEGIN; CREATE TABLE n (i int); ROLLBACK; ALTER DATABASE other SET TABLESPACE pg_default");
	$s->ask("SET lock_timeout = '100ms'");
	$s->errors;
	return $s;
}

# The wait event of a backend.
sub waits_for
{
	my ($pid) = @_;
	return $observer->ask("SELECT wait_event FROM pg_stat_get_activity($pid)");
}

sub wait_in_store
{
	my ($pid, $event, $what) = @_;
	# not just for an answer that arrives at once
	wait_for("$what: the wait", sub { return 0 for grep { usleep(10_000); waits_for($pid) !~ /^$event$/ } 1 .. 5; 1 });
}

$observer->ask("SELECT wait_event FROM pg_stat_get_activity(1); SELECT pg_cancel_backend(1), pg_terminate_backend(1)");
$observer->ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'");
$observer->errors;

my @kinds = (
	[ 'the size of a relation' => 'SELECT count(*) FROM r2', qr/^5000$/m ],
	[ 'a page' => 'SELECT count(*) FROM r1', qr/^5000$/m ],
	[ 'a page asked for ahead' => "BEGIN; DECLARE c CURSOR FOR SELECT * FROM r3; FETCH 1 FROM c; MOVE ALL IN c", qr/\|xxx/, 'ROLLBACK' ],
	[ 'a page, with a content lock held' => "SELECT wait_probe('r4', 7, 'locked')", qr/^[tf]$/m ],
	[ 'the databases of a tablespace' => "SELECT count(*) FROM pg_tablespace_databases(1663)", qr/^\d+$/m ],
	[ 'a free file number' => 'BEGIN; CREATE TABLE n (i int)', qr//, 'ROLLBACK' ],
	[ 'the contents of a tablespace (ALTER DATABASE)' => 'ALTER DATABASE other SET TABLESPACE s1', qr// ],
	[ 'a parallel scan' => 'SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; '
		  . 'SET min_parallel_table_scan_size = 0; SELECT count(*) FROM r5', qr/^5000$/m, 'RESET max_parallel_workers_per_gather' ],
);

# Makes one statement of a kind wait for the store, and interrupts it.
sub interrupted
{
	my ($s, $kind, $state, $interrupt) = @_;
	my ($name, $sql, undef, $after) = @$kind;
	my $what = "$name, store $state, $interrupt";
	my $t0;

	if ($interrupt eq 'statement_timeout')
	{
		$s->ask("SET statement_timeout = '300ms'");
		$t0 = time + 0.3;
		$s->send($sql);
	}
	else
	{
		$s->send($sql);
		# after statements that take no time
		wait_in_store($s->{pid}, 'DataFileRead|ExecuteGather|BgWorkerShutdown', $what);
		$t0 = time;
		my $function = $interrupt eq 'cancel' ? 'pg_cancel_backend' : 'pg_terminate_backend';
		$observer->ask("SELECT $function($s->{pid})");
	}
	if ($interrupt eq 'terminate')
	{
		wait_for("$what: end", sub { $observer->ask("SELECT count(*) FROM pg_stat_get_activity($s->{pid})") eq '0' });
		cmp_ok(time - $t0, '<', 1.5, "$what: the backend ends in time");
		return;
	}
	$s->result;
	my $took = time - $t0;
	my $err = $s->errors;
	my $reason = $interrupt eq 'cancel' ? 'user request' : 'statement timeout';
	like($err, qr/^[^\n]*canceling statement due to $reason/, "$what: the statement ends");
	cmp_ok($took, '<', 1.5, sprintf('%s: in time (%.2f s)', $what, $took));
	$s->ask($after) if $after;
	$s->ask('SET statement_timeout = 0');
	$s->errors;
}

my $s = warm_session();
my @to_terminate = map { warm_session() } @kinds;
my $listener;

for my $state (qw(stopped killed mute))
{
	if ($state eq 'stopped')
	{
		stop_process($store->{pid});
	}
	elsif ($state eq 'killed')
	{
		$store->kill9;
		unlink "$store->{dir}/.s.PGSQL.$store->{port}";
	}
	else
	{
		$listener = IO::Socket::UNIX->new(Local => "$store->{dir}/.s.PGSQL.$store->{port}", Listen => 100) or die "listen: $!";
		# Nobody is to be left with a refused connection.
		$s->send($kinds[1][1]);
		wait_for('a connection to the mute store', sub { my $r = ''; vec($r, fileno $listener, 1) = 1; select($r, undef, undef, 0) });
		$observer->ask("SELECT pg_cancel_backend($s->{pid})");
		$s->result;
		$s->errors;
	}
	for my $kind (@kinds)
	{
		interrupted($s, $kind, $state, 'cancel');
		interrupted($s, $kind, $state, 'statement_timeout');
	}
	is($observer->ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'"), '0', "store $state: no parallel worker is left waiting");
	if ($state eq 'stopped')
	{
		interrupted($to_terminate[$_], $kinds[$_], $state, 'terminate') for 0 .. $#kinds;
		# None of this needs the store.
		$s->ask('CHECKPOINT');
		is($s->errors, '', "store $state: a checkpoint does not wait for the store");
		$s->send('SELECT count(*) FROM r19');
		wait_in_store($s->{pid}, 'DataFileRead', 'lock_timeout');
		usleep(200_000);
		go_on_process($store->{pid});
		is($s->result, '5000', 'lock_timeout does not end a wait for the store');
		is($s->errors, '', 'the statement that waited longer than lock_timeout had no error');
	}
}

# A statement that waits for a connection gets it, even if the store was unreachable in both ways.
$s->send($kinds[1][1]);
wait_in_store($s->{pid}, 'DataFileRead', 'mute store');
close $listener;
$store->start;
my $t0 = time;
like($s->result, $kinds[1][2], 'a statement continues when the store is back');
cmp_ok(time - $t0, '<', 30, 'it does so before response_timeout');
for my $kind (@kinds)
{
	my ($name, $sql, $right, $after) = @$kind;
	like($s->ask($sql), $right, "$name: the right answer when the store is back");
	is($s->errors, '', "$name: no error when the store is back");
	$s->ask($after) if $after;
}

# A wait within the store, for WAL that does not arrive: after wait_timeout the store answers that it must
# be asked again, which clients do not notice.
$s->ask('INSERT INTO w SELECT 1 FROM generate_series(1, 10); SELECT count(*) FROM w');
# More than shared buffers can hold, all of it in the page cache, so that it evicts the page without a
# request to the store.
my $push_out = join('; ', map { "SELECT count(*) FROM r$_" } 10 .. 18);
$s->ask($push_out);
stop_wal($observer);
$s->ask("SET synchronous_commit = local; UPDATE r6 SET pad = 'y' WHERE i = 1");
$s->ask("$push_out; SELECT pageserver_smgr_clear_cache()");
interrupted($s, [ 'a page that the store does not have yet' => 'SELECT pad FROM r6 WHERE i = 1' ], 'without WAL', $_) for qw(cancel statement_timeout);
$s->send('SELECT pad FROM r6 WHERE i = 1');
my $log_before = length $c->log_content;
wait_for('the store to give up waiting', sub { substr($c->log_content, $log_before) =~ /after waiting 1000 ms/ });
ok(!$s->done, 'the client continues to wait when the store has waited for wait_timeout');
go_on_wal();
is($s->result, 'y', 'the client gets the page in the end');
is($s->errors, '', 'the client gets no error');
$s->ask('RESET synchronous_commit');

# In a critical section, an error would be a PANIC, so a cancel waits.
$s->ask("EXPLAIN SELECT count(*) FROM r7; SELECT wait_probe('r7', 0, 'latch')");
stop_process($store->{pid});
$s->send("SELECT wait_probe('r7', 9, 'critical')");
wait_in_store($s->{pid}, 'DataFileRead', 'critical section');
$observer->ask("SELECT pg_cancel_backend($s->{pid})");
usleep(300_000);
ok(!$s->done, 'a cancel does not end a wait in a critical section');
go_on_process($store->{pid});
$s->result;
unlike($s->errors, qr/PANIC|terminat/, 'a cancel in a critical section does not end the server');
is($s->ask('SELECT 1'), '1', 'the session survives');

# The latch may belong to a wait of the caller: it is set again if it was set while the process waited for
# an answer or a connection.
$s->ask("SELECT wait_probe('r8', 0, 'latch'), wait_probe('r9', 0, 'latch')");
$s->errors;
stop_process($store->{pid});
$s->send("SELECT wait_probe('r8', 9, 'latch')");
wait_in_store($s->{pid}, 'DataFileRead', 'latch');
kill 'HUP', $s->{pid};
usleep(100_000);
go_on_process($store->{pid});
is($s->result, 't', 'a latch that is set during a wait for an answer stays set');
$store->kill9;
$s->send("SELECT wait_probe('r9', 9, 'latch')");
wait_in_store($s->{pid}, 'DataFileRead', 'latch');
unlink "$store->{dir}/.s.PGSQL.$store->{port}";
$listener = IO::Socket::UNIX->new(Local => "$store->{dir}/.s.PGSQL.$store->{port}", Listen => 100) or die "listen: $!";
wait_for('a connection', sub { my $r = ''; vec($r, fileno $listener, 1) = 1; select($r, undef, undef, 0) });
usleep(100_000);
kill 'HUP', $s->{pid};
usleep(100_000);
close $listener;
$store->start;
is($s->result, 't', 'a latch that is set during a wait for a connection stays set');

# ---- commits and writers ----

# A commit that waits: the connection ends without an answer.  (As on any server, statement_timeout does
# not apply while a transaction commits.)
for my $interrupt (qw(pg_cancel_backend pg_terminate_backend))
{
	my $committer = session($c);
	$committer->ask('INSERT INTO w VALUES (0)');
	stop_process($store->{pid});
	$committer->send('INSERT INTO w VALUES (1)');
	wait_in_store($committer->{pid}, 'SyncRep', "commit, $interrupt");
	$t0 = time;
	$observer->ask("SELECT $interrupt($committer->{pid})");
	wait_for("commit, $interrupt: end", sub { $observer->ask("SELECT count(*) FROM pg_stat_get_activity($committer->{pid})") eq '0' });
	cmp_ok(time - $t0, '<', 2, "commit, $interrupt: the backend ends");
	$committer->{h}->finish;
	isnt($committer->{h}->result(0), 0, "commit, $interrupt: the connection ends");
	unlike($committer->{out}, qr/^done $committer->{n}$/m, "commit, $interrupt: no commit is reported");
	go_on_process($store->{pid});
}

$c->stop;
$c = $store->start_compute('main', conf => $conf . "pageserver_smgr.max_wal_lag = 1\n");
$observer = session($c);
$observer->ask("SELECT wait_event FROM pg_stat_get_activity(1); SELECT pg_cancel_backend(1), pg_terminate_backend(1)");
$s = session($c);
my $insert = "INSERT INTO w SELECT i, repeat('z', 3000) FROM generate_series(1, 2000) i";
$s->ask('INSERT INTO w VALUES (0)');
$t0 = time;
$s->ask($insert);
my $took = time - $t0;
# The WAL writer sleeps for 10 s: the writing backend itself must flush the WAL that it waits for.
cmp_ok($took, '<', 5, sprintf('a writer at max_wal_lag continues when the store has the WAL (%.1f s)', $took));
stop_process($store->{pid});
interrupted($s, [ 'acknowledged WAL (max_wal_lag)' => $insert ], 'stopped', 'statement_timeout');
$s->send($insert);
wait_in_store($s->{pid}, 'DataFileExtend', 'back-pressure');
$t0 = time;
$observer->ask("SELECT pg_cancel_backend($s->{pid})");
$s->result;
like($s->errors, qr/canceling statement due to user request/, 'acknowledged WAL (max_wal_lag), store stopped, cancel: the statement ends');
cmp_ok(time - $t0, '<', 1.5, 'acknowledged WAL (max_wal_lag), store stopped, cancel: in time');
$s->send($insert);
wait_in_store($s->{pid}, 'DataFileExtend', 'back-pressure');
go_on_process($store->{pid});
$s->result;
is($s->errors, '', 'a writer continues when the store does');

# ---- backends that start ----

# The same directory is used three times, because of its pg_hba.conf.  Nobody has read the catalog when
# the first backend starts.
$c->stop;
my %starting = (name => 'starting', conf => $conf . "authentication_timeout = 2\n");
$c = $store->start_compute('main', %starting);
stop_process($store->{pid});

# A backend of the compute that has reached the stage that its command line shows.
sub backend_like
{
	my ($pattern) = @_;
	my $found;
	wait_for("a process like $pattern", sub {
		for my $pid ($c->processes)
		{
			open my $f, '<', "/proc/$pid/cmdline" or next;
			$found = $pid if (<$f> // '') =~ $pattern;
		}
		return $found;
	});
	return $found;
}

sub client
{
	my ($user, $err) = @_;
	local $ENV{PGPASSWORD} = 'x';
	return IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-d', $c->connstr, '-U', $user, '-c', 'SELECT 1' ], '<', \undef, '>', \my $out, '2>', $err);
}

my $err = '';
my $client = client('postgres', \$err);
my $pid = backend_like(qr/postgres: postgres postgres /);
usleep(300_000);
$t0 = time;
kill 'TERM', $pid;
$client->finish;
isnt($client->result(0), 0, 'SIGTERM ends a backend that reads the catalog during its start');
cmp_ok(time - $t0, '<', 1.5, 'SIGTERM ends it in time');
go_on_process($store->{pid});
$c->sql_is('SELECT 1', '1', 'others can connect when the store continues');

# A password is in the catalog: authentication_timeout ends the wait for it.
$c->sql("CREATE ROLE scram LOGIN PASSWORD 'x'");
my $hba = "$c->{dir}/pg_hba.conf";
my $old_hba = PostgreSQL::Test::Utils::slurp_file($hba);
open my $f, '>', $hba or die "$hba: $!";
print $f "local all scram scram-sha-256\n$old_hba";
close $f;
$c->stop;
$c = $store->start_compute('main', %starting);
stop_process($store->{pid});
$err = '';
$t0 = time;
$client = client('scram', \$err);
$client->finish;
$took = time - $t0;
isnt($client->result(0), 0, 'authentication_timeout ends the wait for a password');
cmp_ok($took, '>', 1.5, 'authentication_timeout does not end it too early');
cmp_ok($took, '<', 4, "authentication_timeout ends it in time ($err)");
go_on_process($store->{pid});
$client = client('scram', \$err);
$client->finish;
is($client->result(0), 0, 'the password is accepted when the store is back');
$c->stop;
$store->stop;
done_testing();
