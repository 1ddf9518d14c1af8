# The directory of a compute: what may run in it, who may start it and how, and that the owner's files in
# it are preserved. Whatever a lock file says, pageserver_ctl never signals a process that is not the
# compute.
use strict;
use warnings;
use Fcntl qw(O_RDONLY LOCK_EX);
use File::Path qw(make_path);
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
$store->ctl_ok('another branch', 'branch', 'create', 'other', '--from', 'main');
my $dir = PageserverTest::test_dir();
my $owner = $> == 0 ? getpwnam('postgres') : $>;
my $c = $store->start_compute('main', name => 'c');
my $other = $store->start_compute('other', name => 'other');
$c->sql('CREATE TABLE t AS SELECT generate_series(1, 1000) i');
my $pidfile = "$c->{dir}/postmaster.pid";

# Writes a file of the owner's.
sub put
{
	my ($file, $text) = @_;
	open my $f, '>', $file or die "$file: $!";
	print $f $text;
	close $f;
	chown $owner, -1, $file if $> == 0;
	chmod 0600, $file;
}

# Returns (exit code, combined output); through a file, because a server that keeps running would hold a
# pipe open.
sub run_quietly
{
	my (@command) = @_;
	my $file = "$dir/run_quietly.out";
	unlink $file;
	IPC::Run::run [ ($> == 0 ? ('setpriv', '--reuid', 'postgres', '--regid', 'postgres', '--init-groups') : ()), @command ], '<', \undef, '>', $file, '2>&1';
	return ($? >> 8, PostgreSQL::Test::Utils::slurp_file($file));
}

sub restart
{
	my (%opt) = @_;
	$c = $store->start_compute('main', name => 'c', port => $c->{port}, %opt);
}

# ---- a process id in a lock file is not trusted ----
# Makes postmaster.pid of the killed compute name another process.
sub name_in_pidfile
{
	my ($pid) = @_;
	my @lines = split /\n/, PostgreSQL::Test::Utils::slurp_file($pidfile);
	$lines[0] = $pid;
	put($pidfile, join("\n", @lines) . "\n");
}

my $sleep = IPC::Run::start([ 'sleep', '600' ]);
my $sleeper = $sleep->{KIDS}[0]{PID};
for my $victim ([ 'another compute', $other->{pid} ], [ 'the store', $store->{pid} ], [ 'any process', $sleeper ])
{
	my ($what, $pid) = @$victim;
	my $saved = PostgreSQL::Test::Utils::slurp_file($pidfile);
	$c->kill9;
	put($pidfile, $saved);
	name_in_pidfile($pid);
	is(($store->ctl('compute', 'status', '-D', $c->{dir}))[0], 3, "$what in postmaster.pid: status says that no compute runs");
	$store->ctl_fails_like(qr/is not running/, "$what in postmaster.pid: stop", 'compute', 'stop', '-D', $c->{dir}, '-m', 'immediate');
	restart();
	$c->sql_is('SELECT count(*) FROM t', 1000, "$what in postmaster.pid: the compute starts");
	ok(kill(0, $pid), "$what in postmaster.pid: the process still runs");
}
$other->sql_is('SELECT 1', 1, 'the other compute still works');
$store->stop('immediate');
put($store->dir . '/pageserver.pid', "$sleeper\n" . $store->dir . "\n1\n" . $store->port . "\n" . $store->dir . "\nready\n");
is(($store->ctl('status', '-D', $store->dir))[0], 3, 'any process in pageserver.pid: status says that no store runs');
$store->ctl_fails_like(qr/is not running/, 'any process in pageserver.pid: stop', 'stop', '-D', $store->dir);
$store->start;
ok(kill(0, $sleeper), 'any process in pageserver.pid: the process still runs');
$sleep->kill_kill;
$other->stop;

# ---- processes of a compute whose postmaster was killed ----
my $busy = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-d', $c->connstr, '-c', 'SELECT pg_sleep(600)' ], '<', \undef, '>', '/dev/null', '2>', '/dev/null');
my $backend;
PageserverTest::wait_until(sub { $backend = $c->sql("SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") }, 'a backend at work');
kill 'STOP', $backend;
$c->kill9_postmaster;
PageserverTest::wait_gone($c->{pid});
$store->ctl_fails_like(qr/processes of the earlier compute in .* are still running/, 'a start while a process is left', 'compute', 'start', 'main', '-D', $c->{dir}, '-t', 1);
ok(-e $pidfile, 'the refused start does not remove postmaster.pid');
kill 'KILL', $backend;
delete $c->{$_} for qw(pid orphans);
restart();
$busy->finish;

# ---- one at a time ----
my @starts = map {
	my $n = $_;
	IPC::Run::start([ PageserverTest::bindir() . '/pageserver_ctl', 'compute', 'start', 'other', '-S', $store->dir, '-D', "$dir/at_once", '-p', PageserverTest::free_port(),
			'-o', "-c unix_socket_directories=$dir -c listen_addresses=" ], '<', \undef, '>', "$dir/start_$n.out", '2>', "$dir/start_$n.err")
} 1 .. 4;
$_->finish for @starts;
my @codes = map { $_->result } @starts;
is(($store->ctl('compute', 'status', '-D', "$dir/at_once"))[0], 0, "four starts at once in one directory: a compute runs (exit codes @codes)");
like(PostgreSQL::Test::Utils::slurp_file("$dir/start_$_.err"), qr/^$|is starting a compute in directory|is not empty|was removed/, "start $_ says why it failed") for 1 .. 4;
$store->ctl_ok('the compute is stopped', 'compute', 'stop', '-D', "$dir/at_once");
my $lock;
sysopen($lock, "$dir/at_once", O_RDONLY) && flock($lock, LOCK_EX) or die "$dir/at_once: $!";
my $all_files = join ' ', sort glob "$dir/at_once/*";
$store->ctl_fails_like(qr/another pageserver_ctl is starting a compute in directory/, 'a start during another start', 'compute', 'start', 'other', '-D', "$dir/at_once");
is(join(' ', sort glob "$dir/at_once/*"), $all_files, 'the refused start changes no files');
close $lock;

# ---- the owner's files ----
my %files = ('server.key' => "key\n", 'server.crt' => "certificate\n", 'conf.d/10.conf' => "work_mem = 33MB\n", 'mine.conf' => "log_min_duration_statement = 12345\n",
	'logs/old.log' => "old\n", 'pg_wal_notes.txt' => "notes\n", '.psqlrc' => "x\n");
make_path("$c->{dir}/conf.d", "$c->{dir}/logs", { owner => $owner });
put("$c->{dir}/$_", $files{$_}) for keys %files;
my $conf = PostgreSQL::Test::Utils::slurp_file("$c->{dir}/postgresql.conf");
put("$c->{dir}/postgresql.conf", "$conf\ninclude_dir 'conf.d'\ninclude 'mine.conf'\n");
put("$c->{dir}/pg_hba.conf", PostgreSQL::Test::Utils::slurp_file("$c->{dir}/pg_hba.conf") . "# ours\n");
restart();
is(-e "$c->{dir}/$_" ? PostgreSQL::Test::Utils::slurp_file("$c->{dir}/$_") : undef, $files{$_}, "$_ is preserved") for sort keys %files;
$c->sql_is("SELECT current_setting('work_mem'), current_setting('log_min_duration_statement')", '33MB|12345ms', 'settings in the files of the owner are preserved');
like(PostgreSQL::Test::Utils::slurp_file("$c->{dir}/pg_hba.conf"), qr/# ours/, 'pg_hba.conf, too');
$c->stop;
unlink "$c->{dir}/pg_ident.conf";
restart();
ok(-e "$c->{dir}/pg_ident.conf", 'a settings file that was removed is restored');
(my $rc, undef, my $err) = $store->ctl('compute', 'start', 'main', '-D', $c->{dir}, '-o', '-c nosuch=1');
isnt($rc, 0, 'a second start with a bad setting fails');
$c->sql_is('SELECT count(*) FROM t', 1000, 'the failed start does not stop the running compute');

# ---- libraries, wherever they are set, and always the extension's ----
my $library = "$ENV{PAGESERVER_TOP}/test/modules/same_names";
sub libraries_are
{
	my ($expected, $what, %opt) = @_;
	restart(%opt);
	$c->sql_is('SHOW shared_preload_libraries', $expected, "$what: libraries");
	$c->sql_is('SELECT count(*) FROM t', 1000, "$what: rows");
}
$c->stop;
put("$c->{dir}/postgresql.conf", "shared_preload_libraries = '$library'\n$conf");
libraries_are("$library, pageserver_smgr", 'libraries set before the include');
put("$c->{dir}/postgresql.conf", "$conf\nshared_preload_libraries = '$library'\n");
libraries_are("$library, pageserver_smgr", 'libraries set after the include');
put("$c->{dir}/postgresql.conf", "$conf\nshared_preload_libraries = '\"\$libdir/pageserver_smgr.so\",$library'\n");
libraries_are("\"\$libdir/pageserver_smgr.so\",$library", 'libraries set together with the extension');
put("$c->{dir}/postgresql.conf", "$conf\nshared_preload_libraries = ''\n");
libraries_are('pageserver_smgr', 'an empty list of libraries');
put("$c->{dir}/conf.d/10.conf", "shared_preload_libraries = '$library'\n");
put("$c->{dir}/postgresql.conf", "$conf\ninclude_dir 'conf.d'\n");
libraries_are("$library, pageserver_smgr", 'libraries set in conf.d');
put("$c->{dir}/postgresql.conf", $conf);
$c->sql("ALTER SYSTEM SET shared_preload_libraries = '$library'");
libraries_are("\"$library\", pageserver_smgr", 'by ALTER SYSTEM');
$c->sql('ALTER SYSTEM RESET ALL');
libraries_are("$library, pageserver_smgr", 'with -o', conf => "shared_preload_libraries = $library\n");
libraries_are('pageserver_smgr', 'no libraries set any more');

# A reload does not complain about it.
$c->sql_is('SELECT pg_reload_conf()', 't', 'reload');
$c->sql('SELECT pg_sleep(0)');
unlike($c->log_content, qr/shared_preload_libraries.*cannot be changed/, 'a reload does not try to change the libraries');

# ---- the directory cannot be started by other means ----
my $bin = PageserverTest::bindir();
sub does_not_boot
{
	my ($what) = @_;
	my $before = join ' ', sort glob "$c->{dir}/*";
	for my $command ([ "$bin/pg_ctl", 'start', '-w', '-t', 5, '-D', $c->{dir} ], [ "$bin/postgres", '-D', $c->{dir} ],
		[ "$bin/postgres", '--single', '-D', $c->{dir} ], [ "$bin/postgres", '-D', $c->{dir}, '-c', 'shared_preload_libraries=pageserver_smgr' ],
		[ "$bin/postgres", '-D', "$dir", '-c', "config_file=$dir/elsewhere.conf" ])
	{
		# If the directory boots in spite of everything, the server does not end by itself.
		my ($rc, $out) = run_quietly('timeout', 20, @$command);
		isnt($rc, 0, "$what: @$command[0 .. 1] fails");
		like($out, qr/start-it-with:pageserver_ctl-compute-start/, "$what: the refusal says how to start the compute");
	}
	is(join(' ', sort glob "$c->{dir}/*"), $before, "$what: nothing has changed");
}
put("$dir/elsewhere.conf", "data_directory = '$c->{dir}'\nhba_file = '$c->{dir}/pg_hba.conf'\n");
$c->stop;
does_not_boot('after a stop');
put("$c->{dir}/postgresql.conf", "port = 1\n");
does_not_boot('with another postgresql.conf');
put("$c->{dir}/postgresql.conf", $conf);
restart();
$c->kill9;
does_not_boot('after a kill');
restart();
$c->stop;

# also after a start that fails
$store->ctl_fails_like(qr/could not start PostgreSQL/, 'a start that fails', 'compute', 'start', 'main', '-D', $c->{dir}, '-o', '-c shared_preload_libraries=nosuch');
does_not_boot('after a start that failed');

# ---- a machine crash ----
# The pg_control on disk may be that of the base backup for a while, because nothing is synced.
my $shipped = PostgreSQL::Test::Utils::slurp_file("$c->{dir}/global/pg_control");
put("$c->{dir}/PG_VERSION", "15\n");
my ($rc2, $out) = run_quietly("$bin/pg_ctl", 'start', '-w', '-D', $c->{dir}, '-l', "$dir/by_hand.log", '-o', "-c shared_preload_libraries=pageserver_smgr -c unix_socket_directories=$dir");
is($rc2, 0, 'started once in the way of pageserver_ctl') or diag($out . PostgreSQL::Test::Utils::slurp_file("$dir/by_hand.log"));
$c->{pid} = (split /\n/, PostgreSQL::Test::Utils::slurp_file($pidfile))[0];
$c->sql('CHECKPOINT');
$c->kill9;
put("$c->{dir}/global/pg_control", $shipped);
does_not_boot('with the pg_control of the base backup');
restart();
$c->stop;

# ---- without the store ----
put("$c->{dir}/postgresql.conf", "$conf\npageserver_smgr.store = ''\n");
$store->ctl_fails_like(qr/parameter "pageserver_smgr.store" is not set in the data directory of a compute/, 'a start without the address of the store', 'compute', 'start', 'main', '-D', $c->{dir});
does_not_boot('after a start without the address of the store');
$store->stop;
done_testing();
