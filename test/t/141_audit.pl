# Every change of a store is logged once, with the client that requested it. This includes refused
# commands, and a client cannot forge log lines.
use strict;
use warnings;
use PageserverTest;
use Test::More;

delete $ENV{PGAPPNAME};
my $store = PageserverTest->new_store('main', conf => "listen_addresses = '127.0.0.1'\n");
my $seen = length $store->log_content;
my $uid = $<;
my $name = getpwuid($uid);

# Checks what the log has since the last check; the line is written before the command ends.
sub is_logged
{
	my ($pattern, $what, $who) = @_;
	my $log = $store->log_content;
	my $new = substr $log, $seen;
	$seen = length $log;
	$who //= qr/uid $uid \(\Q$name\E\), PID \d+, Unix socket, program "pageserver_ctl", user "pageserver"/;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($new, qr/ LOG:  $pattern, by $who$/m, $what);
}
sub ctl_is_logged
{
	my ($pattern, @command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$store->ctl_ok("@command", @command);
	is_logged($pattern, "\"@command\" is in the log");
}

ctl_is_logged(qr/branch "main" created as a new cluster/, 'branch', 'create', 'main');
ctl_is_logged(qr/branch "dev" created from branch "main"/, 'branch', 'create', 'dev', '--from', 'main');
my $c = $store->start_compute('main', name => 'first');
is_logged(qr/branch "main" taken over by a compute: generation 1 \(\S+main_first\), previously 0 \(none\)/, 'a compute that starts');
$c->sql('CREATE TABLE t (i int)');
my $lsn = $c->sql('SELECT pg_current_wal_flush_lsn()');
my $second = $store->start_compute('main', name => 'second', args => ['--takeover']);
is_logged(qr/branch "main" taken over by a compute: generation 2 \(\S+main_second\), previously 1 \(\S+main_first\), which was connected/, 'a compute that takes over');
delete $c->{pid};
$second->stop;
ctl_is_logged(qr/branch "at" created from branch "main" at LSN \Q$lsn\E \(\Q$lsn\E\)/, 'branch', 'create', 'at', '--from', "main\@$lsn");
ctl_is_logged(qr/branch "dev" renamed to "dev2"/, 'branch', 'rename', 'dev', 'dev2');
ctl_is_logged(qr/branch "dev2" reset to the state of its parent; .*/, 'branch', 'reset', 'dev2');
ctl_is_logged(qr/branch "dev2" compacted/, 'branch', 'compact', 'dev2');
ctl_is_logged(qr/branch "main" restored to LSN \Q$lsn\E \(\Q$lsn\E\); its previous state is branch "main.1"/, 'branch', 'restore', "main\@$lsn");
ctl_is_logged(qr/branch "dev2" deleted \(moved to the trash\)/, 'branch', 'delete', 'dev2');
ctl_is_logged(qr/export of branch "main" begins/, 'export', 'main', '-D', PageserverTest::test_dir() . '/plain', '--no-sync');
ctl_is_logged(qr/branch "imported" imported from ".*\/plain"/, 'import', 'imported', '--pgdata', PageserverTest::test_dir() . '/plain');
ctl_is_logged(qr/tenant "imported" detached/, 'tenant', 'detach', 'imported');
ctl_is_logged(qr/tenant "imported" attached/, 'tenant', 'attach', 'imported');

# refused commands, and commands over TCP, where the user name is not authenticated
$store->ctl_fails_like(qr/exists already/, 'a branch that exists', 'branch', 'create', 'main');
like(substr($store->log_content, $seen), qr/command "branch_create 'main'" failed, by uid $uid .*: branch "main" exists already/, 'a refused command is in the log');
is_logged(qr/.*/, 'the log up to the refused command has been read', qr/.*/);
IPC::Run::run([ PageserverTest::bindir() . '/psql', '-X', '-h', '127.0.0.1', '-p', $store->port, '-U', 'someone', '-d', 'store', '-c', 'branch_rename at there' ]);
is_logged(qr/branch "at" renamed to "there"/, 'a change over TCP', qr/127\.0\.0\.1, port \d+, program "psql", user "someone"/);
# No client can forge a log line.
IPC::Run::run([ PageserverTest::bindir() . '/psql', '-X', '-d', "host=127.0.0.1 port=" . $store->port . " dbname=store user=x application_name='a\nb'", '-c', 'branch_rename there at' ]);
is_logged(qr/branch "there" renamed to "at"/, 'an application name with a line feed', qr/127\.0\.0\.1, port \d+, program "a\?b", user "x"/);

# settings, reloaded by a signal
$store->append_conf("log_level = debug\n");
kill 'HUP', $store->{pid};
PageserverTest::wait_until(sub { $store->log_content =~ /setting "log_level" changed to "debug"/ }, 'the settings');
is_logged(qr/received signal SIGHUP: reloading settings/, 'a change of settings', qr/uid $uid \(\Q$name\E\), PID $$/);
$store->stop;
is_logged(qr/received signal SIGINT: stopping/, 'a stop', qr/uid $uid \(\Q$name\E\), PID \d+/);
done_testing();
