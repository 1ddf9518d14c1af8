# Index builds, and maintenance of the indexes afterwards, with caches that are smaller than each
# index: every access method, every way to build one, concurrent and parallel builds, VACUUM FULL
# and CLUSTER. src/compute/README.md, "What redo does not restore", has the rules that they depend
# on.
use strict;
use warnings;
use IndexBuilds;
use IPC::Run;
use Oracle;
use PageserverTest;
use Test::More;
use TrapTest;

my $seed = $ENV{SEED} // (int(time) ^ $$);
srand($seed);
note("SEED=$seed");
my $rows = 40000;
my $store = trap_store();
my $c = trap_compute($store, 1, $small_caches);
my $out = "CHECKPOINT;\n" . churn();
my $observer = session($c);

# ---- built, then changed ----
make_table($c, 't', $rows);
for my $kind (@kinds)
{
	# one that does not find its pages again may go round in circles
	$c->sql(index_sql('t', $kind), timeout => 60);
	is_larger_than_caches($c, 't', $kind);
	check_index($c, 't', $kind, 'as built', map { 1 + int(rand($rows)) } 1 .. 6);
}

# Splits, pending lists, overflow pages, unsummarized ranges: rows are inserted and changed.
$c->sql('UPDATE t SET ' . join(', ', map { "$_ = n.$_" } qw(btree dup gin gin_nofast gist_sorted gist_buffered gist_plain spgist_point spgist_text hash hash_dup brin bloom))
	  . ' FROM (' . IndexBuilds::rows(1, 1500, 'new') . ') n WHERE t.id = n.id');
$c->sql('INSERT INTO t ' . IndexBuilds::rows($rows + 1, $rows + 2000, 'more'));
$observer->ask($out);
cmp_ok($c->sql("SELECT count(*) FROM generate_series(1, 5) b WHERE brin_page_type(get_raw_page('t_brin', b)) = 'revmap'"), '>', 1, 'the map of a BRIN index has grown into its pages');
cmp_ok($c->sql("SELECT n_pending_pages FROM gin_metapage_info(get_raw_page('t_gin', 0))"), '>', 10, 'the pending list of a GIN index');
check_indexes($c, 't', 'after UPDATE and INSERT', $rows + 2000);
$c->sql("SELECT gin_clean_pending_list('t_gin')");
$c->sql_is("SELECT n_pending_pages FROM gin_metapage_info(get_raw_page('t_gin', 0))", '0', 'the pending list of a GIN index is cleaned up');
cmp_ok($c->sql("SELECT brin_summarize_new_values('t_brin')"), '>', 50, 'ranges are summarized');
$c->sql("SELECT brin_desummarize_range('t_brin', b) FROM generate_series(5, 2000, 5) b");
$observer->ask($out);
check_index($c, 't', $_, 'after the pending list and the ranges', map { 1 + int(rand($rows)) } 1 .. 6) for qw(gin brin);
cmp_ok($c->sql("SELECT brin_summarize_range('t_brin', 10) + brin_summarize_range('t_brin', 1995)"), '==', 2, 'single ranges are summarized');

# Pages become empty, are deleted, and are reused.
$c->sql("DELETE FROM t WHERE btree BETWEEN '4' AND '9' OR id BETWEEN 7000 AND 27000 OR hash_dup < 20");
my $hash_dup_pages = $c->sql("SELECT overflow_pages - unused_pages FROM pgstathashindex('t_hash_dup')");
$c->sql('VACUUM (INDEX_CLEANUP on, TRUNCATE off) t; CREATE TABLE xid1 (); VACUUM (INDEX_CLEANUP on, TRUNCATE off) t');
$observer->ask($out);
cmp_ok($c->sql("SELECT deleted_pages FROM pgstatindex('t_btree')"), '>', 50, 'pages of the btree are deleted');
cmp_ok($c->sql("SELECT count(*) FROM pg_freespace('t_btree') WHERE avail > 0"), '>', 50, 'deleted pages of the btree can be reused');
my $size = $c->sql("SELECT pg_relation_size('t_btree')");
# GIN: pages of posting trees; GiST: pages of ranges, for which a range of rows is a range of the index
cmp_ok($c->sql("SELECT count(*) FROM generate_series(1, pg_relation_size('t_$_') / 8192 - 1) b, gin_page_opaque_info(get_raw_page('t_$_', b::int)) WHERE 'deleted' = ANY (flags)"), '>', 0, "pages of index $_ are deleted") for qw(gin gin_nofast);
cmp_ok($c->sql("SELECT count(*) FROM generate_series(0, pg_relation_size('t_$_') / 8192 - 1) b, gist_page_opaque_info(get_raw_page('t_$_', b::int)) WHERE 'deleted' = ANY (flags)"), '>', 10, "pages of index $_ are deleted") for qw(gist_buffered gist_plain);
is($c->sql("SELECT live_items || ' ' || dead_items FROM pgstathashindex('t_$_')"), $c->sql('SELECT count(*) FROM t') . ' 0', "index $_ has an entry for each row") for qw(hash hash_dup);
cmp_ok($c->sql("SELECT overflow_pages - unused_pages FROM pgstathashindex('t_hash_dup')"), '<', $hash_dup_pages / 2, 'overflow pages are freed');
check_indexes($c, 't', 'after DELETE and VACUUM', $rows + 2000);
$c->sql('INSERT INTO t ' . IndexBuilds::rows($rows + 2001, $rows + 4000, 'again') . " WHERE md5('again' || i) BETWEEN '4' AND '9'");
$c->sql("INSERT INTO t SELECT * FROM (" . IndexBuilds::rows($rows + 4001, $rows + 6000, 'again') . ') x');
$observer->ask($out);
is($c->sql("SELECT pg_relation_size('t_btree')"), $size, 'pages of the btree are reused');
check_indexes($c, 't', 'after pages were reused', $rows + 6000);
$c->kill9;
$c = trap_compute($store, 0, $small_caches);
check_indexes($c, 't', 'in the next compute', $rows + 6000);

$observer = session($c);
my $a = session($c);
my $b = session($c);

# ---- VACUUM FULL and CLUSTER: the table and all its indexes are rewritten, from private memory ----
my $sum = $c->sql('SELECT count(*), sum(hashint4(id)::int8), sum(hashtext(brin)::int8) FROM t');
for my $command ('VACUUM FULL t', 'CLUSTER t USING t_btree', 'VACUUM FULL pg_class', 'VACUUM FULL pg_attribute')
{
	$c->sql($command);
	$observer->ask($out);
	$c->sql_is('SELECT count(*), sum(hashint4(id)::int8), sum(hashtext(brin)::int8) FROM t', $sum, "the table after $command");
}
# A page that is requested while the WAL worker sleeps, and whose WAL was flushed at the end of a segment,
# which wakes nobody: seconds would pass until the worker checks by itself.
my ($rc, undef, $err) = $c->psql("SET statement_timeout = '4s';\n" . "CLUSTER t;\n" x 6);
is($err, '', 'no rewrite waits for the WAL worker to wake up by itself');
cmp_ok($c->sql("SELECT pg_relation_size('t')"), '>', 4 << 20, 'the rewritten table is larger than the caches');
$c->sql_is("SELECT string_agg(btree, '' ORDER BY ctid) = string_agg(btree, '' ORDER BY btree) FROM t", 't', 'CLUSTER has sorted the table');
check_indexes($c, 't', 'after VACUUM FULL and CLUSTER', $rows + 6000);
# Cursors see the right version of what a transaction has changed before and after it rewrote the table.
$c->sql("CREATE TABLE rewritten AS SELECT i AS id, 0 AS v, repeat('r', 200) AS pad FROM generate_series(1, 10000) i; CREATE INDEX rewritten_id ON rewritten (id)");
$a->ask("BEGIN; INSERT INTO rewritten SELECT -i, 1, repeat('s', 200) FROM generate_series(1, 5000) i; UPDATE rewritten SET v = 2 WHERE id % 4 = 0; DELETE FROM rewritten WHERE id % 4 = 1");
$a->ask('CLUSTER rewritten USING rewritten_id');
$a->ask('DECLARE c CURSOR FOR SELECT id, v FROM rewritten');
$a->ask("UPDATE rewritten SET v = 3 WHERE id % 4 = 2; DELETE FROM rewritten WHERE id % 4 = 3; INSERT INTO rewritten SELECT i, 4, '' FROM generate_series(20001, 22000) i");
$a->ask($out);
my @seen = split /\n/, $a->ask('FETCH ALL FROM c');
is(scalar(@seen), 12500, 'a cursor over a table that its transaction has rewritten sees all rows');
is(scalar(grep { /\|[34]$/ } @seen), 0, 'a cursor over a rewritten table sees no later changes');
$a->ask('COMMIT');
$c->sql_is('SELECT v, count(*) FROM rewritten GROUP BY v ORDER BY v', "1|3750\n2|3750\n3|2500\n4|2000", 'the rows of the rewritten table after commit');

# ---- parallel builds and queries ----
$observer->ask($out);
$a->ask('SET max_parallel_workers = 4; SET max_parallel_workers_per_gather = 2; SET max_parallel_maintenance_workers = 2; SET parallel_setup_cost = 0;'
	  . ' SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET min_parallel_index_scan_size = 0; SET maintenance_work_mem = \'128MB\'; SET work_mem = \'4MB\';'
	  . ' SET client_min_messages = debug1');
$a->errors;
$a->ask('DROP INDEX t_btree; CREATE INDEX t_btree ON t (btree)');
like($a->errors, qr/building index "t_btree" on table "t" with request for 2 parallel workers/, 'a parallel build');
$a->ask('RESET client_min_messages');
check_index($c, 't', 'btree', 'built in parallel', 1 .. 6);
$c->sql('CREATE TABLE other AS SELECT id AS oid, btree AS other FROM t; VACUUM t, other');
for my $query ([ 'Parallel Seq Scan', 'SELECT count(*), sum(hashtext(brin)::int8) FROM t' ],
	[ 'Parallel Index Scan', "SELECT count(*), sum(hashtext(brin)::int8) FROM t WHERE btree > 'a'", 'seqscan', 'bitmapscan', 'indexonlyscan' ],
	[ 'Parallel Index Only Scan', "SELECT count(*), sum(hashtext(btree)::int8) FROM t WHERE btree > '1'", 'seqscan', 'bitmapscan' ],
	[ 'Parallel Bitmap Heap Scan', "SELECT count(*), sum(hashtext(brin)::int8) FROM t WHERE dup < 25", 'seqscan', 'indexscan', 'indexonlyscan' ],
	[ 'Parallel Hash Join', 'SELECT count(*), sum(hashtext(brin)::int8) FROM t JOIN other ON btree = other', 'indexscan', 'mergejoin', 'nestloop', 'indexonlyscan', 'bitmapscan' ])
{
	my ($node, $sql, @off) = @$query;
	my $expected = $c->sql("SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off; $sql");
	$observer->ask($out);
	$a->ask("SET enable_$_ = off") for @off;
	my $plan = $a->ask("EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) $sql");
	like($plan, qr/Workers Launched: [12].*$node/s, "$node by parallel workers");
	$observer->ask($out);
	is($a->ask($sql), $expected, "$node over pages that were evicted");
	$a->ask("RESET enable_$_") for @off;
}
$a->ask('RESET ALL');

# ---- CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY with writers ----
my $n = 12000;
make_table($c, 'u', $n);
$c->sql('ALTER TABLE u ADD PRIMARY KEY (id)');
my $script = PageserverTest::test_dir() . '/writer.sql';
PostgreSQL::Test::Utils::append_to_file($script, <<"EOS");
\\set i random(1, $n)
\\set j random(1, $n)
\\set k random(1, 100000000)
BEGIN;
UPDATE u SET @{[ join(', ', map { "$_ = n.$_" } qw(btree dup gin gin_nofast gist_sorted gist_buffered gist_plain spgist_point spgist_text hash hash_dup brin bloom)) ]}
	FROM (@{[ IndexBuilds::rows(':k', ':k', 'w') ]}) n WHERE u.id = :i;
DELETE FROM u WHERE id = :j;
INSERT INTO u @{[ IndexBuilds::rows(':j', ':j', 'x') ]} ON CONFLICT DO NOTHING;
COMMIT;
EOS
my $writers;

sub start_writers
{
	my $log = PageserverTest::test_dir() . '/writers.log';
	$writers = IPC::Run::start([ PageserverTest::bindir() . '/pgbench', '-n', '-c', 2, '-T', 600, '-f', $script, $c->connstr . ' application_name=writer' ],
		'<', \undef, '>', $log, '2>&1');
	wait_for('the writers', sub { $observer->ask("SELECT sum(n_tup_upd) > 0 FROM pg_stat_all_tables WHERE relname = 'u'") eq 't' });
}

# Stops the writers, all of which must still be running.
sub stop_writers
{
	my ($what) = @_;
	is($observer->ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'writer'"), 2, "$what: the writers got no error");
	$writers->kill_kill;
	wait_for('the writers to end', sub { $observer->ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'writer'") eq '0' });
}

start_writers();
$c->sql(index_sql('u', $_, 'CONCURRENTLY')) for @kinds;
stop_writers('CREATE INDEX CONCURRENTLY');
check_indexes($c, 'u', 'built concurrently', $n);
start_writers();
$c->sql('VACUUM (INDEX_CLEANUP on) u') for 1 .. 2;
$c->sql('REINDEX TABLE CONCURRENTLY u');
$c->sql('VACUUM (INDEX_CLEANUP on) u');
stop_writers('VACUUM and REINDEX CONCURRENTLY');
check_indexes($c, 'u', 'rebuilt concurrently', $n);
$c->sql_is("SELECT count(*) FROM pg_index WHERE NOT indisvalid OR NOT indisready OR NOT indislive", '0', 'no invalid index is left');

# Between its two scans of the table, where an old snapshot holds it up, a concurrent build keeps no page:
# the sorted GiST build has logged its pages in a transaction that has ended.
sub hold_up
{
	my ($sql) = @_;
	$b->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM u');
	$a->send($sql);
	wait_for('the old snapshot', sub { $observer->ask("SELECT phase FROM pg_stat_progress_create_index WHERE pid = $a->{pid}") eq 'waiting for old snapshots' });
}
$c->sql("DROP INDEX t_gist_sorted");
$observer->ask('CHECKPOINT');
my $kept = $observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache');
hold_up(index_sql('t', 'gist_sorted', 'CONCURRENTLY'));
cmp_ok($observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache'), '<', $kept + 20, 'a concurrent sorted GiST build releases its pages when it has logged them');
$observer->ask($out);
$b->ask('COMMIT');
$a->result;
check_index($c, 't', 'gist_sorted', 'built concurrently and evicted', 1 .. 6);

# A build that is canceled at that point leaves an index that is invalid, but is written to; a rebuild
# that is canceled leaves the old index.
my %again = map { $kinds[ rand(@kinds) ] => 1 } 1 .. 3;
start_writers();
for my $kind (sort keys %again)
{
	$c->sql("DROP INDEX u_$kind");
	hold_up(index_sql('u', $kind, 'CONCURRENTLY'));
	$observer->ask("SELECT pg_cancel_backend($a->{pid})");
	$a->result;
	like($a->errors, qr/canceling statement due to user request/, "a concurrent build of index $kind is canceled");
	$b->ask('COMMIT');
	$c->sql_is("SELECT indisready, indisvalid FROM pg_index WHERE indexrelid = 'u_$kind'::regclass", 't|f', 'the index is invalid');
	$c->sql("REINDEX INDEX CONCURRENTLY u_$kind");
	hold_up("REINDEX INDEX CONCURRENTLY u_$kind");
	$observer->ask("SELECT pg_cancel_backend($a->{pid})");
	$a->result;
	like($a->errors, qr/canceling statement due to user request/, "a concurrent rebuild of index $kind is canceled");
	$b->ask('COMMIT');
	$c->sql("DROP INDEX u_${kind}_ccnew");
}
($rc, undef, $err) = $c->psql('CREATE UNIQUE INDEX CONCURRENTLY u_unique ON u (dup)');
like($err, qr/could not create unique index/, 'a concurrent build fails');
$c->sql_is("SELECT indisready, indisvalid FROM pg_index WHERE indexrelid = 'u_unique'::regclass", 'f|f', 'the failed build leaves an invalid index');
$c->sql('DROP INDEX u_unique');
stop_writers('builds that failed');
check_index($c, 'u', $_, 'rebuilt after a failure', map { 1 + int(rand($n)) } 1 .. 6) for sort keys %again;

$c->program_ok('pg_amcheck', 'pg_amcheck', '-d', 'postgres', '--heapallindexed', '--parent-check');
$_->close for $observer, $a, $b;
$c->stop;
oracle_ok($store, 'main', count => 3);
$store->stop;
done_testing();
