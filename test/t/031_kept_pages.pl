# Pages that WAL cannot restore must stay in the local cache. There is one scenario for each reason
# in src/compute/keep_reasons.c; in each, the page is evicted while the reason holds.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use TrapTest;

my $store = trap_store();
my $c = trap_compute($store, 1);
my $out = "CHECKPOINT;\n" . churn();
my ($a, $b, $observer) = (session($c), session($c), session($c));

# ---- command IDs ----
# Redo sets all command IDs to 0.  Other transactions inserted the rows that this transaction deletes, so
# only xmax is its own.
$c->sql("CREATE TABLE other AS SELECT i AS id, repeat('o', 100) pad FROM generate_series(1, 1000) i; VACUUM other");
my $rows = $c->sql("BEGIN; CREATE TEMP TABLE first AS SELECT 1; DECLARE c CURSOR FOR SELECT id FROM other; DELETE FROM other;\n$out FETCH ALL FROM c; ROLLBACK");
is(scalar(split /\n/, $rows), 1000, 'cmax of rows that other transactions inserted');

# Here only xmin is its own: rows that it inserts later.
$rows = $c->sql("BEGIN; CREATE TEMP TABLE first AS SELECT 1; DECLARE c CURSOR FOR SELECT id FROM other;"
	  . " INSERT INTO other SELECT i, repeat('n', 100) FROM generate_series(1001, 5000) i;\n$out FETCH ALL FROM c; ROLLBACK");
is(scalar(split /\n/, $rows), 1000, 'cmin');

# The first combo command ID of a session has the number 0, which is not command ID 0.
$c->sql('CREATE TABLE combo (id int, pad text)');
$rows = $c->sql("BEGIN; CREATE TEMP TABLE first AS SELECT 1; INSERT INTO combo SELECT i, repeat('c', 100) FROM generate_series(1, 1000) i;"
	  . " DECLARE c CURSOR FOR SELECT id FROM combo; DELETE FROM combo;\n$out FETCH ALL FROM c; ROLLBACK");
is(scalar(split /\n/, $rows), 1000, 'a combo command ID that is 0');

# A page changed by two transactions: the one that has ended must not hide the one that is still open.
# Pages are full, so that new versions are stored elsewhere; rows are found by TID, so that nothing is
# pruned or hinted.
$c->sql("CREATE TABLE two (id int, v int, pad text) WITH (autovacuum_enabled = off); INSERT INTO two SELECT i, 0, repeat('t', 300) FROM generate_series(1, 2000) i; VACUUM (FREEZE) two");
for my $multi (0, 1)
{
	my $page = $multi ? 1 : 0;
	my $kind = $multi ? 'multixacts' : 'transactions';
	my $locker = session($c);
	# An update at command ID 1, of a row that another transaction has locked, creates a multixact.
	$locker->ask("BEGIN; SELECT 1 FROM two WHERE ctid IN ('($page,1)', '($page,2)') FOR KEY SHARE") if $multi;
	$a->ask("BEGIN; CREATE TEMP TABLE first_a$multi AS SELECT 1; UPDATE two SET v = 1 WHERE ctid = '($page,1)'; COMMIT");
	$b->ask("BEGIN; CREATE TEMP TABLE first_b$multi AS SELECT 1; DECLARE c CURSOR FOR SELECT id, v FROM two WHERE ctid = '($page,2)'; UPDATE two SET v = 1 WHERE ctid = '($page,2)'");
	$locker->close if $multi;
	is($b->ask("SELECT count(*) FROM heap_page_items(get_raw_page('two', $page)) WHERE lp < 3 AND (t_infomask & 4096 <> 0) = ('$multi' = '1')"), 2, "a page with two $kind");
	$b->ask($out);
	like($b->ask('FETCH ALL FROM c'), qr/^\d+\|0$/, "the newest of two $kind decides");
	$b->ask('ROLLBACK');
}

# Speculative tokens: a tuple that ON CONFLICT has inserted into the heap, but not yet into the unique
# index, meets a conflict there.
$c->sql("CREATE TABLE spec (k int, v text);"
	  . " CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \$\$ BEGIN"
	  . " IF current_setting('trap.slow', true) = \$1::text THEN PERFORM pg_advisory_lock_shared(1); END IF; RETURN \$1; END \$\$;"
	  . " CREATE INDEX spec_1 ON spec (slow(k)); CREATE UNIQUE INDEX spec_2 ON spec (k)");
$observer->ask('SELECT pg_advisory_lock(1)');
$a->ask("SET trap.slow = 1");
$a->send("INSERT INTO spec VALUES (1, 'a') ON CONFLICT DO NOTHING");
wait_for('the index expression', sub { $observer->ask("SELECT count(*) FROM pg_stat_get_activity($a->{pid}) WHERE wait_event = 'advisory'") });
$b->ask("INSERT INTO spec VALUES (1, 'b')");
$b->ask($out);
$observer->ask('SELECT pg_advisory_unlock(1)');
$a->result;
is($a->errors, '', 'a speculative insertion is undone');
$c->sql_is('SELECT v FROM spec', 'b', 'the conflicting row remains');
$a->ask('RESET trap.slow; SELECT pg_advisory_unlock_all()');

# ---- the checkpointer and the background writer detect whether overflowed subtransactions are open ----
$c->sql('CREATE TABLE subs (id int, pad text)');
my $script = "BEGIN;\nINSERT INTO subs SELECT i, repeat('p', 200) FROM generate_series(1, 2000) i;\n";
$script .= "SAVEPOINT s$_;\nINSERT INTO subs SELECT $_ * 1000 + i, repeat('q', 200) FROM generate_series(1, 100) i;\n" for 1 .. 100;
$script .= "DECLARE c CURSOR FOR SELECT id FROM subs;\nSAVEPOINT t1;\nDELETE FROM subs WHERE id % 2 = 0;\n$out"
  . "SAVEPOINT t2;\nINSERT INTO subs SELECT -i, repeat('r', 200) FROM generate_series(1, 10000) i;\nCHECKPOINT";
# The session that connected last is the first of the procarray, which TransactionIdIsInProgress() skips
# in the checkpointer.
my $last = session($c);
$c->sql("CREATE TABLE dirty AS SELECT i AS id, repeat('d', 900) pad FROM generate_series(1, 800) i; VACUUM (FREEZE) dirty");
$last->ask($script);
# The pages that the checkpointer now writes need slots.
for my $i (1 .. 4)
{
	$b->ask(churn());
	$b->ask("UPDATE dirty SET id = id WHERE id % 8 = $i; CHECKPOINT");
}
is(scalar(split /\n/, $last->ask('FETCH ALL FROM c')), 12000, 'a cursor with 100 subtransactions');
$last->ask('ROLLBACK TO t2; COMMIT');
$last->close;
$c->sql_is('SELECT count(*) FROM subs', '6000', 'the rows that are left after the end of the transaction');
cmp_ok($observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache'), '<', 50, 'pages are released when the transaction has ended');

# ---- pages built without WAL ----
$c->sql("CREATE TABLE idx AS SELECT i AS id, ARRAY[i % 1000, i * 2 + 10000, i * 2 + 10001] AS a, point(i % 251, i % 241) AS p, md5(i::text) AS t, int4range(i, i + i % 50) AS r FROM generate_series(1, 40000) i");
my %index = (
	gin => [ 'gin (a)', 'a @> ARRAY[500]' ],
	gist => [ 'gist (r)', 'r && int4range(10000, 10100)' ],
	gist_buffered => [ 'gist (r) WITH (buffering = on)', 'r && int4range(10000, 10100)' ],
	gist_sorted => [ 'gist (p)', "p <@ box '((10,10),(30,30))'" ],
	spgist => [ 'spgist (t)', "t >= 'ff' AND t < 'ff8'" ]);
for my $kind (sort keys %index)
{
	my ($using, $where) = @{ $index{$kind} };
	my $expected = $c->sql("SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT count(*), sum(id) FROM idx WHERE $where");
	$c->sql("CREATE INDEX idx_$kind ON idx USING $using", timeout => 40);
	cmp_ok($c->sql("SELECT pg_relation_size('idx_$kind')"), '>', 2 << 20, "index $kind is larger than the caches");
	cmp_ok($observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache'), '<', 50, "index $kind: nothing is kept after the build")
	  if $kind eq 'gist_sorted';
	is($c->sql(churn() . "SET enable_seqscan = off; SELECT count(*), sum(id) FROM idx WHERE $where"), $expected, "index $kind");
	$c->sql("CHECKPOINT; DROP INDEX idx_$kind");
}

# Another session that writes pages of a GiST build, and commits, must not release them: they are not
# logged yet.
$c->sql("CREATE TABLE note (i int); CREATE FUNCTION slow_range(int) RETURNS int4range IMMUTABLE LANGUAGE plpgsql AS \$\$ BEGIN"
	  . " IF \$1 = 15000 THEN PERFORM pg_advisory_lock_shared(1); END IF; RETURN int4range(\$1, \$1 + 10); END \$\$");
$observer->ask('SELECT pg_advisory_lock(1)');
$a->send('CREATE INDEX idx_others ON idx USING gist (slow_range(id)) WHERE id <= 20000');
wait_for('the build', sub { $observer->ask("SELECT count(*) FROM pg_stat_get_activity($a->{pid}) WHERE wait_event = 'advisory'") });
$b->ask('BEGIN; INSERT INTO note VALUES (1); ' . evict() . 'COMMIT');
$b->ask('SELECT pageserver_smgr_clear_cache()');
cmp_ok($observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache'), '>', 50, 'pages of a GiST build that another session writes are kept');
$observer->ask('SELECT pg_advisory_unlock(1)');
$a->result;
is($a->errors, '', 'the build continues without an error');
$a->ask('SELECT pg_advisory_unlock_all()');
$c->sql_is(churn() . "SET enable_seqscan = off; SELECT count(*) FROM idx WHERE id <= 20000 AND slow_range(id) && int4range(10000, 10100)", '109', 'the GiST index returns all rows');
$c->sql('DROP INDEX idx_others');

# ---- btree: a page that is split behind the position of a VACUUM ----
# The index's second leaf is empty and recycled.  A VACUUM waits in the middle of the index for a page
# that a cursor has pinned; a later leaf is split, and its right half is put into the recycled page, which
# VACUUM has already passed.
$c->sql("CREATE TABLE split (k int) WITH (autovacuum_enabled = off); INSERT INTO split SELECT i * 10 FROM generate_series(1, 4000) i; CREATE INDEX split_k ON split (k)");
$c->sql("DELETE FROM split WHERE k BETWEEN 3000 AND 8000; VACUUM (INDEX_CLEANUP on) split; CREATE TABLE xid (); VACUUM (INDEX_CLEANUP on) split");
cmp_ok($c->sql("SELECT pg_freespace('split_k', 2)"), '>', 0, 'block 2 of the index can be recycled');
$c->sql("DELETE FROM split WHERE k BETWEEN 33000 AND 36000");
$observer->ask($out);
my $kept = $observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache');
$b->ask("SET enable_seqscan = off; SET enable_bitmapscan = off; BEGIN; DECLARE c CURSOR FOR SELECT k FROM split WHERE k >= 15000 ORDER BY k; FETCH 1 FROM c");
$a->send("VACUUM (INDEX_CLEANUP on, FREEZE) split");
wait_for('the pinned page', sub { $observer->ask("SELECT count(*) FROM pg_stat_get_activity($a->{pid}) WHERE wait_event = 'BufferPin'") });
$observer->ask("INSERT INTO split SELECT i * 10 + 5 FROM generate_series(3300, 3600) i");
cmp_ok($observer->ask("SELECT live_items FROM bt_page_stats('split_k', 2)"), '>', 50, 'the right half of a split is in block 2');
# a split behind VACUUM, which does not visit that page again
$observer->ask("INSERT INTO split SELECT i * 10 + 5 FROM generate_series(1, 250) i");
$observer->ask($out) for 1 .. 2;
cmp_ok($observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache'), '>', $kept, 'the halves are kept while VACUUM runs');
$b->ask('COMMIT');
$a->result;
is($a->errors, '', 'VACUUM continues without an error');
$c->sql_is("SELECT count(*) FROM generate_series(1, pg_relation_size('split_k') / 8192 - 1) b, bt_page_items('split_k', b::int)"
	  . " WHERE htid IS NOT NULL AND (SELECT type FROM bt_page_stats('split_k', b::int)) = 'l' AND NOT dead AND htid <> ALL (ARRAY(SELECT ctid FROM split))",
	'0', 'VACUUM leaves no index entry without a row');
is($observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache'), $kept, 'no page is kept when VACUUM has ended, including those that it did not visit');

# ---- sequences: WAL is up to 32 values ahead of the page ----
$c->sql('CREATE SEQUENCE seq');
for my $i (1 .. 3)
{
	is($a->ask("SELECT nextval('seq')"), $i, "a sequence continues without a gap ($i)");
	$b->ask($out);
}
$c->kill9;
$c = trap_compute($store, 0);
my $next = $c->sql("SELECT nextval('seq')");
ok($next > 3 && $next <= 3 + 33, "in the next compute the sequence returns no value twice ($next)");
$c->sql_is("SELECT nextval('seq')", $next + 1, 'the sequence continues in the next compute');
$c->stop;
$store->stop;
done_testing();
