# Merges of layer files on a disk with little space. A merge that does not fit is not started, the oldest
# files are merged if there is space for them, and nothing else waits for that.
use strict;
use warnings;
use Manifest;
use PageserverTest;
use Test::More;

my $small = "$ENV{TESTDATADIR}/small";
# test/run-tap mounts a tmpfs there
die "\"$small\" is no small file system: run the tests through test/run-tap as root or with sudo\n"
  unless -d $small && `stat -f -c %T $small` =~ /tmpfs/;

my $reserve = 16;
my $store = PageserverTest->new_store('small', dir => "$small/room", start => 0,
	conf => "min_free_space = ${reserve}MB\ncheckpoint_distance = 4MB\ncompaction_threshold = 6\ncompaction_workers = 0\nwal_compression = none\n");
$store->{log} = PageserverTest::test_dir() . '/store.log';
$store->start;
$store->ctl_ok("branch $_", 'branch', 'create', $_) for qw(main other);
my $c = $store->start_compute('main');
my $other = $store->start_compute('other');
$other->sql('CREATE TABLE o (i int)');

# Files of level 0, the oldest first: [ path, megabytes ]
sub level0
{
	my @files = sort { $a->[2] cmp $b->[2] } map { [ $_->[0], $_->[2] / 1024 / 1024, ($_->[0] =~ /__(\w+)-/)[0] ] }
	  grep { $_->[1] == 0 && $_->[0] =~ /__\w+-\w+/ } map { [ /^(\S+) level (\d+) entries \d+ bytes (\d+)$/ ] } @{ Manifest::state(Manifest::directory($store, 'main'))->{layers} };
	return @files;
}

sub free_mb { return (split ' ', `df -m --output=avail $small | tail -1`)[0]; }

# Fills the disk except for the given number of megabytes.
sub leave_free
{
	my ($mb) = @_;
	unlink "$small/filler";
	system('fallocate', '-l', int((free_mb() - $mb) * 1024 * 1024), "$small/filler") == 0 or die 'fallocate';
}

$c->sql('CREATE TABLE t (i int, v text)');
while (level0() < 7)
{
	$c->sql("INSERT INTO t SELECT i, encode(sha512(i::text::bytea), 'hex') || encode(sha512((i + 7)::text::bytea), 'hex') FROM generate_series(1, 6000) i");
}
# The file of the next WAL segment exists already.
$other->sql('SELECT pg_switch_wal(); INSERT INTO o VALUES (0)');
$c->stop;
my @files = level0();
diag('files of level 0: ' . join(', ', map { sprintf '%.1f MB', $_->[1] } @files));
$store->stop;

# not enough for two files
leave_free($reserve + ($files[0][1] + $files[1][1]) / 2);
$store->append_conf("compaction_workers = 1\n");
$store->start;
sub main_error { return (map { (split /\|/, $_, -1)[18] } grep { /^main\|/ } split /\n/, ($store->command('branch_list'))[1])[0]; }
# Another command opens the branch.
$store->command('branch_compact other');
my ($rc, $out, $err) = $store->command('branch_compact main');
isnt($rc, 0, 'a requested merge is refused');
like($err, qr/files of level 0 wait to be merged until \d+ MB are free/, 'the refusal says how much space is needed');
PageserverTest::wait_until(sub { main_error() =~ /files of level 0 wait to be merged until \d+ MB are free/ }, 'the error of the branch');
pass('the branch list shows that merges wait for space');
$other->sql("INSERT INTO o VALUES ($_)") for 1 .. 20;
$other->sql_is('SELECT count(*) FROM o', 21, 'other branches do not wait');
unlike($store->log_content, qr/waits for room/, 'flushes do not wait for space');
is(scalar(level0()), scalar(@files), 'the files are unchanged');

# enough for some files
leave_free($reserve + $files[0][1] + $files[1][1] + $files[2][1] / 2);
$store->command('branch_compact main');
like($store->log_content, qr/merged 2 files of level 0/, 'the oldest files are merged if there is space for them');
unlike($store->log_content, qr/waits for room/, 'flushes do not wait for space after the merge');

# enough for all files
unlink "$small/filler";
$store->command('branch_compact main');
PageserverTest::wait_until(sub { level0() == 0 || level0() < 6 }, 'merges');
$c = $store->start_compute('main');
$c->sql('SELECT sum(i), count(*) FROM t');
PageserverTest::wait_until(sub { main_error() eq '' }, 'the error to disappear');
pass('the error disappears when there is space for all files');
$c->stop;
$other->stop;
$store->stop;
PageserverTest::remove_tree("$small/room");
done_testing();
