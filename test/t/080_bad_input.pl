# Invalid input on the command line, on the store's port, in WAL and in files on disk: each kind gets a
# clear error that names the problem. Nothing is lost, and reads of other data continue.
use strict;
use warnings;
use IO::Socket::UNIX;
use Manifest;
use PageserverTest;
use Test::More;

my $dir = PageserverTest::test_dir();
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
$store->ctl_ok('another branch', 'branch', 'create', 'other');
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t AS SELECT generate_series(1, 1000) i');

sub still_answers
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($rc) = $store->command('branch_list');
	is($rc, 0, "$what: the store still answers");
	$c->sql_is('INSERT INTO t VALUES (1); SELECT count(*) > 0 FROM t', 't', "$what: the compute still works");
}

# ---- pageserver_ctl ----
$store->ctl_fails_like(qr/"nosuch" does not exist/, 'a branch that does not exist', 'compute', 'start', 'nosuch', '-D', "$dir/c1", '-p', PageserverTest::free_port());
ok(!-e "$dir/c1", 'a failed start leaves no directory');
$store->ctl_fails_like(qr/"nosuch" does not exist/, 'an export of a branch that does not exist', 'export', 'nosuch', '-D', "$dir/e1");
$store->ctl_fails_like(qr/exists already/, 'a branch name that is taken', 'branch', 'create', 'main');
$store->ctl_fails_like(qr/cannot be the name/, 'an invalid branch name', 'branch', 'create', 'a/../b');
mkdir "$dir/full";
PostgreSQL::Test::Utils::append_to_file("$dir/full/precious", "data\n");
$store->ctl_fails_like(qr/not empty|no compute/, 'a compute directory that is not empty', 'compute', 'start', 'main', '-D', "$dir/full", '-p', PageserverTest::free_port());
$store->ctl_fails_like(qr/not empty/, 'an export directory that is not empty', 'export', 'main', '-D', "$dir/full");
is(PostgreSQL::Test::Utils::slurp_file("$dir/full/precious"), "data\n", 'the directory that is not empty is unchanged');
$store->ctl_fails_like(qr/not empty/, 'init of a directory that is not empty', 'init', '-D', "$dir/full");
$store->ctl_fails_like(qr/port/i, 'a compute on a port in use', 'compute', 'start', 'other', '-D', "$dir/c2", '-p', $c->port, '-o', "-c unix_socket_directories=$dir");
$store->ctl_fails_like(qr/unknown|unrecognized|invalid|help/i, 'a command that does not exist', 'frobnicate');
$store->ctl_fails_like(qr/unknown|unrecognized|invalid|help/i, 'an option that does not exist', 'branch', 'list', '--frobnicate');

my $second = PageserverTest->new_store('second', start => 0, conf => 'port = ' . $store->port . "\nunix_socket_directory = '" . $store->dir . "'\n");
$second->ctl_fails_like(qr/in use|another server is listening/, 'a store on a port in use', 'start', '-D', $second->dir, '-l', "$dir/second.log");
PostgreSQL::Test::Utils::append_to_file($second->dir . '/pageserver.conf', "frobnicate = 1\n");
$second->ctl_fails_like(qr/frobnicate/, 'a setting that does not exist', 'start', '-D', $second->dir, '-l', "$dir/second.log");
my $third = PageserverTest->new_store('third', start => 0);
unlink $third->dir . '/PAGESERVER_VERSION';
PostgreSQL::Test::Utils::append_to_file($third->dir . '/PAGESERVER_VERSION', "99\n");
$third->ctl_fails_like(qr/99/, 'a store of a newer format', 'start', '-D', $third->dir, '-l', "$dir/third.log");
still_answers('after mistakes with pageserver_ctl');

# ---- the port ----
sub connect_raw
{
	return IO::Socket::UNIX->new(Peer => $store->dir . '/.s.PGSQL.' . $store->port) || die "connect: $!";
}

sub slurp_socket
{
	my ($s) = @_;
	my $all = '';
	local $SIG{ALRM} = sub { die "no answer\n" };
	alarm 30;
	while (sysread($s, my $buf, 8192)) { $all .= $buf; }
	alarm 0;
	return $all;
}

my $seed = $ENV{PAGESERVER_SEED} // time;
srand($seed);
note("seed $seed");
for my $round (1 .. 50)
{
	my $s = connect_raw();
	local $SIG{PIPE} = 'IGNORE';
	syswrite($s, join('', map { chr(int(rand(256))) } 1 .. 1 + int(rand(2000))));
	shutdown($s, 1);
	slurp_socket($s);
	close $s;
}
pass('garbage ends connections');
{
	my $s = connect_raw();
	syswrite($s, pack('NN', 0x7fffffff, 196608));
	ok(defined slurp_socket($s), 'an absurd length ends the connection');
}
still_answers('after garbage');

# A session of the protocol: startup, one query, then @messages as CopyData.
sub session
{
	my ($query, @messages) = @_;
	my $s = connect_raw();
	my $params = "user\0postgres\0database\0store\0\0";
	syswrite($s, pack('NN', 8 + length($params), 196608) . $params);
	syswrite($s, 'Q' . pack('N', 5 + length($query)) . "$query\0");
	syswrite($s, 'd' . pack('N', 4 + length($_)) . $_) for @messages;
	shutdown($s, 1);
	return slurp_socket($s);
}

like(session('frobnicate'), qr/frobnicate/, 'an unknown command is named');
like(session('pagestream x y z'), qr/\0/, 'a pagestream with invalid ids');
like(session('pagestream ' . ('0' x 32) . ' ' . ('0' x 32) . ' 1'), qr/PS002/, 'a pagestream of a timeline that does not exist');

my ($rc, $list) = $store->command('branch_list');
my ($tenant) = $list =~ /([0-9a-f]{32})/;
my %id;
for my $path (glob "$store->{dir}/tenants/*/timelines/*")
{
	$id{ Manifest::state($path)->{name} } = [ $path =~ m{tenants/([0-9a-f]{32})/timelines/([0-9a-f]{32})} ];
}
like(session("pagestream @{$id{main}} 0", "n\1garbage"), qr/too short/, 'a message that is too short');
like(session("pagestream @{$id{main}} 0", "g\7" . ("\0" x 24)), qr/version/, 'a message of another version');
# a page at an invalid LSN, and many blocks
like(session("pagestream @{$id{main}} 0", pack('CCNNNNNNNNNCnN', ord('g'), 1, 0, 1, 0xffffffff, 0xffffffff, 0x7fffffff, 0, 1663, 5, 1259, 0, 1, 0)), qr/but the request depends on/, 'an LSN from the future');
like(session("pagestream @{$id{main}} 0", pack('CCNNNNNNNNNCn', ord('g'), 1, 0, 1, 0xffffffff, 0xffffffff, 0, 0, 1663, 5, 1259, 0, 65535)), qr/out of range/, 'too many blocks');
like(session("wal_push @{$id{main}} 99"), qr/generation/, 'WAL of a generation that does not exist');
still_answers('after bad messages');

# WAL with a gap, and bytes that are not WAL, sent to a branch of their own
my $other = $store->start_compute('other');
$other->sql('CREATE TABLE t AS SELECT generate_series(1, 1000) i');
$other->stop;
sub wal_message
{
	my ($lsn, $data) = @_;
	return 'w' . pack('NNNNNN', $lsn >> 32, $lsn & 0xffffffff, $lsn >> 32, $lsn & 0xffffffff, 0, 0) . $data;
}
my ($generation) = ($store->command('branch_list'))[1] =~ /^other\|[^|]*\|[^|]*\|[^|]*\|(\d+)/m;
my $where = session("wal_push @{$id{other}} $generation");
my $at = index($where, 'd', index($where, 'W'));
my ($hi, $lo) = unpack('NN', substr($where, $at + 5 + 1 + 8, 8));
my $flushed = $hi << 32 | $lo;
cmp_ok($flushed, '>', 0, sprintf('the store says where to continue: %X/%X', $hi, $lo));
like(session("wal_push @{$id{other}} $generation", wal_message($flushed + 8192, 'x' x 100)), qr/was sent, expected/, 'a gap in WAL');
like(session("wal_push @{$id{other}} $generation", wal_message($flushed, 'x' x 3000)), qr/C[^\0]*XX001|C[^\0]*08P01|invalid|expected/i, 'bytes that are not WAL');
my ($hdr) = '';
like(session("wal_push @{$id{other}} $generation", wal_message($flushed, pack('VVVVCCvV', 100, 0, 0, 0, 0, 0, 0, 0) . ("\0" x 200))), qr/expected|invalid|CRC|checksum/i, 'a record with a wrong CRC');
$other = $store->start_compute('other');
$other->sql_is('SELECT count(*) FROM t', '1000', 'the branch is unchanged after bad WAL');
$other->sql('INSERT INTO t VALUES (1)');
$other->stop;
still_answers('after bad WAL');

# ---- damage on disk: an error that names the file, never a wrong page ----
$c->stop;
my ($other_row) = grep { /^other\|/ } split /\n/, ($store->command('branch_list'))[1];
my ($end_hi, $end_lo) = (split /\|/, $other_row)[8] =~ /(.*)\/(.*)/;
$store->stop;

# Damaged WAL that was acknowledged: the branch waits for its file to be restored, and is then unchanged.
my $wal = sprintf("$store->{dir}/tenants/$id{other}[0]/timelines/$id{other}[1]/wal/00000001%08X%08X", hex($end_hi), hex($end_lo) >> 24);
open my $w, '+<:raw', $wal or die "$wal: $!";
seek $w, (hex($end_lo) & 0xffffff) - 64, 0;
read $w, my $bytes, 64;
seek $w, (hex($end_lo) & 0xffffff) - 64, 0;
print $w ~$bytes;
close $w;
$store->start;
unlike(($store->command('branch_list'))[1], qr/acknowledged/, 'a branch that nobody uses is not checked');
$store->ctl_fails_like(qr/"other" is not served.*\Q$wal\E/s, 'damaged WAL is named, and its branch is not served', 'compute', 'start', 'other', '-D', PageserverTest::test_dir() . '/damaged');
like(($store->command('branch_list'))[1], qr/^other\|.*\Q$wal\E.*acknowledged up to \Q$end_hi\/$end_lo\E/m, 'from then on the branch list shows the damage');
$c = $store->start_compute('main');
$c->sql_is('SELECT count(*) > 0 FROM t', 't', 'the other branch is served while WAL is damaged');
$c->stop;
$store->stop;
open $w, '+<:raw', $wal or die "$wal: $!";
seek $w, (hex($end_lo) & 0xffffff) - 64, 0;
print $w $bytes;
close $w;
$store->start;
$other = $store->start_compute('other');
$other->sql_is('SELECT count(*) FROM t', '1001', 'the branch is unchanged when its WAL is restored');
$other->stop;
$store->stop;

my ($layer) = glob "$store->{dir}/tenants/$id{other}[0]/timelines/$id{other}[1]/layers/*";
open my $f, '+<:raw', $layer or die;
seek $f, 0, 0;
print $f 'damaged!';
close $f;
$store->start;
$store->ctl_fails_like(qr/"other" is not served.*\Q$layer\E/s, 'the branch of a damaged layer file is not served', 'compute', 'start', 'other', '-D', PageserverTest::test_dir() . '/damaged');
like($store->ctl_ok('branch list', 'branch', 'list'), qr/^other .*\Q$layer\E/m, 'the branch list names the layer file');
like($store->log_content, qr/\Q$layer\E/, 'the log names the layer file');
$store->ctl_fails_like(qr/exists already/, 'the name of a damaged branch is taken', 'branch', 'create', 'other');
$c = $store->start_compute('main');
$c->sql_is('SELECT count(*) FROM pg_class WHERE relname = \'pg_class\'', '1', 'the other branch is served while a layer file is damaged');
$c->stop;
$store->stop;

# An invalid manifest: the name of the branch is not known.
my $manifest = "$store->{dir}/tenants/$id{other}[0]/timelines/$id{other}[1]/timeline.log";
PostgreSQL::Test::Utils::append_to_file($manifest, "x\n");
$store->start;
like($store->ctl_ok('branch list', 'branch', 'list'), qr/\Q$manifest\E/, 'a damaged manifest is named');
$c = $store->start_compute('main');
$c->sql_is('SELECT count(*) FROM pg_class WHERE relname = \'pg_class\'', '1', 'the other branch is served while a manifest is damaged');
$c->stop;
$store->stop;
done_testing();
