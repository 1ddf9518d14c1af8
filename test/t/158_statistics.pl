# The statistics that a stock server preserves across a planned restart are present in the next compute,
# too: cumulative statistics, pg_stat_statements, and autoprewarm's list. A branch that starts where a
# compute was stopped has them. After a kill there are none.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch', 'branch', 'create', 'main');
my $conf = "autovacuum = off\nshared_preload_libraries = pg_stat_statements,pg_prewarm,pageserver_smgr\npg_prewarm.autoprewarm_interval = 0\n";
my $n = 0;

sub start
{
	my ($branch) = @_;
	return $store->start_compute($branch, name => 'c' . ++$n, conf => $conf);
}

sub statements
{
	my ($c) = @_;
	return $c->sql("SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE '%FROM t /* counted */%' AND query NOT LIKE '%pg_stat%'");
}

sub tuples
{
	my ($c) = @_;
	return $c->sql("SELECT n_live_tup, n_dead_tup, last_analyze IS NOT NULL FROM pg_stat_user_tables WHERE relname = 't'");
}

my $c = start('main');
$c->sql($_) for 'CREATE EXTENSION pg_stat_statements', 'CREATE TABLE t AS SELECT i FROM generate_series(1, 20000) i', 'ANALYZE t', 'UPDATE t SET i = i WHERE i <= 3000';
$c->sql('SELECT count(*) FROM t /* counted */') for 1 .. 3;
PageserverTest::wait_until(sub { tuples($c) =~ /\|3000\|t$/ }, 'the statistics');
my $tuples = tuples($c);
$c->stop;
$store->ctl_ok('a branch from where it was stopped', 'branch', 'create', 'side', '--from', 'main');

# ---- the next compute, in another directory ----
$c = start('main');
is(tuples($c), $tuples, 'cumulative statistics survive a planned stop');
is(statements($c), '3', 'pg_stat_statements survives a planned stop');
ok(-s $c->dir . '/autoprewarm.blocks', 'the list of autoprewarm survives a planned stop');
PageserverTest::wait_until(sub { $c->log_content =~ /autoprewarm successfully prewarmed [1-9]/ }, 'autoprewarm');
$c->sql('SELECT count(*) FROM t /* counted */');
# They also survive a restart of the store in between.
$c->stop;
$store->stop;
$store->start;
$c = start('main');
is(statements($c), '4', 'pg_stat_statements continues across several stops');

# ---- a kill ----
$c->kill9;
$c = start('main');
is(tuples($c), '0|0|f', 'no cumulative statistics after a kill');
is(statements($c), '', 'no statements in pg_stat_statements after a kill');
$c->stop('immediate');
$c = start('main');
is(tuples($c), '0|0|f', 'no cumulative statistics after an immediate stop');
$c->stop;

# ---- the branch ----
$c = start('side');
is(tuples($c), $tuples, 'a branch has the statistics as of its beginning') or diag($c->log_tail . $store->log_tail);
is(statements($c), '3', 'pg_stat_statements, too');
$c->kill9;
$c = start('side');
is(tuples($c), '0|0|f', 'a branch has no statistics after a kill');

# ---- a compute can be stopped while the store is down ----
$store->stop;
$c->stop;
$store->start;
$c = start('side');
is(tuples($c), '0|0|f', 'statistics that could not be sent to the store are lost');

# ---- a damaged file does not prevent a start, and none of it is used ----
for my $damage ('cut off', 'changed')
{
	$c->sql('ANALYZE t');
	PageserverTest::wait_until(sub { tuples($c) =~ /\|t$/ }, 'the statistics');
	$c->stop;
	my ($file) = sort { -M $a <=> -M $b } glob($store->dir . '/tenants/*/timelines/*/stopped');
	if ($damage eq 'changed')
	{
		open my $f, '+<', $file or die "$file: $!";
		seek $f, 200, 0;
		print $f 'damage';
		close $f;
	}
	else
	{
		truncate($file, 100) or die $!;
	}
	$c = start('side');
	like(tuples($c), qr/\|f$/, "no statistics from a file that is $damage");
	like($store->log_content, qr/WARNING:  file "\Q$file\E" is damaged/, 'the log names the damaged file');
}
$c->sql('ANALYZE t');
PageserverTest::wait_until(sub { tuples($c) =~ /\|t$/ }, 'the statistics');
$c->stop;
$c = start('side');
like(tuples($c), qr/\|t$/, 'the statistics survive the next stop');
$c->stop;
$store->stop;
done_testing();
