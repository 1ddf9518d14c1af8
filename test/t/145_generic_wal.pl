# Extensions log changes of their indexes as generic WAL. A record can be a delta against a page that was
# only extended; a compute has full_page_writes off, so that there is no image. Every page of the next
# compute is what it was in the compute that wrote it, byte for byte.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');

# Returns each page of the indexes, with its LSN, as the compute has it.
sub pages
{
	my ($compute) = @_;
	return $compute->sql("SELECT relname, b, md5(get_raw_page(oid::regclass::text, b::int)) FROM pg_class,"
		  . " generate_series(0, pg_relation_size(oid::regclass) / 8192 - 1) b WHERE relname IN ('own', 'rum') ORDER BY 1, 2");
}

# Returns what the indexes find.
sub found
{
	my ($compute) = @_;
	return $compute->sql("SET enable_seqscan = off; SELECT (SELECT count(*) FROM t WHERE k = 7),"
		  . " (SELECT count(*) FROM t WHERE words @@ 'common'), (SELECT count(*) FROM t WHERE words @@ 'w7')");
}

sub fill
{
	my ($compute, $from, $to) = @_;
	$compute->sql("INSERT INTO t SELECT i % 100, to_tsvector('simple', 'w' || i || ' w' || i % 50 || ' common') FROM generate_series($from, $to) i");
}

# Starts the next compute, which has nothing but the store.
sub next_compute
{
	my ($compute) = @_;
	$compute->kill9;
	return $store->start_compute('main');
}

$c->sql("CREATE FUNCTION generic_am_handler(internal) RETURNS index_am_handler LANGUAGE C AS '$ENV{PAGESERVER_TOP}/test/modules/generic_am'");
$c->sql('CREATE ACCESS METHOD generic_am TYPE INDEX HANDLER generic_am_handler; '
	  . 'CREATE OPERATOR CLASS int4_ops DEFAULT FOR TYPE int4 USING generic_am AS OPERATOR 1 =; '
	  . 'CREATE EXTENSION rum; CREATE EXTENSION pageinspect; CREATE TABLE t (k int, words tsvector)');
fill($c, 1, 1000);
$c->sql('CREATE INDEX own ON t USING generic_am (k); CREATE INDEX rum ON t USING rum (words rum_tsvector_ops)');
fill($c, 1001, 2000);
my $lsn = $c->sql('SELECT pg_current_wal_insert_lsn()');
my ($then_pages, $then_found) = (pages($c), found($c));
is($then_found, '20|2000|40', 'the rows that the indexes find in the first compute');
cmp_ok(() = $then_pages =~ /^own/mg, '>', 20, 'the index has pages of all kinds');

$c = next_compute($c);
is(pages($c), $then_pages, 'every page is the same in the next compute');
is(found($c), $then_found, 'the indexes find the same rows in the next compute');

# changes of pages that came from the store, and pages of which most is deleted
fill($c, 2001, 3000);
$c->sql('DELETE FROM t WHERE k % 3 = 0; VACUUM t');
fill($c, 3001, 3500);
my ($now_pages, $now_found) = (pages($c), found($c));
$c = next_compute($c);
is(pages($c), $now_pages, 'every page is the same after deletions');
is(found($c), $now_found, 'the indexes find the same rows after deletions');

# Once nothing is in memory, images of all pages are created.
$c->kill9;
$store->stop;
$store->append_conf("checkpoint_timeout = 1s\n");
$store->start;
$c = $store->start_compute('main');
$c->sql('CREATE TABLE more AS SELECT 1');
PageserverTest::wait_until(
	sub {
		my ($consistent, $flushed) = $store->ctl_ok('branch list', 'branch', 'list', '--json') =~
		  /"flushed_lsn": "(\S+)".*"disk_consistent_lsn": "(\S+)"/s;
		return $consistent && $consistent eq $flushed;
	}, 'a flush');
my (undef, undef, $warnings) = $store->ctl('branch', 'compact', 'main');
is($warnings, '', 'upkeep reports no problem');
$c = next_compute($c);
is(pages($c), $now_pages, 'every page is the same when read from images');
is(found($c), $now_found, 'the indexes find the same rows when read from images');
$c->kill9;

$store->ctl_ok('a branch in the past', 'branch', 'create', 'then', '--from', "main\@$lsn");
my $then = $store->start_compute('then');
is(pages($then), $then_pages, 'every page is the same in a branch in the past');
is(found($then), $then_found, 'the indexes find the same rows in a branch in the past');
$then->kill9;

unlike($store->log_content, qr/WARNING/, 'no warning in the log of the store');
$store->stop;
done_testing();
