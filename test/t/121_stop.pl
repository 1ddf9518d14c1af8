# A store that is told to stop ends within seconds, whatever it is doing, and loses nothing that was
# acknowledged. It is stopped while computes write, layer files are written and merged, a backup is sent
# to a client that does not read, a database is copied, and branches are created, one waiting for ingest
# and one running initdb.
use strict;
use warnings;
use IPC::Run ();
use PageserverTest;
use Test::More;
use Time::HiRes qw(time);

# The time that a stop may take, on a machine that is busy with other things; the client of the backup is
# given 2 s.
my $limit = 10;
my $rounds = 3;

my $store = PageserverTest->new_store('main',
	conf => "checkpoint_distance = 1MB\ncompaction_threshold = 2\ncompaction_fanout = 2\ntarget_file_size = 1MB\ngc_horizon = 1MB\npitr_interval = 0\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE acked (client int, i int)');
$c->sql("CREATE TABLE filler AS SELECT i, repeat('x', 500) AS v FROM generate_series(1, 20000) i");
$c->sql('CREATE DATABASE big');
$c->sql("CREATE TABLE t AS SELECT i, repeat('y', 500) AS v FROM generate_series(1, 40000) i", db => 'big');

my $dir = PageserverTest::test_dir();
my $n = 0;
my @clients;

# Starts a psql that inserts one row after the other; each line in its file is an acknowledged row.
sub start_client
{
	my ($id, $connstr) = @_;
	my $script = "$dir/script$id";
	open my $f, '>', $script or die;
	print $f "UPDATE filler SET v = repeat(chr(65 + $_ % 26), 500) WHERE i % 1000 = $_ % 1000 \\g /dev/null\n" x ($id % 2)
	  . "INSERT INTO acked VALUES ($id, $_) RETURNING i;\n" for 1 .. 50000;
	close $f;
	my $client = { id => $id, file => "$dir/acked$id" };
	$client->{h} = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-A', '-t', '-q', '-d', $connstr, '-f', $script ],
		'<', \undef, '>', $client->{file}, '2>', "$client->{file}.err");
	push @clients, $client;
}

sub acknowledged
{
	my ($client) = @_;
	open my $f, '<', $client->{file} or return 0;
	my @lines = grep { /^\d+$/ } <$f>;
	return @lines ? $lines[-1] + 0 : 0;
}

sub ctl_in_background
{
	my @args = @_;
	local $ENV{PAGESERVER_STORE} = $store->{dir};
	return IPC::Run::start([ PageserverTest::bindir() . '/pageserver_ctl', @args ], '<', \undef, '>', "$dir/background.out", '2>', "$dir/background.err");
}

for my $round (1 .. $rounds)
{
	start_client(++$n, $c->connstr) for 1 .. 3;
	PageserverTest::wait_until(sub { acknowledged($clients[-1]) > 10 && acknowledged($clients[-3]) > 10 }, 'the clients to write');
	my $merges = () = $store->log_content =~ /merged \d+ files/g;

	# a client that reads the beginning of a backup, and no more
	my $out = '';
	pipe(my $read, my $write) or die;
	my $backup = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-h', $store->{dir}, '-p', $store->{port}, '-U', 'postgres', '-d', 'store', '-c', 'fullbackup main' ],
		'<', \undef, '>', $write, '2>', "$dir/backup.err");
	close $write;
	sysread $read, $out, 10000;

	# a copy of a database, which takes ingest a while; a branch that waits for that; a new cluster
	my $copy = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-q', '-d', $c->connstr, '-c', "CREATE DATABASE copy$round TEMPLATE big STRATEGY FILE_COPY" ],
		'<', \undef, '>', "$dir/copy.out", '2>&1');
	my $fresh = ctl_in_background('branch', 'create', "fresh$round");
	my $branch = ctl_in_background('branch', 'create', "b$round", '--from', 'main');
	PageserverTest::wait_until(sub { my @dirs = glob "$store->{dir}/tmp/initdb-*"; @dirs > 0 }, 'initdb') if $round == 1;
	PageserverTest::wait_until(sub { my $m = () = $store->log_content =~ /merged \d+ files/g; $m > $merges }, 'files to be merged') if $round == 2;
	$copy->finish if $round == 3;

	my $begin = time;
	$store->stop;
	my $took = time - $begin;
	cmp_ok($took, '<', $limit, sprintf('round %d: the stop took %.1f s', $round, $took));
	close $read;
	$_->kill_kill for $backup, $fresh, $branch;
	my @left = grep { -r "/proc/$_/cmdline" && do { open my $f, '<', "/proc/$_/cmdline"; local $/; (<$f> // '') =~ /\Q$store->{dir}\E\/tmp/ } }
	  map { m{/(\d+)$} } glob '/proc/[0-9]*';
	is(scalar @left, 0, 'no process that the store had started is left');
	unlike(substr($store->log_content, -3000), qr/exiting without closing|sessions are still working/, 'all sessions have ended');
	$store->start;
	my %now = map { $_->{id} => acknowledged($_) } @clients[-3 .. -1];
	PageserverTest::wait_until(sub { !grep { acknowledged($_) <= $now{ $_->{id} } } @clients[-3 .. -1] }, 'the clients to continue');
	$_->{h}->kill_kill for @clients[-3 .. -1];
	$copy->finish if $round < 3;
}
my %acked = map { $_->{id} => acknowledged($_) } @clients;
sub check
{
	my ($what) = @_;
	for my $id (sort { $a <=> $b } keys %acked)
	{
		my ($rows, $max) = split /\|/, $c->sql("SELECT count(*), max(i) FROM acked WHERE client = $id");
		ok($rows >= $acked{$id} && $rows == $max, "$what: client $id has its $acked{$id} rows") or diag("rows $rows, newest $max");
	}
}
check('the compute');
$c->stop('immediate');
$c = $store->start_compute('main');
check('a new compute');
$c->sql_is('SELECT count(*) FROM filler', '20000', 'the other table has all its rows');
$c->stop;
$store->stop;
unlike($store->log_content, qr/PANIC|upkeep of layer files failed/, 'no PANIC and no failed upkeep in the log of the store');
done_testing();
