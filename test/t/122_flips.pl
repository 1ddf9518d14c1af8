# One byte of one file of a real store is changed while the store is down. The store must start and
# the other branch must work. The branch that owns the file either returns correct data or an error
# that names the damaged file, never anything else, and the store must not end. The byte is random;
# TEST_SEED repeats a run. (test/unit/t_flips.c does this thousands of times, without PostgreSQL.)
use strict;
use warnings;
use Manifest;
use PageserverTest;
use Test::More;

my $seed = $ENV{TEST_SEED} // time;
srand($seed);
note("TEST_SEED=$seed");

my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 1MB\npage_cache_size = 1MB\nimage_delta_percent = 1\n");
my %seen;
my $query = 'SELECT count(*), sum(i), md5(string_agg(v, \',\' ORDER BY i)) FROM t';
my $by_index = "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT sum(i), count(v) FROM t WHERE i BETWEEN 100 AND 3000";
for my $branch (qw(main other))
{
	$store->ctl_ok("branch create $branch", 'branch', 'create', $branch);
	my $c = $store->start_compute($branch);
	$c->sql("CREATE TABLE t (i int PRIMARY KEY, v text)");
	$c->sql("INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 6000) i");
	$c->sql("UPDATE t SET v = v || '$branch' WHERE i % 3 = 0");
	$c->sql("INSERT INTO t SELECT i, repeat(md5(i::text), 6) FROM generate_series(10001, 14000) i");
	$seen{$branch} = [ $c->sql($query), $c->sql($by_index) ];
	$c->stop;
}
my @timelines = grep { Manifest::state($_)->{name} eq 'main' } glob("$store->{dir}/tenants/*/timelines/*");
is(scalar @timelines, 1, 'the timeline of main');
my $timeline = $timelines[0];
sub layers { return grep { !/\.tmp$/ } glob("$timeline/layers/*"); }
PageserverTest::wait_until(sub { grep { /-[0-9a-f]{16}__[0-9a-f]+$/ } layers() }, 'a delta file');
$store->ctl_ok('compact', 'branch', 'compact', 'main');
$store->stop;
my $copy = "$store->{dir}.copy";
system('cp', '-a', '--sparse=always', $store->{dir}, $copy) == 0 or die;

my ($opened, $failed) = (0, 0);
sub flip
{
	my ($what, $file, $from, $to) = @_;
	my $offset = $from + int(rand($to - $from));
	my ($name) = $file =~ m{([^/]+)$};
	open my $f, '+<', $file or die "$file: $!";
	seek $f, $offset, 0;
	read $f, my $byte, 1;
	seek $f, $offset, 0;
	print $f $byte ^ chr(1 + int(rand(255)));
	close $f;
	$store->start;
	my $other = $store->start_compute('other');
	is($other->sql($query), $seen{other}[0], "$what, byte $offset: the other branch has all its rows");
	my ($c, $err) = $store->start_compute('main', may_fail => 1);
	if (!defined $c)
	{
		$failed++;
		like($err . $store->log_content, qr/\Q$name\E/, "$what, byte $offset: the compute does not start, and the file is named");
	}
	else
	{
		$opened++;
		for my $q (0, 1)
		{
			my ($qrc, $qout, $qerr) = $c->psql($q ? $by_index : $query);
			ok($qrc == 0 ? $qout eq $seen{main}[$q] : $qerr =~ /\Q$name\E/, "$what, byte $offset: " . ($qrc == 0 ? 'the right answer' : 'an error that names the file'))
			  or diag("$qout$qerr");
		}
		$c->kill9;
	}
	$other->kill9;
	ok(kill(0, $store->{pid}), 'the store is still running');
	unlike($store->log_content, qr/PANIC|FATAL|was terminated/, 'the log has no PANIC, no FATAL and no killed process');
	$store->stop('immediate');
	unlink $store->{log};
	system('rm', '-rf', $store->{dir}) == 0 && system('cp', '-a', '--sparse=always', $copy, $store->{dir}) == 0 or die;
}

my ($delta) = grep { /-[0-9a-f]{16}__[0-9a-f]+$/ } layers();
my @images = sort { -s $b <=> -s $a } grep { !/-[0-9a-f]{16}__[0-9a-f]+$/ } layers();
my ($end) = Manifest::state($timeline)->{disk_consistent_lsn} =~ m{^0/([0-9A-F]+)$};
my ($wal) = sort glob("$timeline/wal/0*");
my $in_wal = hex($end) % (16 * 1024 * 1024);

flip('the manifest', "$timeline/timeline.log", 0, -s "$timeline/timeline.log");
flip('the marker', "$timeline/flushed", 0, 16);
flip('the summary of a delta file', $delta, 0, 168);
flip('values of a delta file', $delta, 16384, (-s $delta) / 2);
flip('the index of a delta file', $delta, (-s $delta) - 8192, (-s $delta) - 8000);
flip('values of an image file', $images[0], 8192, (-s $images[0]) / 2);
flip('values of an image file', $images[0], 8192, (-s $images[0]) / 2);
flip('WAL that is in no layer', $wal, $in_wal, $in_wal + 4000);
ok($opened > 0 && $failed > 0, 'some of the damage kept the branch from opening, some did not');

# the original files again
$store->start;
my $c = $store->start_compute('main');
is($c->sql($query), $seen{main}[0], 'the branch has all its rows when the damage is undone');
$c->stop;
$store->stop;
done_testing();
