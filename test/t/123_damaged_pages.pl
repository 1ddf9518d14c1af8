# Page requests that arrive together are read together. A request for a damaged page gets an error that
# names the place. Requests before and after it get their pages, and the answers keep their order.
use strict;
use warnings;
use IO::Socket::UNIX;
use PageserverTest;
use Test::More;

use constant { REQUESTS => 20, BLOCKS => 3, BLCKSZ => 8192 };

my $store = PageserverTest->new_store('main', conf => "page_cache_size = 0\ncompaction_workers = 0\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my (undef, $list) = $store->command('branch_list');
my @id = (split(/\|/, $list))[ 1, 2 ];

# Sends all requests in one write, each for some blocks of pg_proc; returns the answers, in the order of
# their arrival.
sub ask
{
	my $s = IO::Socket::UNIX->new(Peer => $store->dir . '/.s.PGSQL.' . $store->port) || die "connect: $!";
	my $params = "user\0postgres\0database\0store\0\0";
	my $query = "pagestream @id 0";
	my $send = pack('NN', 8 + length($params), 196608) . $params . 'Q' . pack('N', 5 + length($query)) . "$query\0";
	for my $i (0 .. REQUESTS - 1)
	{
		my @blocks = map { $_ * REQUESTS + $i } 0 .. BLOCKS - 1;
		my $request = pack('CCQ>Q>Q>NNNCnN*', ord('g'), 1, 1000 + $i, ~0, 0, 1663, 5, 1255, 0, BLOCKS, @blocks);
		$send .= 'd' . pack('N', 4 + length($request)) . $request;
	}
	syswrite($s, $send);
	shutdown($s, 1);
	my $all = '';
	local $SIG{ALRM} = sub { die "no answer\n" };
	alarm 60;
	while (sysread($s, my $buf, 65536)) { $all .= $buf; }
	alarm 0;
	my @answers;
	for (my $pos = 0; $pos + 5 <= length($all);)
	{
		my ($type, $len) = unpack('aN', substr($all, $pos, 5));
		my ($kind, undef, $reqid) = unpack('aCQ>', substr($all, $pos + 5, 10));
		push @answers, { kind => $kind, reqid => $reqid, body => substr($all, $pos + 5 + 18, $len - 4 - 18) } if $type eq 'd';
		$pos += 1 + $len;
	}
	return @answers;
}

sub in_order
{
	return join(' ', map { $_->{reqid} } @_) eq join(' ', 1000 .. 1000 + REQUESTS - 1);
}

my @before = ask();
ok(in_order(@before) && !(grep { $_->{kind} ne 'G' || length($_->{body}) != 2 + BLOCKS * BLCKSZ } @before), 'all pages before the damage');
isnt($before[0]{body}, $before[1]{body}, 'the pages are not all the same');

# Damages a byte at regular distances in the file with the images; the index at its end is left alone.
my ($file) = sort { -s $b <=> -s $a } glob($store->dir . '/tenants/*/timelines/*/layers/*');
my ($name) = $file =~ m{([^/]+)$};
my @damaged;

sub damage
{
	open(my $fh, '+<:raw', $file) || die "$file: $!";
	for my $offset (@damaged)
	{
		sysseek($fh, $offset, 0);
		sysread($fh, my $byte, 1);
		sysseek($fh, $offset, 0);
		syswrite($fh, chr(ord($byte) ^ 0x10));
	}
	close $fh;
}

my (@good, @bad);
for (my $phase = 9000; $phase < 60000 && !(@good && @bad); $phase += 5000)
{
	@damaged = map { $phase + 60000 * $_ } 0 .. ((-s $file) - 200000) / 60000 - 1;
	damage();
	my @answers = ask();
	damage();
	@good = grep { $_->{kind} eq 'G' } @answers;
	@bad = grep { $_->{kind} eq 'E' } @answers;
	ok(in_order(@answers), "damage at $phase: each request has its answer, in order");
	is(scalar(grep { $_->{body} ne $before[ $_->{reqid} - 1000 ]{body} } @good), 0, 'pages that are returned are right');
	is(scalar(grep { $_->{body} !~ /^XX001.*relation 1663\/5\/1255.*\Q$name\E" is damaged at offset \d+/s } @bad), 0, 'errors name relation, file and offset');
}
ok(@good && @bad, 'some requests have an error, others have pages');
note(scalar(@good) . ' good, ' . scalar(@bad) . ' bad');
my @after = ask();
is(scalar(grep { $after[$_]{body} ne $before[$_]{body} } 0 .. REQUESTS - 1), 0, 'all pages are right when the damage is undone');

$store->stop;
done_testing();
