# The memory of layers in memory is bounded for all branches together, even if many branches are written
# to, each of them little. No rows are lost when layers are written out early.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $branches = 6;
my $limit = 24;					# MB
my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 1GB\nlayer_memory = ${limit}MB\nopen_layer_memory = 20MB\npage_cache_size = 1MB\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t (id int PRIMARY KEY, v int) WITH (fillfactor = 30); INSERT INTO t SELECT i, 0 FROM generate_series(1, 5000) i');
$c->stop;
my %computes;
for my $i (1 .. $branches)
{
	$store->ctl_ok("branch $i", 'branch', 'create', "b$i", '--from', 'main');
	$computes{$i} = $store->start_compute("b$i");
}

sub memory { return (PostgreSQL::Test::Utils::slurp_file("/proc/$store->{pid}/status") =~ /RssAnon:\s+(\d+)/)[0] / 1024; }
my $before = memory();
my $peak = 0;
for my $round (1 .. 24)
{
	# One after the other at first, so that the early ones hold a lot of memory and then are idle.
	my @now = $round <= $branches ? ($round) : 1 .. $branches;
	$computes{$_}->sql('UPDATE t SET v = v + 1; UPDATE t SET v = v + 1; VACUUM t;' x ($round <= $branches ? 8 : 2)) for @now;
	$peak = memory() if memory() > $peak;
}
diag(sprintf 'memory of the store: %.0f MB, later at most %.0f MB', $before, $peak);
# Allocators keep some of the freed memory, and the sessions of the computes have buffers.
SKIP:
{
	skip 'a sanitizer has an allocator of its own, which keeps freed memory', 1 if $ENV{SANITIZE_LOGS};
	cmp_ok($peak, '<', $before + 3 * $limit, 'the memory stays near its bound');
}
$computes{$_}->sql_is('SELECT count(*), sum(v) FROM t', '5000|' . 5000 * (16 + 4 * (24 - $branches)), "branch $_ has its rows") for 1 .. $branches;
$computes{$_}->stop for 1 .. $branches;
$store->stop;
done_testing();
