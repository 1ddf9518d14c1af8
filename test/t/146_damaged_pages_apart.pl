# A page that cannot be reconstructed does not keep anything else from working: upkeep continues,
# and an export can leave the page out. It is named in the list of branches and, once, in the log,
# until it is repaired.
use strict;
use warnings;
use PageserverTest;
use StockServer;
use Test::More;

my $store = PageserverTest->new_store('main', conf => "checkpoint_timeout = 1s\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');

# Returns (exit code, result, errors).
sub by_index
{
	return $_[0]->psql("SET enable_seqscan = off; SELECT count(*) FROM t WHERE k = 7");
}

sub error_in_list
{
	my (undef, $list) = $store->command('branch_list');
	return (split /\|/, $list)[18];
}

sub compact
{
	my ($rc, undef, $err) = $store->ctl('branch', 'compact', 'main');
	is($rc, 0, 'branch compact');
	return $err;
}

# Waits until everything is in files: upkeep sees only these.
sub wait_for_flush
{
	PageserverTest::wait_until(
		sub {
			my (undef, $list) = $store->command('branch_list');
			my ($flushed, $consistent) = (split /\|/, $list)[ 8, 10 ];
			return $flushed eq $consistent;
		}, 'a flush');
}

sub image_files
{
	return grep { /__[0-9A-F]{16}(?!-[0-9A-F]{16})/ } glob($store->dir . '/tenants/*/timelines/*/layers/*');
}

$c->sql("CREATE FUNCTION generic_am_handler(internal) RETURNS index_am_handler LANGUAGE C AS '$ENV{PAGESERVER_TOP}/test/modules/generic_am'; "
	  . "CREATE FUNCTION generic_am_unlogged_init(regclass) RETURNS bigint LANGUAGE C AS '$ENV{PAGESERVER_TOP}/test/modules/generic_am'");
$c->sql('CREATE ACCESS METHOD generic_am TYPE INDEX HANDLER generic_am_handler; '
	  . 'CREATE OPERATOR CLASS int4_ops DEFAULT FOR TYPE int4 USING generic_am AS OPERATOR 1 =; '
	  . 'CREATE TABLE t AS SELECT i % 100 AS k FROM generate_series(1, 1000) i; CREATE INDEX own ON t USING generic_am (k)');
my @blocks = map { $c->sql("SELECT generic_am_unlogged_init('own')") } 1 .. 2;
$c->sql('INSERT INTO t SELECT i % 100 FROM generate_series(1, 1000) i');
my $path = $c->sql("SELECT pg_relation_filepath('own')");
my ($db, $rel) = $path =~ m{base/(\d+)/(\d+)};
is((by_index($c))[1], '20', 'the index can be read in the compute that wrote it');
$c->kill9;
wait_for_flush();

my $images = image_files();
my $notice = compact();
cmp_ok(scalar(image_files()), '>', $images, 'images are created');
like($notice, qr{2 pages cannot be read, one of them: branch "main", relation 1663/$db/$rel fork 0 block $blocks[0] }, 'branch compact names a page that cannot be read');
like(error_in_list(), qr{2 pages cannot be read, one of them: branch "main", relation 1663/$db/$rel fork 0 block $blocks[0] }, 'the branch list names a page that cannot be read');
compact();
for my $block (@blocks)
{
	my @lines = $store->log_content =~ m{^.*WARNING.*could not read a page: .*relation 1663/$db/$rel fork 0 block $block .*initialized without logging it.*$}mg;
	is(scalar(@lines), 1, "block $block is in the log once");
}
unlike($store->log_content, qr/upkeep of layer files failed/, 'upkeep did not fail');

$c = $store->start_compute('main');
is($c->sql('SELECT count(*) FROM t'), '2000', 'the table is unchanged');
like((by_index($c))[2], qr{ERROR:.*relation 1663/$db/$rel fork 0 block $blocks[0] .*all zeros}, 'a read of the index gets an error that names the page');

my $dir = PageserverTest::test_dir() . '/export';
$store->ctl_fails_like(qr{relation 1663/$db/$rel fork 0 block $blocks[0] .*--zero-damaged-pages}s, 'export', 'export', 'main', '-D', $dir);
ok(!-e $dir, 'a failed export leaves nothing');
my ($rc, $out, $err) = $store->ctl('export', 'main', '-D', $dir, '--zero-damaged-pages');
is($rc, 0, 'an export can leave damaged pages out');
like($err, qr{warning: block $_ of relation "$path" is replaced by zeros: }, "block $_ is named") for @blocks;
like($err, qr{warning: 2 damaged pages}, 'the export prints the number of damaged pages');
my $s = StockServer->new(PageserverTest::test_dir() . '/stock', from => $dir);
is($s->sql('SELECT count(*) FROM t'), '2000', 'stock PostgreSQL can read the exported table');
is((by_index($s))[1], '20', 'stock PostgreSQL can read the exported index');
is($s->sql("SELECT pg_relation_size('own') / 8192 > $blocks[1]"), 't', 'the exported index has its length');
$s->stop;

$c->sql('REINDEX INDEX own');
is((by_index($c))[1], '20', 'the index can be read when it is rebuilt');
$c->kill9;
wait_for_flush();
is(compact(), '', 'branch compact names no page when the index is rebuilt');
is(error_in_list(), '', 'the branch list names no page when the index is rebuilt');

$store->stop;
done_testing();
