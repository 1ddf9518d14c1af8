# Each SQLSTATE of the store (src/common/sqlstate.h) that a client can provoke by commands, and the exit
# code of pageserver_ctl for it. test/unit/t_sqlstates.c provokes the others, and checks that none is
# missing in both.
use strict;
use warnings;
use IO::Socket::UNIX;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main', conf => "max_connections = 1\nmin_free_space = 0\n");
for my $branch (qw(main broken detached))
{
	$store->ctl_ok("branch $branch", 'branch', 'create', $branch);
}
$store->ctl_ok('a branch that begins in another', 'branch', 'create', 'child', '--from', 'main');

my %id;
for (split /\n/, ($store->command('branch_list'))[1])
{
	my @column = split /\|/;
	$id{ $column[0] } = "@column[ 1, 2 ]";
}
$store->ctl_ok('detach', 'tenant', 'detach', 'detached');
for (1 .. 2)
{
	$store->start_compute('main', name => 'c')->stop;
}
$store->stop;
for my $manifest (glob sprintf('%s/tenants/%s/timelines/%s/timeline.log', $store->dir, split / /, $id{broken}))
{
	open my $f, '>', $manifest or die "$manifest: $!";
	print $f 'no manifest';
	close $f;
}
$store->start;

# ---- sessions that speak the protocol directly ----

sub message { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body; }

sub connect_raw
{
	return IO::Socket::UNIX->new(Peer => $store->dir . '/.s.PGSQL.' . $store->port) || die "connect: $!";
}

# A session that was accepted or refused; its key for cancel requests is in %$s.
sub client
{
	my $params = "user\0postgres\0database\0store\0\0";
	my $s = { socket => connect_raw() };
	syswrite $s->{socket}, pack('NN', 8 + length($params), 196608) . $params;
	return $s;
}

# Returns the next message of one of these types; nothing at the end of the connection.
sub next_message
{
	my ($s, $types) = @_;
	local $SIG{ALRM} = sub { die "no answer\n" };
	alarm 60;
	while (1)
	{
		my ($head, $body) = ('', '');
		while (length $head < 5) { sysread($s->{socket}, $head, 5 - length $head, length $head) or return; }
		my ($type, $len) = unpack 'aN', $head;
		while (length $body < $len - 4) { sysread($s->{socket}, $body, $len - 4 - length $body, length $body) or return; }
		$s->{key} = $body if $type eq 'K';
		alarm 0;
		return ($type, $body) if $type =~ /[$types]/;
		alarm 60;
	}
}

# Returns the SQLSTATE of the next error.
sub state_of
{
	my ($s) = @_;
	my ($type, $body) = next_message($s, 'EC');
	return $type && $type eq 'E' && $body =~ /C(\w{5})\0/ ? $1 : 'none';
}

# Returns a session's answer to these bytes.
sub answer
{
	my ($bytes) = @_;
	my $s = client();
	syswrite $s->{socket}, $bytes;
	return state_of($s);
}

sub command { return answer(message('Q', "$_[0]\0")); }

# A request of a page stream; the SQLSTATE is in an answer of the stream.
sub page_answer
{
	my ($query, $request) = @_;
	my $s = client();
	syswrite $s->{socket}, message('Q', "$query\0") . message('d', $request);
	my ($type, $body) = next_message($s, 'dE');
	return $type eq 'd' && $body =~ /^E.{17}(.{5})/s ? $1 : 'none';
}

my $one_page = pack('CCQ>Q>Q>NNNCnN', ord('g'), 1, 1, ~0, 0, 1663, 1, 1259, 0, 1, 0);

sub canceled
{
	my $s = client();
	next_message($s, 'Z');
	# This takes long, because it may read only one megabyte per second.
	syswrite $s->{socket}, message('Q', "verify main 1\0");
	my $answered = sub {
		my $rin = '';
		vec($rin, fileno($s->{socket}), 1) = 1;
		return select $rin, undef, undef, 0;
	};
	PageserverTest::wait_until(
		sub {
			my $c = connect_raw();
			syswrite $c, pack('NN', 16, 80877102) . $s->{key};
			sysread $c, my $nothing, 1;
			return $answered->();
		},
		'the command to be canceled');
	return state_of($s);
}

# The only page stream is idle, and another one needs its place.
sub recalled
{
	my @streams;
	for (1 .. 2)
	{
		push @streams, client();
		syswrite $streams[-1]{socket}, message('Q', "pagestream $id{main} 0\0") . message('d', $one_page);
		next_message($streams[-1], 'd') if $_ == 1;
	}
	return state_of($streams[0]);
}

# As many sessions as allowed, each busy: it receives settings.
sub too_many
{
	my @clients;
	for (1 .. 101)
	{
		my $s = client();
		my ($type, $body) = next_message($s, 'ZE');
		return $body =~ /C(\w{5})\0/ ? $1 : 'none' if $type eq 'E';
		syswrite $s->{socket}, message('Q', "settings_write main 0\0");
		($type, $body) = next_message($s, 'GE');
		die "settings are not received: $body" if $type ne 'G';
		push @clients, $s;
	}
	return 'none';
}

# code, how to provoke it; and, if a command of pageserver_ctl can get it, the arguments and exit code
my @table = (
	[ 'PS001', sub { command("wal_push $id{main} 1") } ],
	[ 'PS002', sub { command('branch_delete nosuch') }, [qw(branch delete nosuch)], 4 ],
	[ 'PS003', sub { command("pagestream $id{detached} 0") } ],
	[ 'PS004', sub { command("import new '/nowhere' none") } ],
	[ '08P01', sub { answer(message('p', "password\0")) } ],
	[ '0A000', sub { answer(message('P', "\0SELECT 1\0\0\0") . message('S', '')) } ],
	[ '22023', sub { command('branch_rename main a/../b') }, [qw(branch rename main a/../b)], 1 ],
	[ '42601', sub { command('frobnicate') } ],
	[ '42710', sub { command('branch_create main') }, [qw(branch create main)], 5 ],
	[ '53300', \&too_many ],
	[ '55000', sub { command('branch_delete main') }, [qw(branch delete main)], 6 ],
	[ '57014', \&canceled ],
	[ '57P05', \&recalled ],
	[ 'XX001', sub { command('fullbackup broken') }, [ qw(export broken -D), PageserverTest::test_dir() . '/export' ], 9 ],
);

for (@table)
{
	my ($code, $provoke, $ctl, $exit_code) = @$_;
	is($provoke->(), $code, "$code is provoked");
	next unless $ctl;
	my ($rc, $out, $err) = $store->ctl(@$ctl);
	is($rc, $exit_code, "@$ctl: exit code") or diag($err);
}

# An error within a page stream has its SQLSTATE in the answer, and the stream continues.
is(page_answer("pagestream $id{main} 0", pack('CCQ>Q>Q>NNNCnN', ord('g'), 1, 1, ~0, 0x7fffffff << 32, 1663, 1, 1259, 0, 1, 0)),
	'22023', 'an SQLSTATE within a page stream');
$store->stop;
done_testing();
