# IndexBuilds: a table with a column for each kind of index, these indexes, and checks of them
# (test/t/036_index_builds.pl, 037_build_crash.pl).
#
# The caches are as small as builds allow: log_newpage_range() pins 32 buffers at once, so that builds fail on any
# server with fewer than about 40.
package IndexBuilds;

use strict;
use warnings;

use Exporter 'import';
use Test::More;
use TrapTest;

our @EXPORT = qw($small_caches @kinds %index make_table rows index_sql check_index check_indexes is_larger_than_caches nothing_left);

our $small_caches = "shared_buffers = 400kB\npageserver_smgr.cache_size = 1MB\nmaintenance_work_mem = 1MB\n";
my $caches_size = 1400 * 1024;

# How each index is built, and conditions that use it.  $n is a row number: different numbers find different rows.
# "all" finds every row.
our %index = (
	btree => { using => '(btree)', all => "btree >= ''", some => sub { my $x = sprintf '%02x', $_[0] % 256; "btree >= '$x' AND btree < '${x}8'" } },
	# posting lists, made by deduplication
	btree_dup => { using => '(dup)', small => 1, all => 'dup >= 0', some => sub { 'dup = ' . $_[0] % 50 } },
	# fastupdate is on: inserts go to the pending list first
	gin => { bitmap_only => 1, using => 'USING gin (gin)', all => 'gin && ARRAY[0, 1]', some => sub { 'gin @> ARRAY[' . ($_[0] % 1000 + 10) . ', ' . $_[0] % 2 . ']' } },
	gin_nofast => { bitmap_only => 1, using => 'USING gin (gin_nofast) WITH (fastupdate = off)', all => 'gin_nofast && ARRAY[0, 1]', some => sub { "gin_nofast @> ARRAY[$_[0] * 2 + 10000]" } },
	gist_sorted => { using => 'USING gist (gist_sorted)', all => "gist_sorted <@ box '((-1,-1),(300,300))'", some => sub { my $x = $_[0] % 240; "gist_sorted <@ box '(($x,0),($x.5,200))'" } },
	gist_buffered => { using => 'USING gist (gist_buffered) WITH (buffering = on)', all => "gist_buffered && int4range(-1, 1000000)", some => sub { my $x = $_[0]; "gist_buffered && int4range($x, $x + 10)" } },
	# tuple by tuple: ranges cannot be sorted, and buffering must not start
	gist_plain => { using => 'USING gist (gist_plain) WITH (buffering = off)', all => "gist_plain && int4range(-1, 1000000)", some => sub { my $x = $_[0]; "gist_plain && int4range($x, $x + 10)" } },
	spgist_point => { using => 'USING spgist (spgist_point)', all => "spgist_point <@ box '((-1,-1),(300,300))'", some => sub { my $x = $_[0] % 230; "spgist_point <@ box '((10,$x),(100,$x.5))'" } },
	spgist_text => { using => 'USING spgist (spgist_text)', all => "spgist_text ~>=~ ''", some => sub { my $x = sprintf '%02x', $_[0] % 256; "spgist_text ~>=~ '$x' AND spgist_text ~<~ '${x}8'" } },
	hash => { using => 'USING hash (hash) WITH (fillfactor = 30)', some => sub { "hash = md5('$_[0]') || 'h'" } },
	# long chains of overflow pages
	hash_dup => { using => 'USING hash (hash_dup)', small => 1, some => sub { 'hash_dup = ' . $_[0] % 50 } },
	# wide values and one range per page: the range map must grow during the build, and evacuate the pages in its way
	brin => { bitmap_only => 1, using => 'USING brin (brin) WITH (pages_per_range = 1)', some => sub { sprintf "brin BETWEEN '%010d' AND '%010d'", $_[0], $_[0] + 20 } },
	bloom => { bitmap_only => 1, using => 'USING bloom (bloom, dup) WITH (length = 512, col1 = 8, col2 = 8)', some => sub { "bloom = $_[0] * 3" } });
our @kinds = sort keys %index;

# The select list of rows for the numbers $from to $to; another $salt gives other keys.
sub rows
{
	my ($from, $to, $salt) = @_;
	return "SELECT i AS id, md5('$salt' || i) AS btree, i % 50 AS dup,"
	  . " ARRAY[i % 2, i % 1000 + 10, i * 2 + 10000, i * 2 + 10001] AS gin, ARRAY[i % 2, i * 2 + 10000, i * 2 + 10001] AS gin_nofast,"
	  . " point(i % 251 + i / 1e6, i % 241) AS gist_sorted, int4range(i, i + 1 + i % 50) AS gist_buffered,"
	  . " int4range(i, i + 1 + i % 50) AS gist_plain, point(i % 251 + i / 1e6, i % 241) AS spgist_point,"
	  . " md5('s$salt' || i) AS spgist_text, md5(i::text) || 'h' AS hash, i % 50 AS hash_dup,"
	  . " lpad(i::text, 10, '0') || repeat(md5('$salt' || i), 12) AS brin, i * 3 AS bloom"
	  . " FROM generate_series($from, $to) i";
}

sub make_table
{
	my ($c, $name, $n) = @_;
	$c->sql('CREATE EXTENSION IF NOT EXISTS bloom; CREATE EXTENSION IF NOT EXISTS pgstattuple');
	$c->sql("CREATE TABLE $name WITH (autovacuum_enabled = off) AS " . rows(1, $n, ''));
}

# CREATE INDEX for a kind; $concurrently: '' or 'CONCURRENTLY'
sub index_sql
{
	my ($table, $kind, $concurrently) = @_;
	return 'CREATE INDEX ' . ($concurrently // '') . " ${table}_$kind ON $table $index{$kind}{using}";
}

# Identifies a set of rows: how many they are, and a sum that depends on which they are.
my $which = "count(*), coalesce(sum(hashint4(id)::int8), 0)";

# Checks that the index finds the rows that a sequential scan finds: for some keys, and for all rows if there is a
# condition for them.
sub check_index
{
	my ($c, $table, $kind, $what, @numbers) = @_;
	my @where = map { $index{$kind}{some}->($_) } @numbers;
	push @where, $index{$kind}{all} if $index{$kind}{all};
	my @expected = split /\|/, $c->sql('SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off; SELECT '
		  . join(', ', map { my $w = $_; $which =~ s/\(\*\)/(*) FILTER (WHERE $w)/r =~ s/(hashint4\(id\)::int8\))/$1 FILTER (WHERE $w)/r } @where) . " FROM $table");
	my @queries = map { "SELECT $which FROM $table WHERE $_" } @where;
	# index scans and bitmap scans, in turn
	my $script = "SET enable_seqscan = off;\n";
	for my $i (0 .. $#queries)
	{
		my $bitmap = $index{$kind}{bitmap_only} || $i % 2;
		$script .= 'SET enable_bitmapscan = ' . ($bitmap ? 'on' : 'off') . ";\nSET enable_indexscan = " . ($bitmap ? 'off' : 'on') . ";\n"
		  . "EXPLAIN (COSTS off) $queries[$i];\n$queries[$i];\n";
	}
	my @out = split /\n/, $c->sql($script);
	my @got = map { split /\|/ } grep { /^\d+\|-?\d+$/ } @out;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(scalar(grep { /Scan.* (?:using|on) ${table}_${kind}\b/ } @out), scalar(@queries), "$what: index $kind is used") or diag(join("\n", @out));
	is("@got", "@expected", "$what: index $kind gives the rows of the table") or diag(join("\n", @where));
	$c->sql("SELECT bt_index_parent_check('${table}_$kind', true, true)") if $kind =~ /^btree/;
}

sub check_indexes
{
	my ($c, $table, $what, $n) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	check_index($c, $table, $_, $what, map { 1 + int(rand($n)) } 1 .. 6) for @kinds;
}

sub is_larger_than_caches
{
	my ($c, $table, $kind) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	cmp_ok($c->sql("SELECT pg_relation_size('${table}_$kind')"), '>', $caches_size, "index $kind is larger than the caches") unless $index{$kind}{small};
}

# Checks that nothing is left of dropped relations: no kept page, no spilled chunk, no local file without a relation.
sub nothing_left
{
	my ($c, $observer, $kept, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	# a dropped relation's empty file stays until the next checkpoint
	$observer->ask('CHECKPOINT');
	# pages of visibility maps are kept as long as the compute lives
	wait_for("$what: spilled pages are given up", sub { $observer->ask('SELECT spilled / 8192 FROM pageserver_smgr_cache') <= 8 });
	cmp_ok($observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache'), '<=', $kept + 8, "$what: no page is kept");
	my %known = map { $_ => 1 } split /\n/, $observer->ask('SELECT pg_relation_filenode(oid) FROM pg_class WHERE pg_relation_filenode(oid) IS NOT NULL');
	my $dir = $c->dir . '/base/' . $observer->ask('SELECT oid FROM pg_database WHERE datname = current_database()');
	opendir my $d, $dir or die "$dir: $!";
	my @stray = grep { /^(\d+)/ && !$known{$1} } readdir $d;
	is("@stray", '', "$what: no local file is left");
}

1;
