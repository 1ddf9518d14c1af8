# Outages, shutdowns and crashes. Clients wait for an unreachable store, and continue when it is back,
# without an error and without losing a commit (PAGESERVER_LONG=1: the outage takes a minute). A
# connection on which no answer arrives is replaced. Every shutdown ends within its limits, whatever the
# store does. A crash of any process never leads to recovery of the local state.
use strict;
use warnings;
use PageserverTest;
use TrapTest;
use Test::More;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Time::HiRes qw(time usleep);

my $outage = $ENV{PAGESERVER_LONG} ? 60 : 4;
my $conf = "shared_buffers = 1MB\nautovacuum = off\njit = off\npageserver_smgr.shutdown_timeout = 2s\nmax_parallel_workers_per_gather = 0\nwal_level = logical\n";
my $probe = "$ENV{PAGESERVER_TOP}/test/modules/wait_probe.so";
my $store = PageserverTest->new_store('main');
my $socket = "$store->{dir}/.s.PGSQL.$store->{port}";
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => $conf);
$c->sql("CREATE TABLE r$_ AS SELECT i, repeat('x', 500) pad FROM generate_series(1, 5000) i; VACUUM (FREEZE) r$_") for 0 .. 9;
$c->sql("CREATE TABLE i AS SELECT md5(i::text) t FROM generate_series(1, 50000) i; CREATE TABLE w (i int); CREATE TABLE crashes (i int)");
$c->sql("CREATE EXTENSION pageserver_smgr; CREATE EXTENSION pg_prewarm");
$c->sql("CREATE FUNCTION start_deaf_worker(regclass, text) RETURNS void AS '$probe' LANGUAGE C STRICT");

# ---- an outage ----
$c->program_ok('pgbench', 'pgbench', '-i', '-q', '-s', '1');
$c->stop;
$c = $store->start_compute('main', conf => $conf);
my $seconds = $outage + 5;
my $bench_out = '';
my $bench = IPC::Run::start([ PageserverTest::bindir() . '/pgbench', '-n', '-c', 3, '-R', 100, '-T', $seconds, '-d', $c->connstr ], '<', \undef, '>&', \$bench_out);
my $committer = session($c);
$committer->ask('INSERT INTO w VALUES (0)');
my $reader = session($c);
$reader->ask('EXPLAIN SELECT count(*) FROM r1');
usleep(1_000_000);
$store->kill9;
$committer->send('INSERT INTO w VALUES (1)');
$reader->send('SELECT count(*) FROM r1');
usleep($outage * 1_000_000);
ok(!$committer->done && !$reader->done, "clients wait for $outage s while the store is down");
$store->start;
my $t0 = time;
$committer->result;
is($reader->result, '5000', 'a reader continues when the store is back');
my $took = time - $t0;
cmp_ok($took, '<', 3, sprintf('after %.1f s', $took));
is($committer->errors . $reader->errors, '', 'clients that waited had no error');
$bench->finish;
is($bench->result(0), 0, 'pgbench saw no error') or diag($bench_out);
my ($processed) = $bench_out =~ /actually processed: (\d+)/;
$_->close for $committer, $reader;
$c->kill9;
$c = $store->start_compute('main', conf => $conf);
$c->sql_is('SELECT count(*) FROM pgbench_history', $processed, 'no commit was lost');
$c->sql_is('SELECT count(*) FROM w WHERE i = 1', '1', 'the commit that waited was not lost');

# ---- a connection on which no answer arrives ----

# A TCP proxy; on SIGUSR1, existing connections stay open, but no longer forward anything; new ones work.
my $proxy_port = PageserverTest::free_port();
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $proxy_port, Proto => 'tcp', Listen => 50, ReuseAddr => 1) or die "listen: $!";
my $proxy = fork;
if (!$proxy)
{
	my (%peer, $select);
	$SIG{USR1} = sub { $select->remove($_) for grep { $_ != $listener } $select->handles };
	$select = IO::Select->new($listener);
	for (;;)
	{
		for my $from ($select->can_read)
		{
			if ($from == $listener)
			{
				my $client = $listener->accept or next;
				my $server = IO::Socket::UNIX->new(Peer => $socket) or next;
				@peer{ $client, $server } = ($server, $client);
				$select->add($client, $server);
				next;
			}
			my $to = $peer{$from};
			my $data;
			next unless defined fileno $from;
			if (sysread $from, $data, 65536)
			{
				for (my $done = 0; $done < length $data;)
				{
					my $n = syswrite $to, $data, length($data) - $done, $done;
					last unless defined $n;
					$done += $n;
				}
				next;
			}
			$select->remove($from, $to);
			close $_ for $from, $to;
		}
	}
}
close $listener;
END { my $code = $?; kill 'KILL', $proxy if $proxy; $? = $code; }

$c->stop;
my $through_proxy = "pageserver_smgr.store = postgresql://postgres\@127.0.0.1:$proxy_port/store\n";
$c = $store->start_compute('main', conf => $conf . $through_proxy . "pageserver_smgr.response_timeout = 1500\nwal_sender_timeout = 1500\n");
$reader = session($c);
my $observer = session($c);
$observer->ask('SELECT pg_terminate_backend(1)');
$observer->errors;
$reader->ask('EXPLAIN SELECT count(*) FROM r2');
$reader->ask('EXPLAIN SELECT count(*) FROM r3');
# The compute's end of its connections: the keepalive timer runs on an idle one.
my $hex = sprintf '%04X', $proxy_port;
my @timers = map { (split)[5] } grep { (split)[2] =~ /:$hex$/ && (split)[3] eq '01' } split /\n/, PostgreSQL::Test::Utils::slurp_file('/proc/net/tcp');
cmp_ok(scalar(grep { /^02:/ } @timers), '>', 0, 'keepalives are enabled') or diag("@timers");
kill 'USR1', $proxy;
$t0 = time;
is($reader->ask('SELECT count(*) FROM r2'), '5000', 'a request is repeated over another connection when no answer arrives');
$took = time - $t0;
is($reader->errors, '', 'the repeated request had no error');
cmp_ok($took, '>', 1.3, 'it is repeated after pageserver_smgr.response_timeout');
cmp_ok($took, '<', 6, sprintf('after %.1f s', $took));
like($c->log_content, qr/no answer for 1500 ms \("pageserver_smgr.response_timeout"\)/, 'the log reports the missing answer');
$c->sql('INSERT INTO w VALUES (2)');
like($c->log_content, qr/no message from the page store for/, 'the log reports the missing answer to WAL');
$c->stop;

# ---- shutdowns ----

# Stops a compute with readers, commits, an index build and dirty pages, which wait for a store in some
# state.  One session drops a temporary table when it exits; with $warm, it has read all of the catalog
# that this needs, so that only its commit could wait; without, it has read none of it, so that it asks
# the store.
sub busy_compute
{
	my ($settings, $warm) = @_;
	my $c = $store->start_compute('main', conf => $conf . ($settings // ''));
	my @s = map { session($c) } 1 .. 4;
	$s[0]->ask('EXPLAIN SELECT count(*) FROM r4');
	$s[1]->ask('INSERT INTO w VALUES (3)');
	$s[2]->ask('EXPLAIN SELECT count(*) FROM i; CREATE TEMP TABLE tt (i int)');
	$s[2]->ask('DISCARD TEMP; CREATE TEMP TABLE tt (i int)') if $warm;
	$s[3]->ask('CHECKPOINT; SELECT count(*) FROM r5; UPDATE r5 SET i = i + 1 WHERE i % 10 = 0');
	$s[3]->ask("SELECT pg_prewarm('r7') \\g /dev/null\nSELECT pageserver_smgr_clear_cache()") unless $warm;
	return ($c, @s);
}

sub keep_busy
{
	my ($c, @s) = @_;
	$s[0]->send('SELECT count(*) FROM r4');
	$s[1]->send('INSERT INTO w VALUES (4)');
	$s[2]->send('CREATE INDEX ON i USING gist (t); CREATE INDEX ON i (t)');
	usleep(300_000);
}

sub stops_in
{
	my ($c, $mode, $limit, $what) = @_;
	my $t0 = time;
	$c->stop($mode);
	PageserverTest::wait_gone($_) for grep { -e "/proc/$_" } @{ $c->{all} };
	my $took = time - $t0;
	cmp_ok($took, '<', $limit, sprintf('%s: within its limit (%.1f s)', $what, $took));
}

for my $state (qw(stopped killed mute frozen))
{
	for my $mode ($state eq 'stopped' ? qw(fast immediate) : 'fast')
	{
		my ($c, @s) = busy_compute($state eq 'frozen' ? $through_proxy : '', $state =~ /^(stopped|mute)$/);
		my $mute;
		stop_process($store->{pid}) if $state eq 'stopped';
		$store->kill9 if $state eq 'killed' || $state eq 'mute';
		if ($state eq 'mute')
		{
			unlink $socket;
			$mute = IO::Socket::UNIX->new(Local => $socket, Listen => 100) or die "listen: $!";
		}
		stop_process($proxy) if $state eq 'frozen';
		keep_busy($c, @s);
		$c->{all} = [ $c->processes ];
		# shutdown_timeout for backends that clean up, and again for the WAL worker
		stops_in($c, $mode, $mode eq 'fast' ? 12 : 3, "$mode shutdown, store $state");
		$_->{h}->finish for @s;
		my $log = $c->log_content;
		like($log, qr/could not connect to the page store while the process exits/, "temporary table at exit, store $state") if $state eq 'killed';
		like($log, qr/no answer from the page store while the process exits/, "temporary table at exit, store $state") if $state eq 'frozen';
		close $mute if $mute;
		go_on_process($store->{pid}) if $state eq 'stopped';
		go_on_process($proxy) if $state eq 'frozen';
		$store->start if $state eq 'killed' || $state eq 'mute';
	}
}

# smart: starts when the clients have disconnected; nobody waits for the store then
{
	my ($c, @s) = busy_compute();
	$store->kill9;
	$_->close for @s;
	$c->{all} = [ $c->processes ];
	stops_in($c, 'smart', 8, 'smart shutdown without clients, store killed');
	$store->start;
}

# Processes that do not react to SIGTERM while they read: the autovacuum launcher, and a background
# worker.  What they read is in no cache.
{
	my $c = $store->start_compute('main', conf => "$conf\nautovacuum = on\nautovacuum_naptime = 1\npageserver_smgr.catalog_read_interval = 0\n");
	my $s = session($c);
	my $waits = sub { $s->ask("SELECT coalesce(wait_event, '') FROM pg_stat_get_activity($_[0])") };
	my $clear = "SELECT pg_prewarm('r7') \\g /dev/null\nSELECT pageserver_smgr_clear_cache() \\g /dev/null\n";
	my $launcher = $s->ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum launcher'");
	$s->ask("SELECT start_deaf_worker('r6', '$probe')");
	my $deaf;
	wait_for('the worker to read', sub { $deaf = $s->ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'deaf worker' AND wait_event IS NOT NULL") });
	$s->ask($clear);
	$waits->($launcher);
	# A process that is stopped while it holds a lock, or while it reads a page that others need, makes the session wait:
	# then they are stopped again, at another moment.
	my $cleared;
	for (my $try = 1; !$cleared && $try <= 50; $try++)
	{
		stop_process($_) for $launcher, $deaf;
		$s->send($clear);
		my $until = time + 2;
		usleep(2_000) until ($cleared = $s->done) || time > $until;
		next if $cleared;
		go_on_process($_) for $launcher, $deaf;
		$s->result;
	}
	ok($cleared, 'nothing waits for the stopped processes');
	stop_process($store->{pid});
	go_on_process($_) for $launcher, $deaf;
	for my $pid ($launcher, $deaf)
	{
		wait_for("process $pid to wait for the store", sub { $waits->($pid) eq 'DataFileRead' });
	}
	$c->{all} = [ $c->processes ];
	# shutdown_timeout for the worker, and again for WAL
	stops_in($c, 'fast', 8, 'fast shutdown while an autovacuum launcher and a deaf worker read');
	$s->{h}->finish;
	my $log = $c->log_content;
	like($log, qr/\[$launcher\] ERROR:  canceling wait for the page store because the process is shutting down/, 'the launcher ends as soon as it is told to end');
	like($log, qr/\[$deaf\] ERROR:  canceling wait for the page store because the server is shutting down/, 'the worker ends after shutdown_timeout');
	unlike($log, qr/terminated by signal|terminating any other active server processes/, 'the end of the worker is not taken for a crash');
	go_on_process($store->{pid});
}

# ---- the store stops while computes are connected ----
{
	my ($c, @s) = busy_compute('', 'warm');
	my $push_out = "SELECT pg_prewarm('r7') \\g /dev/null\n";
	my $worker = $s[0]->ask('SELECT worker_pid FROM pageserver_smgr_store');
	$s[3]->ask("SELECT wait_event FROM pg_stat_get_activity($worker); CHECKPOINT; SELECT pageserver_smgr_clear_cache() \\g /dev/null\n$push_out");
	$s[0]->ask('SELECT count(*) FROM r5');
	stop_process($worker);
	# a read that waits in the store for WAL
	$s[3]->ask("SET synchronous_commit = local; UPDATE r5 SET i = i WHERE i % 10 = 1; $push_out");
	$s[3]->ask('SELECT pageserver_smgr_clear_cache()');
	$s[0]->send('SELECT count(*) FROM r5');
	wait_for('a read to wait in the store', sub { return 0 for grep { usleep(20_000); $s[3]->ask("SELECT wait_event FROM pg_stat_get_activity($s[0]{pid})") ne 'DataFileRead' } 1 .. 5; 1 });
	my $t0 = time;
	$store->stop;
	cmp_ok(time - $t0, '<', 8, 'computes do not delay a stop of the store');
	$store->start;
	$store->ctl_ok('restart of the store', 'restart', '-D', $store->{dir});
	($store->{pid}) = split /\n/, PostgreSQL::Test::Utils::slurp_file("$store->{dir}/pageserver.pid");
	go_on_process($worker);
	is($s[0]->result, '5000', 'a read continues when the store was stopped and restarted');
	is($s[0]->errors, '', 'the read that continued had no error');
	$_->close for @s;
	$c->stop;
}

# ---- crashes ----
my @victims = (
	[ 'backend', 'SEGV' ], [ 'backend', 'KILL' ], [ 'backend', 'ABRT' ],
	[ 'pageserver WAL worker', 'KILL' ], [ 'checkpointer', 'KILL' ], [ 'background writer', 'KILL' ], [ 'walwriter', 'KILL' ],
	[ 'autovacuum launcher', 'KILL' ], [ 'logical replication launcher', 'KILL' ]
);
my $crash_dir = 'crash';
# Otherwise it would be started again at once (170_supervisor).
my $crash_conf = "autovacuum = on\nrestart_after_crash = off\n";
$c = $store->start_compute('main', name => $crash_dir, conf => $crash_conf);
$c->sql("ALTER SYSTEM SET work_mem = '7MB'; ALTER SYSTEM SET restart_after_crash = on");
PostgreSQL::Test::Utils::append_to_file("$c->{dir}/pg_hba.conf", "# ours\n");
$c->sql_is('SELECT pg_reload_conf()', 't', 'reload');
$c->sql_is('SHOW restart_after_crash', 'off', 'restart_after_crash cannot be set');
my $n = 0;
for my $victim (@victims)
{
	my ($type, $signal) = @$victim;
	my $what = "SIG$signal of a $type";
	$n++;
	$c->sql("INSERT INTO crashes VALUES ($n)");
	my $s = session($c);
	$s->ask('BEGIN; INSERT INTO crashes VALUES (-1)');
	my $pid = $type eq 'backend' ? $s->{pid} : $c->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'");
	my @all = $c->processes;
	kill $signal, $pid;
	PageserverTest::wait_gone($_) for @all;
	delete $c->{pid};
	$s->{h}->finish;
	my $log = $c->log_content;
	like($log, qr/terminated by signal/, "$what: the compute ends");
	like($log, qr/shutting down because restart_after_crash is off/, "$what: the log says why");
	unlike($log, qr/redo starts|automatic recovery in progress/, "$what: there was no recovery");
	my ($rc, $out) = $c->program('pg_ctl', 'start', '-s', '-w', '-D', $c->{dir}, '-l', "$c->{dir}.again.log");
	my $again = PostgreSQL::Test::Utils::slurp_file("$c->{dir}.again.log");
	unlink "$c->{dir}.again.log";
	isnt($rc, 0, "$what: postgres refuses to start in the directory");
	like($again, qr/start-it-with:pageserver_ctl-compute-start/, "$what: the refusal says how to start the compute");
	unlike($again, qr/redo starts|recovery/, "$what: no recovery when the start is refused");
	unlink "$c->{dir}/log/postgres.log";
	$c = $store->start_compute('main', name => $crash_dir, port => $c->{port}, conf => $crash_conf);
	$c->sql_is("SELECT count(*), sum(i), current_setting('work_mem') FROM crashes", join('|', $n, $n * ($n + 1) / 2, '7MB'),
		"$what: the next start has all committed rows and the settings");
}
like(PostgreSQL::Test::Utils::slurp_file("$c->{dir}/pg_hba.conf"), qr/^# ours$/m, 'pg_hba.conf is preserved');

# If the WAL worker is told to end, it is started again, and commits continue.
my $old = $c->sql('SELECT worker_pid FROM pageserver_smgr_store');
$c->sql("SELECT pg_terminate_backend($old, 10000)");
$c->sql('INSERT INTO crashes VALUES (0)');
isnt($c->sql('SELECT worker_pid FROM pageserver_smgr_store'), $old, 'a WAL worker that ends is started again');
$c->stop;
$store->stop;
done_testing();
