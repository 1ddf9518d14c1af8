# A read at a past LSN holds a lease on that LSN. Its data does not change although the retention window
# moves on, and becomes garbage when the lease ends.
use strict;
use warnings;
use IO::Socket::UNIX;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 1MB\ntarget_file_size = 1MB\npitr_interval = 0\ngc_horizon = 0\npage_cache_size = 0\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my @id = (split(/\|/, ($store->command('branch_list'))[1]))[ 1, 2 ];
my $c = $store->start_compute('main', conf => "autovacuum = off\n");
$c->sql("CREATE TABLE t (id int, v text) WITH (fillfactor = 40); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
my $rel = $c->sql("SELECT relfilenode FROM pg_class WHERE relname = 't'");
my $db = $c->sql("SELECT oid FROM pg_database WHERE datname = current_database()");

sub message { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body; }

# A page stream, with a lease or without one.
sub open_stream
{
	my ($lease) = @_;
	my $s = IO::Socket::UNIX->new(Peer => $store->dir . '/.s.PGSQL.' . $store->port) || die "connect: $!";
	my $params = "user\0postgres\0database\0store\0\0";
	syswrite $s, pack('NN', 8 + length($params), 196608) . $params . message('Q', "pagestream @id 0 $lease\0");
	return $s;
}

# The next message of one of these types.
sub next_message
{
	my ($s, $types) = @_;
	local $SIG{ALRM} = sub { die "no answer\n" };
	alarm 60;
	while (1)
	{
		my ($head, $body) = ('', '');
		sysread($s, $head, 5 - length $head, length $head) or die 'the connection has ended' while length $head < 5;
		my ($type, $len) = unpack 'aN', $head;
		sysread($s, $body, $len - 4 - length $body, length $body) or die 'the connection has ended' while length $body < $len - 4;
		next if $type !~ /[$types]/;
		alarm 0;
		return ($type, $body);
	}
}

# Returns a page at an LSN, or the message of the error.
sub page
{
	my ($s, $lsn, $block) = @_;
	my ($hi, $lo) = $lsn =~ m{(.*)/(.*)};
	syswrite $s, message('d', pack('CCQ>Q>Q>NNNCnN', ord('g'), 1, 1, hex($hi) << 32 | hex($lo), 0, 1663, $db, $rel, 0, 1, $block));
	my ($type, $body) = next_message($s, 'd');
	return substr($body, 20) if substr($body, 0, 1) eq 'G';
	return substr($body, 18);
}

my $lsn = $c->sql('SELECT pg_current_wal_flush_lsn()');
my $holder = open_stream($lsn);
is((next_message($holder, 'WE'))[0], 'W', 'a lease is granted');
my @before = map { page($holder, $lsn, $_) } 0 .. 50;
is(scalar(grep { length != 8192 } @before), 0, 'pages can be read under the lease');

sub churn
{
	$c->sql("UPDATE t SET v = md5(v)") for 1 .. 6;
	$c->sql('VACUUM t; SELECT pg_switch_wal()');
	$store->ctl_ok('compact', 'branch', 'compact', 'main');
}
sub layer_bytes
{
	my $bytes = 0;
	$bytes += -s $_ for glob $store->dir . '/tenants/*/timelines/*/layers/*';
	return $bytes;
}

churn();
my @after = map { page($holder, $lsn, $_) } 0 .. 50;
is_deeply(\@after, \@before, 'the pages are the same when the window has moved on');
my $before_lsn = sprintf('%X/%X', map { $_ } hex(($lsn =~ m{(.*)/})[0]), hex(($lsn =~ m{/(.*)})[0]) - 8);
my $stream = open_stream('');
like(page($stream, $before_lsn, 0), qr/can be read from/, 'an LSN without a lease is outside the window');
my ($type, $body) = next_message(open_stream($before_lsn), 'WE');
ok($type eq 'E' && $body =~ /can be read from/, 'an LSN outside the window cannot get a lease');
($type) = next_message(open_stream('0/0'), 'WE');
is($type, 'E', 'an invalid LSN cannot get a lease');

my $held = layer_bytes();
close $holder;
PageserverTest::wait_until(sub { page($stream, $lsn, 0) =~ /can be read from/ }, 'the lease ends with its stream');
churn();
my $free = layer_bytes();
diag(sprintf 'layers: %d kB under the lease, %d kB without it', $held / 1024, $free / 1024);
cmp_ok($free, '<', $held, 'the garbage that the lease kept is removed');
$c->sql_is('SELECT count(*) FROM t', '20000', 'the table has all its rows');
$c->stop;
$store->stop;
done_testing();
