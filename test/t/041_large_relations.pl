# Relations of several segments (1 GB each). A hash index gets as many buckets as the statistics suggest,
# and its pages are nearly empty, so it is large without much WAL. With PAGESERVER_LONG=1 (make
# check-long), there is also an index of more than 4 GB, and a table that is truncated and extended across
# a segment boundary.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use TrapTest;

my $store = trap_store();
my $c = trap_compute($store, 1);
my $segment = 131072;

sub files
{
	my ($path) = @_;
	return join ' ', map { (-s $_) / 8192 } grep { -e $_ } "$c->{dir}/$path", map { "$c->{dir}/$path.$_" } 1 .. 9;
}

# The files of a relation of the given number of blocks.
sub expected_files
{
	my ($blocks) = @_;
	return join ' ', ($segment) x ($blocks / $segment), $blocks % $segment ? $blocks % $segment : ();
}

sub blocks { return $c->sql("SELECT pg_relation_size('$_[0]') / 8192"); }

# Creates a hash index with about the given number of buckets on a table of 5000 rows.
sub hash_index
{
	my ($table, $buckets) = @_;
	$c->sql("CREATE TABLE $table (id int); INSERT INTO $table SELECT generate_series(1, 5000)");
	# A bucket is filled by 307 tuples of this kind (hashbuild(), _hash_init()).
	$c->sql("UPDATE pg_class SET relpages = 1, reltuples = @{[ $buckets * 307 ]} / (SELECT pg_relation_size('$table') / 8192) WHERE relname = '$table'");
	$c->sql("CREATE INDEX ${table}_i ON $table USING hash (id)");
	return blocks("${table}_i");
}

sub check_hash
{
	my ($table, $blocks, $what) = @_;
	$c->sql_is("SELECT pg_relation_size('${table}_i') / 8192", $blocks, "$what: its size");
	is(files($c->sql("SELECT pg_relation_filepath('${table}_i')")), expected_files($blocks), "$what: its local files");
	$c->sql_is("SET enable_seqscan = off; SELECT count(*) FROM generate_series(1, 5000, 17) g, LATERAL (SELECT 1 FROM $table WHERE id = g) x", '295', "$what: it finds every row");
}

my @sizes = (140_000);
push @sizes, 540_000 if $ENV{PAGESERVER_LONG};
for my $buckets (@sizes)
{
	my $table = "h_$buckets";
	my $blocks = hash_index($table, $buckets);
	cmp_ok($blocks, '>', $buckets, "a hash index of $blocks blocks");
	check_hash($table, $blocks, 'built');
	$c->sql("INSERT INTO $table SELECT generate_series(5001, 6000); DELETE FROM $table WHERE id > 5000; VACUUM $table");
	$blocks = blocks("${table}_i");
	check_hash($table, $blocks, 'vacuumed');
	$c->kill9;
	$c = trap_compute($store, 0);
	check_hash($table, $blocks, 'next compute');
	$c->sql_is("SELECT pg_database_size('postgres') > 8192::bigint * $blocks", 't', 'the size of the database includes it');
	my $path = $c->sql("SELECT pg_relation_filepath('${table}_i')");
	$c->sql("BEGIN; REINDEX INDEX ${table}_i; ROLLBACK") if $buckets < 200_000;
	check_hash($table, $blocks, 'a rewrite that was undone') if $buckets < 200_000;
	$c->sql("DROP TABLE $table; CHECKPOINT");
	is(files($path), '', 'no file is left when it is dropped');
}

if ($ENV{PAGESERVER_LONG})
{
	# a row fills a page
	$c->sql("CREATE TABLE wide (id int, pad text); ALTER TABLE wide ALTER pad SET STORAGE PLAIN");
	$c->sql("INSERT INTO wide SELECT i, repeat('w', 8000) FROM generate_series(1, @{[ $segment + 3000 ]}) i", timeout => 900);
	my $path = $c->sql("SELECT pg_relation_filepath('wide')");
	my $look = "SELECT count(*), min(id), max(id), sum(id::bigint), min(length(pad)) FROM wide";
	my $state = sub { my ($n) = @_; return "$n|1|$n|" . $n * ($n + 1) / 2 . "|8000"; };
	is(files($path), expected_files($segment + 3000), 'the local files of a table of more than 1 GB');
	for my $n ($segment + 1000, $segment, $segment - 500)
	{
		$c->sql("DELETE FROM wide WHERE id > $n; VACUUM (TRUNCATE) wide", timeout => 900);
		$c->sql_is("SELECT pg_relation_size('wide') / 8192", $n, "truncated to $n blocks");
	}
	$c->sql_is($look, $state->($segment - 500), 'the rows of the truncated table', timeout => 900);
	$c->kill9;
	$c = trap_compute($store, 0);
	$c->sql_is($look, $state->($segment - 500), 'the rows of the truncated table in the next compute', timeout => 900);
	is(files($path), expected_files($segment - 500), 'the local files of the truncated table');
	$c->sql("INSERT INTO wide SELECT i, repeat('v', 8000) FROM generate_series(@{[ $segment - 499 ]}, @{[ $segment + 2000 ]}) i", timeout => 900);
	is(files($path), expected_files($segment + 2000), 'the local files when it is extended across the segment boundary again');
	$c->sql(churn());
	$c->sql_is("SELECT count(*), min(pad) = repeat('v', 8000) FROM wide WHERE id > $segment - 500", '2500|t', 'truncated rows do not come back', timeout => 900);
	$c->kill9;
	$c = trap_compute($store, 0);
	$c->sql_is($look, $state->($segment + 2000), 'the rows of the extended table in the next compute', timeout => 900);
	$c->sql("TRUNCATE wide; CHECKPOINT");
	is(files($path), '', 'no file is left when it is truncated');
}
$c->stop;
$store->stop;
done_testing();
