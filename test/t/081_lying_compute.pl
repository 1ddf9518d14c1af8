# A compute that lies. Whatever a client of the store's port sends for its own branch, it gets errors that
# name the problem. It cannot touch another branch, it can use only bounded resources, and the computes of
# other branches do not notice: the latency of their answers is measured meanwhile.
use strict;
use warnings;
use IO::Select;
use IO::Socket::UNIX;
use IPC::Run ();
use PageserverTest;
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Test::More;
use Time::HiRes qw(time usleep);

# The longest that a query of another compute may take meanwhile, and the memory that the store may gain
# in total.
my $limit_ms = 2000;
my $limit_mb = $ENV{SANITIZE_LOGS} ? 2000 : 300;	# the address sanitizer keeps what is freed for a while

my $dir = PageserverTest::test_dir();
my $store = PageserverTest->new_store('main', conf => "max_connections = 60\nwait_timeout = 1s\n");
$store->ctl_ok("branch $_", 'branch', 'create', $_) for qw(honest liar);
my $honest = $store->start_compute('honest', conf => "shared_buffers = 1MB\npageserver_smgr.cache_size = 1MB\n");
my $liar = $store->start_compute('liar');
$_->sql("CREATE TABLE t (i int PRIMARY KEY, a text); INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i")
  for $honest, $liar;
my $filenode = $liar->sql("SELECT pg_relation_filenode('t')");
my $database = $liar->sql("SELECT oid FROM pg_database WHERE datname = 'postgres'");
$liar->stop;

my %branch;
for (split /\n/, ($store->command('branch_list'))[1])
{
	my @column = split /\|/;
	$branch{ $column[0] } = { tenant => $column[1], timeline => $column[2], generation => $column[4], flushed => lsn($column[8]) };
}
my $l = $branch{liar};

sub lsn { my ($hi, $lo) = split /\//, $_[0]; return hex($hi) << 32 | hex($lo); }
sub lsn_text { return sprintf('%X/%X', $_[0] >> 32, $_[0] & 0xffffffff); }

# ---- the protocol ----
sub connect_raw
{
	return IO::Socket::UNIX->new(Peer => $store->dir . '/.s.PGSQL.' . $store->port) || die "connect: $!";
}

sub startup
{
	my $params = "user\0postgres\0database\0store\0\0";
	return pack('NN', 8 + length($params), 196608) . $params;
}

sub query    { return 'Q' . pack('N', 5 + length($_[0])) . "$_[0]\0"; }
sub copydata { return 'd' . pack('N', 4 + length($_[0])) . $_[0]; }

sub slurp_socket
{
	my ($s) = @_;
	my $all = '';
	local $SIG{ALRM} = sub { die "no answer\n" };
	alarm 60;
	while (sysread($s, my $buf, 65536)) { $all .= $buf; }
	alarm 0;
	return $all;
}

# A conversation from startup to the end; returns everything that the store sent.
sub converse
{
	my ($command, @messages) = @_;
	my $s = connect_raw();
	local $SIG{PIPE} = 'IGNORE';
	my $all = startup() . query($command) . join('', map { copydata($_) } @messages) . 'c' . pack('N', 4) . 'X' . pack('N', 4);
	my $sent = 0;
	while ($sent < length $all)
	{
		my $n = syswrite($s, $all, 65536, $sent) or last;
		$sent += $n;
	}
	return slurp_socket($s);
}

my $latest = "\xff" x 8;
sub pages
{
	my ($request_lsn, $since, $rel, $fork, @blocks) = @_;
	return pack('CCQ>', ord('g'), 1, 7) . ($request_lsn eq 'latest' ? $latest : pack('Q>', $request_lsn)) .
	  ($since eq 'latest' ? $latest : pack('Q>', $since)) . pack('NNNCn', 1663, $database, $rel, $fork, scalar @blocks) . pack('N*', @blocks);
}

sub wal_message { my ($lsn, $data) = @_; return 'w' . pack('Q>Q>Q>', $lsn, $lsn + length($data), 0) . $data; }

# ---- WAL records with the right checksum ----
my @crc_table = map { my $c = $_; for (1 .. 8) { $c = $c & 1 ? ($c >> 1) ^ 0x82F63B78 : $c >> 1; } $c } 0 .. 255;
sub crc32c
{
	my $crc = 0xffffffff;
	$crc = $crc_table[ ($crc ^ $_) & 0xff ] ^ ($crc >> 8) for unpack('C*', $_[0]);
	return $crc ^ 0xffffffff;
}

sub record
{
	my ($prev, $rmid, $info, $xid, $body) = @_;
	my $head = pack('VVQ<CCv', 24 + length($body), $xid, $prev, $info, $rmid, 0);
	return $head . pack('V', crc32c($body . $head)) . $body;
}

# The bytes of a stream, from an LSN on, that contain the record, including the headers of the pages that
# it reaches.
sub stream
{
	my ($lsn, $record) = @_;
	my ($out, $done) = ('', 0);
	while ($done < length $record)
	{
		if ($lsn % 8192 == 0)
		{
			$lsn % (16 << 20) != 0 or die 'a segment begins here';
			my $left = $done > 0 ? length($record) - $done : 0;
			$out .= pack('vvVQ<VV', 0xD110, $left > 0 ? 1 : 0, 1, $lsn, $left, 0);
			$lsn += 24;
		}
		my $n = 8192 - $lsn % 8192;
		$n = length($record) - $done if $n > length($record) - $done;
		$out .= substr($record, $done, $n);
		$done += $n;
		$lsn += $n;
	}
	return $out . "\0" x (-$lsn % 8);
}

# A heap insertion into a block, which redo cannot apply.
sub nonsense_insert
{
	my ($prev, $block) = @_;
	my $data = "\xee" x 60;
	return record($prev, 10, 0, 800, pack('CCvVVVVCC', 0, 0x20, length($data), 1663, $database, $filenode, $block, 255, 3) . $data . pack('vC', 4000, 0));
}

# ---- the other computes ----
PostgreSQL::Test::Utils::append_to_file("$dir/honest.sql", "\\set i random(1, 20000)\nSELECT a FROM t WHERE i = :i;\nUPDATE t SET a = repeat('y', 100) WHERE i = :i;\n");
my $pid = $store->{pid};
sub memory_mb { return (PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /VmRSS:\s+(\d+)/)[0] / 1024; }
sub threads { my @t = glob "/proc/$pid/task/*"; return scalar @t; }
sub files { my @f = glob "/proc/$pid/fd/*"; return scalar @f; }

# Repeats an attack while the honest compute reads from the store and commits; checks the longest time
# that this took.
sub meanwhile
{
	my ($what, $attack, @options) = @_;
	my $rounds = 0;
	my $out = '';
	my $seconds = 2;
	my $pgbench = IPC::Run::start [ PageserverTest::bindir() . '/pgbench', '-n', '-c', '2', '-T', $seconds, '-L', $limit_ms, '-f', "$dir/honest.sql", @options,
		'-h', $honest->{host}, '-p', $honest->{port}, '-U', 'postgres', 'postgres' ], '<', \undef, '>&', \$out;
	my $end = time + $seconds;
	while (time < $end) { $attack->(); $rounds++; }
	$pgbench->finish;
	my ($late) = $out =~ /above the .* latency limit: (\d+)/;
	my ($n) = $out =~ /transactions actually processed: (\d+)/;
	ok($pgbench->result(0) == 0 && $n > 10 && $late == 0, "$what: the honest compute's transactions continue")
	  or diag($out . $store->log_tail);
	note("$what: $rounds rounds, $n transactions, " . ($out =~ /(latency average = .*)/)[0] . sprintf(', store %d MB, %d threads', memory_mb(), threads()));
}

meanwhile('nothing', sub { usleep(100_000) });
my ($memory, $threads, $files) = (memory_mb(), threads(), files());

# ---- page streams ----
my $stream = "pagestream $l->{tenant} $l->{timeline} $l->{generation}";
my $future = $l->{flushed} + (1 << 36);
my $one = pages('latest', 0, $filenode, 0, 0);
like(converse($stream, pages('latest', $future, $filenode, 0, 0)), qr/has WAL up to \Q@{[lsn_text($l->{flushed})]}\E, but the request depends on \Q@{[lsn_text($future)]}\E/, 'an LSN from the future is named');
like(converse($stream, pages('latest', $l->{flushed} + 8, $filenode, 0, 0)), qr/E[^\0]*@{[lsn_text($l->{flushed} + 8)]}/, 'an LSN from the near future: the wait is limited');
like(converse($stream, pages(0x1000, 0, $filenode, 0, 0)), qr/begins at [0-9A-F]+\/[0-9A-F]+, but LSN 0\/1000 was requested/, 'an LSN before the beginning is named');
like(converse($stream, pages(0x1000, 0x2000, $filenode, 0, 0)), qr/0\/1000.*0\/2000/, 'LSNs that contradict each other');
unlike(converse($stream, pages('latest', 0, $filenode, 0, 0xfffffffe, 0xffffffff, 100000)), qr/[^\x01-\x7e]E[^\0]*XX/, 'blocks beyond the end, and beyond the largest possible, are zeros');
like(converse($stream, pages('latest', 0, $filenode, 9, 0)), qr/fork number is out of range/, 'a fork that does not exist');
like(converse($stream, pages('latest', 0, $filenode, 0, (0) x 129)), qr/number of blocks is out of range/, 'a batch that is too large');
my $h = $branch{honest};
like(converse("pagestream $l->{tenant} $h->{timeline} 1", $one), qr/PS002.*\Q$h->{timeline}\E/s, 'a timeline of another tenant is not found');
like(converse("pagestream $h->{tenant} $l->{timeline} 1", $one), qr/PS002.*\Q$l->{timeline}\E/s, 'a timeline under a wrong tenant is not found');
like(converse("pagestream $l->{tenant} $l->{timeline} " . ($l->{generation} + 1), $one), qr/generation/, 'a generation that does not exist');
like(converse("wal_push $l->{tenant} $h->{timeline} 1"), qr/PS002/, 'WAL for a timeline of another tenant');

like(converse('fullbackup liar lsn FFFFFFFF/0'), qr/\0M[^\0]*FFFFFFFF\/0/, 'a backup at an LSN in the future');
like(converse('fullbackup liar lsn 0/1000'), qr/\0M[^\0]*begins at [^\0]*0\/1000/, 'a backup at an LSN before the beginning');
like(converse("fullbackup 'no\nforged line\n\e[31m'"), qr/does not exist/, 'a name with line breaks does not exist');
like($store->log_content, qr/no\?forged line/, 'a name with line breaks is in the log');
unlike($store->log_content, qr/^forged line|\e/m, 'a name with line breaks cannot forge log lines');

meanwhile('nonsense requests', sub {
	converse($stream, map { (pages('latest', $future, $filenode, 0, 0), pages(0x1000, 0, $filenode, 0, 1), pages('latest', 0, int(rand(1 << 32)), 3, map { int(rand(1 << 32)) } 1 .. 128)) } 1 .. 20);
});

# Huge batches whose answers nobody reads: each connection is blocked, with no more than a few batches in
# memory.
{
	my @sockets;
	meanwhile('huge batches', sub {
		return usleep(50_000) if @sockets >= 25;
		my $s = connect_raw();
		setsockopt($s, SOL_SOCKET, SO_RCVBUF, 4096);
		$s->blocking(0);
		my $all = startup() . query($stream) . copydata(pages('latest', 0, $filenode, 0, 0 .. 127)) x 500;
		syswrite($s, $all);
		push @sockets, $s;
	});
	cmp_ok(memory_mb() - $memory, '<', $limit_mb, 'huge batches: memory is bounded');
	close $_ for @sockets;
}

# ---- connections that never begin, or never continue ----
{
	my @sockets;
	# Each transaction of the other computes uses a connection of its own, whose backend needs a
	# connection to the store.
	meanwhile('half-open connections', sub {
		if (@sockets < 600)
		{
			my $s = connect_raw();
			syswrite($s, pack('N', 100) . "\0\3") if @sockets % 2 == 0;
			push @sockets, $s;
		}
		usleep(2000);
	}, '-C');
	cmp_ok(scalar(@sockets), '>', 100, 'many were opened');
	cmp_ok(threads() - $threads, '<', 150, 'half-open connections: threads are bounded');
	is(($store->command('status'))[0], 0, 'half-open connections: another client gets in');
	my $again = $store->start_compute('liar', name => 'besides');
	$again->sql_is('SELECT count(*) FROM t', '20000', 'half-open connections: a compute starts');
	$again->stop;
	close $_ for @sockets;
}
PageserverTest::wait_until(sub { threads() <= $threads + 5 }, 'threads to end');
PageserverTest::wait_until(sub { files() <= $files + 10 }, 'files to be closed');
pass('the numbers of threads and files are as before');

# More sessions than are allowed: each gets an error, but idle ones make room.
{
	my @sockets = map { my $s = connect_raw(); syswrite($s, startup()); $s } 1 .. 110;
	my ($refused, $ended) = (0, 0);
	for my $s (@sockets)
	{
		sysread($s, my $answer, 4096);
		$refused++ if $answer =~ /53300.*too many connections: there are 100 besides/s;
		$ended++ if $answer =~ /57P05.*terminating idle connection/s;
	}
	usleep(1_100_000);
	is(($store->command('status'))[0], 0, 'another client gets in while the number of sessions is at its limit') for 1 .. 5;
	for my $s (@sockets)
	{
		my $r = '';
		vec($r, fileno $s, 1) = 1;
		next if !select($r, undef, undef, 0) || !sysread($s, my $answer, 4096);
		$ended++ if $answer =~ /57P05.*terminating idle connection/s;
	}
	cmp_ok($refused + $ended, '>=', 10, "sessions beyond the limit get an error ($refused refused, $ended ended)");
	close $_ for @sockets;
}
PageserverTest::wait_until(sub { threads() <= $threads + 5 }, 'threads to end');

# ---- WAL ----
# The additional compute has raised the generation.
my $old_generation = $l->{generation};
my ($row) = grep { /^liar\|/ } split /\n/, ($store->command('branch_list'))[1];
my @column = split /\|/, $row;
$l->{generation} = $column[4];
$l->{flushed} = lsn($column[8]);
cmp_ok($l->{generation}, '>', $old_generation, 'a newer compute has raised the generation');
my ($wal) = reverse sort glob $store->dir . "/tenants/$l->{tenant}/timelines/$l->{timeline}/wal/0*";
my ($records) = PostgreSQL::Test::Utils::run_command([ PageserverTest::bindir() . '/pg_waldump', '-s', lsn_text($l->{flushed} - 0x2000), $wal ]);
my ($last) = $records =~ /.*lsn: ([0-9A-F]+\/[0-9A-F]+)/s or die $records;
my $prev = lsn($last);
cmp_ok($prev, '<', $l->{flushed}, "the last record is at $last");
my $push = "wal_push $l->{tenant} $l->{timeline} $l->{generation}";
my $start = $l->{flushed} % 8192 == 0 ? $l->{flushed} + 24 : $l->{flushed};

like(converse("wal_push $l->{tenant} $l->{timeline} $old_generation", wal_message($l->{flushed}, stream($l->{flushed}, nonsense_insert($prev, 0)))),
	qr/PS001.*generation/s, 'WAL of an older generation is refused');
like(converse($push, wal_message($l->{flushed}, stream($l->{flushed}, nonsense_insert($prev - 8, 0)))),
	qr/\Q@{[lsn_text($start)]}\E: record follows one at \Q@{[lsn_text($prev - 8)]}\E, expected 0*\Q@{[lsn_text($prev)]}\E/, 'a wrong pointer to the previous record is named');
like(converse($push, wal_message($l->{flushed} + (1 << 30), 'x' x 100)), qr/was sent, expected \Q@{[lsn_text($l->{flushed})]}\E/, 'WAL from the future');
like(converse($push, wal_message($l->{flushed} - 4096, 'x' x 100)), qr/was sent, expected \Q@{[lsn_text($l->{flushed})]}\E/, 'WAL that was acknowledged is not overwritten');
like(converse($push, wal_message($l->{flushed}, stream($l->{flushed}, pack('VVQ<CCvV', 0x3fffffff, 0, $prev, 0, 10, 0, 0) . "\0" x 100))),
	qr/record of 1073741823 bytes, expected 24 to 1073733631/, 'a record that is too long');

# A record that claims to have a gigabyte: only what has arrived is kept.
meanwhile('a record that never ends', sub {
	converse($push, wal_message($l->{flushed}, stream($l->{flushed}, pack('VVQ<CCvV', 0x3fff0000, 0, $prev, 0, 10, 0, 0) . "\0" x 1000)));
});
cmp_ok(memory_mb() - $memory, '<', $limit_mb, 'a record that never ends: memory is bounded');

# Valid in everything that can be checked on arrival, but redo cannot apply it: one page is lost to its
# own compute.
my $insert = stream($l->{flushed}, nonsense_insert($prev, 3));
my $said = converse($push, wal_message($l->{flushed}, $insert));
unlike($said, qr/XX001|08P01/, 'nonsense with a valid checksum is accepted');
my $after = $l->{flushed} + length $insert;
$stream = "pagestream $l->{tenant} $l->{timeline} $l->{generation}";
like(converse($stream, pages('latest', $after, $filenode, 0, 3)), qr/XX\w+.*redo.*@{[lsn_text($start)]}/s, 'its page cannot be reconstructed: the error names the record');
unlike(converse($stream, pages('latest', $after, $filenode, 0, 4)), qr/XX001/, 'another page can be reconstructed');
meanwhile('pages that redo cannot make', sub { converse($stream, (pages('latest', $after, $filenode, 0, 3)) x 20) });
like(converse($stream, pages($l->{flushed}, 0, $filenode, 0, 3)), qr/x{100}/, 'the page is not lost at an earlier LSN');

# a record that the store itself must interpret, and cannot
my $commit = stream($after, record($start, 1, 0x80, 801, pack('CC', 255, 9) . "\0" x 8 . "\xff"));
converse($push, wal_message($after, $commit));
my $bad = lsn_text($after % 8192 == 0 ? $after + 24 : $after);
like(converse($stream, pages('latest', $after + length $commit, $filenode, 0, 4)), qr/invalid WAL record at \Q$bad\E.*too short/s, 'a commit record of nonsense is named');
like(($store->command('branch_list'))[1], qr/^liar\|.*\Q$bad\E/m, 'the branch list names the bad record');
$store->ctl_fails_like(qr/\Q$bad\E/, 'a compute of that branch does not start', 'compute', 'start', 'liar', '-D', "$dir/no", '-p', PageserverTest::free_port());
like(($store->command('branch_list'))[1], qr/^liar\|(?:[^|]*\|){3}2\|/m, 'the failed start has not raised the generation');
$honest->sql_is('SELECT count(*) FROM t', '20000', 'the table of the honest compute is unchanged');

# ---- the same checks after a restart ----
$store->kill9;
$store->start;
$store->ctl('branch', 'compact', 'liar');	# a branch is opened when it is first used
PageserverTest::wait_until(sub { ($store->command('branch_list'))[1] =~ /^liar\|.*\Q$bad\E/m }, 'the bad record to be met again');
$honest->sql_is('UPDATE t SET a = i::text WHERE i = 7 RETURNING a', '7', 'the honest compute works after a restart');
my $next = $store->start_compute('honest', name => 'next', args => ['--takeover']);
$next->sql_is("SELECT count(*), max(a) FILTER (WHERE i = 7) FROM t", '20000|7', 'the store has all rows of the honest branch');
$next->stop;
done_testing();
