# A tenant that is detached while it is busy is released within seconds, loses nothing that was
# acknowledged, and its compute continues when it is attached again. It is busy with a compute that
# writes, layer files that are written and merged, a database that is copied, a backup that is sent to a
# client that does not read, a branch that is created, and a branch that is compacted.
use strict;
use warnings;
use IPC::Run ();
use PageserverTest;
use Test::More;
use Time::HiRes qw(time);

# The time that a detach may take, on a machine that is busy with other things.
my $limit = 10;

my $store = PageserverTest->new_store('main',
	conf => "checkpoint_distance = 1MB\ncompaction_threshold = 2\ncompaction_fanout = 2\ntarget_file_size = 1MB\ngc_horizon = 1MB\npitr_interval = 0\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE acked (i int)');
$c->sql("CREATE TABLE filler AS SELECT i, repeat('x', 500) AS v FROM generate_series(1, 20000) i");
$c->sql('CREATE DATABASE big');
$c->sql("CREATE TABLE t AS SELECT i, repeat('y', 500) AS v FROM generate_series(1, 40000) i", db => 'big');

my $dir = PageserverTest::test_dir();
my $psql = PageserverTest::bindir() . '/psql';

# one row after the other; each line in the file is an acknowledged row
open my $f, '>', "$dir/script" or die;
print $f "UPDATE filler SET v = repeat(chr(65 + $_ % 26), 500) WHERE i % 1000 = $_ % 1000 \\g /dev/null\nINSERT INTO acked VALUES ($_) RETURNING i;\n" for 1 .. 50000;
close $f;
my $writer = IPC::Run::start([ $psql, '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $c->connstr, '-f', "$dir/script" ],
	'<', \undef, '>', "$dir/acked", '2>', "$dir/acked.err");

sub acknowledged
{
	open my $file, '<', "$dir/acked" or return 0;
	my @lines = grep { /^\d+$/ } <$file>;
	return @lines ? $lines[-1] + 0 : 0;
}

sub store_command
{
	my ($command, $out) = @_;
	return IPC::Run::start([ $psql, '-X', '-A', '-t', '-h', $store->{dir}, '-p', $store->{port}, '-U', 'postgres', '-d', 'store', '-c', $command ],
		'<', \undef, '>', $out, '2>', "$dir/command.err");
}

for my $round (1 .. 3)
{
	my $begun = acknowledged();
	PageserverTest::wait_until(sub { acknowledged() > $begun + 10 }, 'the client to write');

	# a client that reads the beginning of a backup, and no more
	pipe(my $read, my $write) or die;
	my $backup = store_command('fullbackup main', $write);
	close $write;
	sysread $read, my $beginning, 10000;

	# a copy of a database, which takes ingest a while; a branch that waits for that; files that are
	# merged
	my $copy = IPC::Run::start([ $psql, '-X', '-q', '-d', $c->connstr, '-c', "CREATE DATABASE copy$round TEMPLATE big STRATEGY FILE_COPY" ],
		'<', \undef, '>', "$dir/copy.out", '2>&1');
	my $branch = store_command("branch_create b$round from main", "$dir/branch.out");
	my $compact = store_command('branch_compact main', "$dir/compact.out");
	PageserverTest::wait_until(sub { ($store->command('status'))[1] =~ /^connections\|(\d+)$/m && $1 >= 5 }, 'all to be at work') if $round == 1;

	my $begin = time;
	local $SIG{ALRM} = sub { die "the detach does not end\n" };
	alarm 60;
	$store->ctl_ok("detach, round $round", 'tenant', 'detach', 'main');
	alarm 0;
	my $took = time - $begin;
	cmp_ok($took, '<', $limit, sprintf('the detach took %.1f s', $took));
	$_->kill_kill for $backup, $branch, $compact;
	close $read;
	my @threads = map { do { open my $t, '<', "$_/comm"; <$t> // '' } } glob "/proc/$store->{pid}/task/*";
	is(scalar(grep { /main|b\d/ } @threads), 0, 'no thread of the tenant is left');
	is_deeply([ glob "$store->{dir}/tmp/*" ], [], 'no temporary files are left');
	my $acked = acknowledged();
	$store->ctl_ok('attach', 'tenant', 'attach', 'main');
	PageserverTest::wait_until(sub { acknowledged() > $acked + 3 }, 'the client to continue');
	$copy->finish;
	is($copy->result(0), 0, 'the copy of the database succeeds') or diag(PostgreSQL::Test::Utils::slurp_file("$dir/copy.out"));
}
$writer->kill_kill;
my $acked = acknowledged();

sub check
{
	my ($what) = @_;
	my ($rows, $max) = split /\|/, $c->sql('SELECT count(*), max(i) FROM acked');
	ok($rows >= $acked && $rows == $max, "$what: all $acked rows are present") or diag("rows $rows, newest $max");
	$c->sql_is('SELECT count(*) FROM filler', '20000', "$what: another table has all its rows");
	$c->sql_is('SELECT count(*), min(v) FROM t', '40000|' . 'y' x 500, "$what: the copied database $_ has all its rows", db => "copy$_") for 1 .. 3;
}
check('the compute');
$c->stop('immediate');
$c = $store->start_compute('main');
check('a new compute');
$c->stop;
$store->stop;
unlike($store->log_content, qr/PANIC|upkeep of layer files failed/, 'no PANIC and no failed upkeep in the log of the store');
done_testing();
