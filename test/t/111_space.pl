# The space of a table that is updated again and again. Data that can no longer be read by anybody is
# removed, as whole files and within files, also below the LSNs where other branches start.
#
# The space that the retained history needs is measured, not computed: it is that of the layers that an
# import of each retained state creates, plus no more WAL than the window has.
use strict;
use warnings;
use Manifest;
use PageserverTest;
use Test::More;

use constant MB => 1024 * 1024;
my $updates = 50;

my $conf = "checkpoint_distance = 4MB\ntarget_file_size = 4MB\npitr_interval = 0\ngc_horizon = 0\n";
my $store = PageserverTest->new_store('main', conf => $conf);
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "autovacuum = off\nmax_wal_size = 128MB\n");

sub bytes
{
	my ($s, $branch, $what) = @_;
	my $bytes = 0;
	$bytes += -s $_ for glob(Manifest::directory($s, $branch) . "/$what/*");
	return $bytes;
}

# The space that the state of a branch at an LSN needs in a store of its own.
my $states = 0;
sub needed
{
	my ($at) = @_;
	my $name = 'state' . ++$states;
	my $dir = PageserverTest::test_dir() . "/$name";
	my $s = PageserverTest->new_store($name, conf => $conf);
	$store->ctl_ok("export $at", 'export', $at, '-D', "$dir.export");
	$s->ctl_ok("import $at", 'import', '--pgdata', "$dir.export", 'main');
	my $bytes = bytes($s, 'main', 'layers');
	$s->stop;
	return $bytes;
}

$c->sql("CREATE TABLE t (id int PRIMARY KEY, n int, v text) WITH (fillfactor = 50)");
$c->sql("INSERT INTO t SELECT i, 0, md5(i::text) || repeat(md5((i * 7)::text), 3) FROM generate_series(1, 30000) i");
my ($first, $branch_point);
for my $i (1 .. $updates)
{
	$c->sql("UPDATE t SET n = $i");
	$c->sql('VACUUM t');
	next if $i != $updates / 2;
	$branch_point = $c->sql('SELECT pg_current_wal_flush_lsn()');
	$store->ctl_ok('a branch at an LSN in the middle', 'branch', 'create', 'half', '--from', "main\@$branch_point");
}
my $wal = $c->sql("SELECT pg_current_wal_lsn() - '0/0'") / MB;
$c->stop;

sub compact
{
	$store->ctl_ok('compact', 'branch', 'compact', 'main');
	return bytes($store, 'main', 'layers');
}

my $has = compact();
my $needs = needed('main') + needed('half');
diag(sprintf '%d updates, %.0f MB of WAL: the store has %.1f MB of layers, its two states need %.1f MB: %.2f times', $updates, $wal, $has / MB, $needs / MB, $has / $needs);
cmp_ok($has, '<', 1.5 * $needs, 'layers are within 1.5 times of what two states need');
cmp_ok(bytes($store, 'main', 'wal'), '<=', 4 * 16 * MB, 'old WAL is removed');
my $half = $store->start_compute('half');
$half->sql_is('SELECT count(*), min(n), max(n) FROM t', "30000|@{[ $updates / 2 ]}|@{[ $updates / 2 ]}", 'the branch reads its state');
$half->stop;

# Without the branch, its state is removed, too.
$store->ctl_ok('the branch is purged', 'branch', 'delete', '--purge', 'half');
$has = compact();
$needs = needed('main');
diag(sprintf 'without the branch: %.1f MB, needed %.1f MB: %.2f times', $has / MB, $needs / MB, $has / $needs);
cmp_ok($has, '<', 1.5 * $needs, 'layers are within 1.5 times of what one state needs, when the branch is purged');
$c = $store->start_compute('main');
$c->sql_is('SELECT count(*), min(n), max(n) FROM t', "30000|$updates|$updates", 'the state is right');
$c->stop;
$store->stop;

# When all history is retained, every delta is needed.  Images make reads short; the additional space that
# they need is bounded, even for a table that is loaded and never changed.
$store = PageserverTest->new_store('history', conf => "checkpoint_distance = 4MB\ntarget_file_size = 4MB\n");
sub deltas_and_images
{
	my ($what, $work) = @_;
	$store->ctl_ok("branch $what", 'branch', 'create', $what);
	my %bytes = (delta => 0, image => -bytes($store, $what, 'layers'));
	my $compute = $store->start_compute($what, conf => "autovacuum = off\nmax_wal_size = 128MB\n");
	$work->($compute);
	$compute->stop;
	$store->ctl_ok("restart after $what", 'restart');
	for (@{ Manifest::state(Manifest::directory($store, $what))->{layers} })
	{
		my ($lsns, $size) = /__(\w+|\w+-\w+)__\w+ level \d+ entries \d+ bytes (\d+)$/;
		$bytes{ $lsns =~ /-/ ? 'delta' : 'image' } += $size;
	}
	diag(sprintf '%s, all history: %.1f MB of deltas, %.1f MB of images', $what, $bytes{delta} / MB, $bytes{image} / MB);
	return ($bytes{delta}, $bytes{image});
}

my ($deltas, $images) = deltas_and_images('loaded', sub {
	my $rows = PageserverTest::test_dir() . '/rows';
	$_[0]->sql("CREATE TABLE t (id int, n int, v text)");
	$_[0]->sql("COPY (SELECT i, i % 1000, md5(i::text) FROM generate_series(1, 200000) i) TO '$rows'");
	$_[0]->sql("COPY t FROM '$rows'") for 1 .. 3;
	$_[0]->sql('VACUUM t');
});
cmp_ok($images, '<', 0.5 * $deltas, 'a table that is loaded is within 1.5 times of what all history needs');

($deltas, $images) = deltas_and_images('updated', sub {
	$_[0]->sql("CREATE TABLE t (id int PRIMARY KEY, n int, v text) WITH (fillfactor = 50)");
	$_[0]->sql("INSERT INTO t SELECT i, 0, md5(i::text) || repeat(md5((i * 7)::text), 3) FROM generate_series(1, 15000) i");
	for my $i (1 .. $updates)
	{
		$_[0]->sql("UPDATE t SET n = $i");
		$_[0]->sql('VACUUM t');
	}
});
cmp_ok($images, '>', 0, 'a table that is updated has images');
cmp_ok($images, '<', 0.5 * $deltas, 'a table that is updated is within 1.5 times of what all history needs');
$store->stop;
done_testing();
