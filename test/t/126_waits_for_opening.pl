# Opening a branch can take long, if much of its WAL is in no layer file. Sessions that wait for another
# session to open it, for whatever purpose, react to a cancel, to the end of their connection and to a
# stop of the store; the session that opens it is not disturbed. A manifest that is read from a pipe makes
# the opening take long.
use strict;
use warnings;
use IO::Socket::UNIX;
use PageserverTest;
use POSIX ();
use Test::More;
use Time::HiRes qw(time usleep);

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
$store->ctl_ok('a branch of it', 'branch', 'create', 'dev', '--from', 'main');
my ($tenant, $timeline) = (split /\|/, (grep { /^dev\|/ } split /\n/, ($store->command('branch_list'))[1])[0])[ 1, 2 ];
my $manifest = "$store->{dir}/tenants/$tenant/timelines/$timeline/timeline.log";

# ---- a client of the store's port ----

# Returns the next message, its type and body; undef at the end of the connection.
sub message
{
	my ($s) = @_;
	my $take = sub {
		my ($n) = @_;
		my $all = '';
		while (length $all < $n) { sysread($s->{socket}, $all, $n - length $all, length $all) or return undef; }
		return $all;
	};
	my $head = $take->(5) // return;
	my ($type, $len) = unpack 'a N', $head;
	return ($type, $take->($len - 4));
}

sub socket_to_store
{
	return IO::Socket::UNIX->new(Peer => $store->dir . '/.s.PGSQL.' . $store->port) || die "connect: $!";
}

sub client
{
	my $s = { socket => socket_to_store() };
	my $startup = pack('N', 196608) . "user\0postgres\0database\0store\0\0";
	syswrite $s->{socket}, pack('N', 4 + length $startup) . $startup;
	while (my ($type, $body) = message($s))
	{
		@$s{qw(id secret)} = unpack 'NN', $body if $type eq 'K';
		return $s if $type eq 'Z';
	}
	die 'no session';
}

sub send_command
{
	my ($s, $command) = @_;
	syswrite $s->{socket}, 'Q' . pack('N', 5 + length $command) . "$command\0";
}

# "SQLSTATE message" of an error, or "done".
sub answer
{
	my ($s) = @_;
	my $answer = 'done';
	local $SIG{ALRM} = sub { die "no answer\n" };
	alarm 60;
	while (my ($type, $body) = message($s))
	{
		$answer = "$1 $2" if $type eq 'E' && $body =~ /\0C([^\0]*)\0M([^\0]*)\0/;
		last if $type eq 'Z';
	}
	alarm 0;
	return $answer;
}

sub has_answer
{
	my ($s, $seconds) = @_;
	my $rin = '';
	vec($rin, fileno($s->{socket}), 1) = 1;
	return select($rin, undef, undef, $seconds);
}

# Repeated, because a cancel that arrives before the command has begun has no effect.
sub cancel
{
	my ($s) = @_;
	my $end = time + 20;
	until (has_answer($s, 0.1))
	{
		return 'no answer' if time > $end;
		my $c = socket_to_store();
		syswrite $c, pack 'NNNN', 16, 80877102, $s->{id}, $s->{secret};
		sysread $c, my $nothing, 1;
	}
	return answer($s);
}

sub connections { return ($store->command('status'))[1] =~ /^connections\|(\d+)$/m ? $1 : die; }

# ---- an opening that takes as long as the test wants ----

sub begin_opening
{
	my $opener = client();
	my ($uid, $gid) = (stat $manifest)[ 4, 5 ];

	rename $manifest, "$manifest.saved" or die;
	POSIX::mkfifo($manifest, 0600) or die;
	chown $uid, $gid, $manifest or die;
	send_command($opener, 'fullbackup dev');
	my $pipe;
	PageserverTest::wait_until(sub { sysopen $pipe, $manifest, POSIX::O_WRONLY | POSIX::O_NONBLOCK }, 'the manifest to be read');
	rename "$manifest.saved", $manifest or die;
	return ($opener, $pipe);
}

sub end_opening
{
	my ($pipe) = @_;
	syswrite $pipe, PostgreSQL::Test::Utils::slurp_file($manifest);
	close $pipe;
}

$store->stop;
$store->start;
my ($opener, $pipe) = begin_opening();
my $before = connections();

for my $command ('fullbackup dev', "pagestream $tenant $timeline 0", 'branch_create leaf from dev', 'branch_rename dev other',
	'branch_delete dev', 'branch_reset dev', 'branch_restore dev lsn 0/0', 'branch_compact dev', 'tenant_detach dev')
{
	my $s = client();
	send_command($s, $command);
	like(cancel($s), qr/^57014 canceling the command on the client's request/, "canceled: $command");
	send_command($s, 'status');
	is(answer($s), 'done', 'the session continues after the cancel');
}
ok(!-e "$store->{dir}/tenants/$tenant/detached", 'the tenant is not detached');
for my $command ('fullbackup dev', 'branch_delete dev', 'tenant_detach dev')
{
	my $s = client();
	is(connections(), $before + 1, 'the waiting session has a connection');
	send_command($s, $command);
	close $s->{socket};
	PageserverTest::wait_until(sub { connections() == $before }, 'the session to end');
	pass("ends with its client: $command");
}
ok(!-e "$store->{dir}/tenants/$tenant/detached", 'the tenant is not detached after its client has disconnected');
ok(!has_answer($opener, 0), 'the session that opens the branch is not disturbed');
my $waits = client();
send_command($waits, 'fullbackup dev');
end_opening($pipe);
is(answer($opener), 'done', 'the session that opens the branch succeeds');
is(answer($waits), 'done', 'a session that waited succeeds');

# ---- a stop, during which the branch is still being opened ----
$store->stop;
$store->start;
($opener, $pipe) = begin_opening();
$waits = client();
send_command($waits, 'branch_rename dev other');
my $stop = IPC::Run::start([ PageserverTest::bindir() . '/pageserver_ctl', 'stop', '-D', $store->{dir} ], '<', \undef, '>', \my $out, '2>', \my $err);
like(answer($waits), qr/^PS003 /, 'a session that waits is told that the store stops');
end_opening($pipe);
like(answer($opener), qr/^PS003 /, 'the session that opens the branch is told that the store stops');
ok($stop->finish, 'the store has stopped') or diag("$out$err");
$store->start;
is(($store->command('branch_rename dev other'))[0], 0, 'the branch is unchanged');
$store->stop;
unlike($store->log_content, qr/WARNING|PANIC/, 'no warning in the log of the store');
done_testing();
