# wal_level = logical. Decoding returns what it returns on a stock server, and what a subscriber has
# reported to its publisher as received is not lost together with the compute.
use strict;
use warnings;
use PageserverTest;
use StockServer;
use Test::More;
use TrapTest;

my $logical = "wal_level = logical\nmax_replication_slots = 8\nmax_wal_senders = 8\n";
my $store = trap_store();
my $c = trap_compute($store, 1, $logical . "logical_decoding_work_mem = 64kB\n");
my $stock = StockServer->new(PageserverTest::test_dir() . '/stock', conf => $logical . "max_prepared_transactions = 4\nautovacuum = off\nlogical_decoding_work_mem = 64kB\n");
$stock->sql("CREATE TABLE big (i int); CREATE EXTENSION pg_prewarm; CREATE FUNCTION pageserver_smgr_clear_cache() RETURNS void LANGUAGE SQL AS ''");

# ---- decoding ----

my $push = "CHECKPOINT;\n" . churn();
my $changes = "pg_logical_slot_get_changes('dec', NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1'";
my $script = <<END;
SELECT slot_name FROM pg_create_logical_replication_slot('dec', 'test_decoding', false, true);
CREATE TABLE dec (id int PRIMARY KEY, v int, pad text, long text);
ALTER TABLE dec ALTER long SET STORAGE EXTERNAL;
CREATE TABLE whole (id int, v text); ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE nokey (id int);
INSERT INTO dec SELECT i, 0, repeat('d', 100), repeat(i::text, 2000) FROM generate_series(1, 200) i;
INSERT INTO whole SELECT i, 'w' || i FROM generate_series(1, 1000) i; INSERT INTO nokey VALUES (1), (2);
$push
-- unchanged TOAST, changed TOAST, changed key
UPDATE dec SET v = 1 WHERE id % 50 = 0; UPDATE dec SET long = repeat('z', 5000) WHERE id = 7; UPDATE dec SET id = -id WHERE id = 9;
UPDATE whole SET v = 'changed' WHERE id % 100 = 3; DELETE FROM whole WHERE id % 200 = 4; UPDATE nokey SET id = 3; DELETE FROM nokey;
$push
BEGIN; INSERT INTO dec SELECT i, 0, repeat('s', 400) FROM generate_series(1000, 1500) i; SAVEPOINT a; DELETE FROM dec WHERE id >= 1400;
SAVEPOINT b; INSERT INTO whole VALUES (-1, 'gone'); ROLLBACK TO b; INSERT INTO whole VALUES (-2, 'stays');
$push
COMMIT;
SELECT count(*), sum(hashtext(data)::bigint) FROM ${changes}) WHERE data NOT LIKE '%1234567890%';
BEGIN; INSERT INTO nokey VALUES (10); CREATE TABLE ddl (a int, b text); INSERT INTO ddl VALUES (1, 'x'); ALTER TABLE ddl ADD c int DEFAULT 5; INSERT INTO ddl VALUES (2, 'y');
ALTER TABLE ddl ALTER a TYPE bigint; INSERT INTO ddl VALUES (3, 'z'); COMMIT;
TRUNCATE nokey, whole; COPY nokey FROM PROGRAM 'seq 1 20';
$push
VACUUM FULL pg_class; VACUUM FULL pg_attribute; VACUUM (FREEZE) dec;
$push
INSERT INTO ddl VALUES (4, 'after');
SELECT pg_logical_emit_message(true, 'prefix', 'in a transaction') IS NOT NULL, pg_logical_emit_message(false, 'prefix', 'by itself') IS NOT NULL;
BEGIN; INSERT INTO nokey VALUES (100); SAVEPOINT s; INSERT INTO nokey VALUES (101); PREPARE TRANSACTION 'dec1';
BEGIN; INSERT INTO nokey VALUES (200); PREPARE TRANSACTION 'dec2';
$push
SELECT data FROM $changes);
COMMIT PREPARED 'dec1'; ROLLBACK PREPARED 'dec2';
BEGIN; INSERT INTO dec SELECT i, 0, repeat('s', 400) FROM generate_series(5000, 5600) i; COMMIT;
INSERT INTO dec VALUES (9999, 0, 'p') ON CONFLICT (id) DO UPDATE SET v = 7; INSERT INTO dec VALUES (9999, 0, 'q') ON CONFLICT (id) DO UPDATE SET v = 7;
SELECT count(*), count(DISTINCT data) FROM pg_logical_slot_peek_changes('dec', NULL, NULL, 'include-xids', '0', 'stream-changes', '1');
$push
SELECT CASE WHEN data LIKE '%table public.dec%ssssss%' THEN 'one of many' ELSE data END, count(*) FROM $changes) WITH ORDINALITY GROUP BY 1 ORDER BY min(ordinality);
SELECT pg_drop_replication_slot('dec');
END

sub psql_says
{
	my ($server) = @_;
	my $out = '';
	IPC::Run::run([ PageserverTest::bindir() . '/psql', '-X', '-A', '-t', '-d', $server->connstr, '-f', '-' ], '<', \$script, '>&', \$out, IPC::Run::timeout(120));
	return $out;
}
my ($expected, $got) = map { psql_says($_) } $stock, $c;
unlike($expected, qr/ERROR/, 'the script runs without an error');
is($got, $expected, 'decoding');
$stock->stop;

# ---- publication and subscription, both in the store ----
$store->ctl_ok('branch of the subscriber', 'branch', 'create', 'sub');

sub subscriber
{
	return $store->start_compute('sub', conf => $TrapTest::conf . $logical . "wal_writer_delay = 10\nwal_receiver_status_interval = 1\nwal_retrieve_retry_interval = 100\n"
	  . "pageserver_smgr.wait_for_commits_in_doubt = off\n");
}
my $s = subscriber();
$_->sql('CREATE TABLE rep (id int PRIMARY KEY, v int, pad text); CREATE TABLE log (i int)') for $c, $s;
$c->sql("INSERT INTO rep SELECT i, 0, repeat('r', 300) FROM generate_series(1, 5000) i; CREATE PUBLICATION pub FOR TABLE rep, log");
$s->sql("CREATE EXTENSION pageserver_smgr; CREATE SUBSCRIPTION subscr CONNECTION '" . $c->connstr . "' PUBLICATION pub WITH (two_phase = true)");
my $sums = 'SELECT (SELECT count(*) FROM rep), (SELECT sum(v) FROM rep), (SELECT sum(id) FROM rep), (SELECT count(*) FROM log), (SELECT sum(i) FROM log)';

sub same_sums
{
	my ($what) = @_;
	my $all = $c->sql($sums);
	my $last = '';
	eval { wait_for('the subscriber', sub { ($last = $s->sql($sums)) eq $all }) };
	is($last, $all, $what);
}
same_sums('the initial copy arrives in the subscriber');
$c->sql('BEGIN; UPDATE rep SET v = v + 1; DELETE FROM rep WHERE id % 10 = 0; INSERT INTO log VALUES (1); COMMIT');
same_sums('changes arrive in the subscriber');

# The publisher discards what the subscriber reports as flushed, so the store must have it before.
# PostgreSQL's rule is that it is flushed locally; send_acknowledged() (src/compute/subscriptions.c) makes
# it wait for the store, whatever happens to the wait that is part of each commit.
my ($worker, $applier, $changed);
my $waits = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'logical replication worker' AND wait_event = 'SyncRep'";

# Whether the publisher has been told that the subscriber has received what
# change_while_store_has_no_wal() changed.
sub reported
{
	return $c->sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'subscr' AND confirmed_flush_lsn > '$changed'") eq '1';
}

sub not_reported
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!reported(), $what) or die 'the publisher has discarded what the rest of the test needs';
}

# Holds the subscriber's WAL back, and runs SQL in the publisher, which returns the WAL position before
# the commit record.
sub change_while_store_has_no_wal
{
	my ($sql) = @_;
	$worker = $s->sql('SELECT worker_pid FROM pageserver_smgr_store');
	stop_process($worker);
	$changed = $c->sql($sql);
	wait_for('the change to arrive in the subscriber', sub { $s->sql($waits) eq '1' || reported() });
	not_reported('the subscriber does not report changes that the store has not acknowledged');
	$applier = $s->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'logical replication worker'");
}

sub lose_subscriber
{
	my ($what) = @_;
	$s->kill9;
	TrapTest::go_on_process($worker);
	$s = subscriber();
	same_sums($what);
}

# the wait continues
my $insert = 'BEGIN; INSERT INTO log VALUES (2); SELECT pg_current_wal_insert_lsn(); COMMIT';
change_while_store_has_no_wal($insert);
lose_subscriber('a killed subscriber receives the lost changes again');

# The end of the postmaster ends the wait of a commit and of PREPARE TRANSACTION.
for my $sql ($insert, "BEGIN; INSERT INTO log VALUES (3); SELECT pg_current_wal_insert_lsn(); PREPARE TRANSACTION 'gid'")
{
	change_while_store_has_no_wal($sql);
	$s->kill9_postmaster;
	wait_for('the end of the worker', sub { !kill(0, $applier) && $c->sql("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'subscr'") eq '0' });
	not_reported('the subscriber does not report them when its postmaster is killed');
	lose_subscriber('a subscriber whose postmaster was killed receives the changes again');
}
my $prepared = sub { $s->sql('SELECT count(*) FROM pg_prepared_xacts') };
wait_for('the prepared transaction', sub { $prepared->() eq '1' });

# A worker that is terminated has committed; the worker that follows continues from there.  A worker that
# follows another one sets the last hint bits of the catalogs, so that the next one has no WAL of its own
# to wait for.
sub follow
{
	my ($old) = @_;
	$s->sql("SELECT pg_terminate_backend($old)");
	my $next = "SELECT pid FROM pg_stat_subscription WHERE subname = 'subscr' AND relid IS NULL AND pid <> $old AND latest_end_lsn IS NOT NULL";
	wait_for('the next worker', sub { $s->sql($next) || $s->sql("$waits AND pid <> $old") eq '1' || reported() });
	return $s->sql($next);
}
same_sums('changes arrive when the worker runs again');
follow(follow($s->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'logical replication worker'")));
change_while_store_has_no_wal($insert);
follow($applier);
not_reported('the changes are not reported by the successor of a worker whose wait was cut short');
lose_subscriber('a subscriber whose worker was terminated receives the changes again');

# COMMIT PREPARED, whose wait is canceled
change_while_store_has_no_wal("SELECT pg_current_wal_insert_lsn(); COMMIT PREPARED 'gid'");
$s->sql("SELECT pg_cancel_backend($applier)");
wait_for('the worker', sub {
	return ($s->log_content =~ /canceling wait for synchronous replication/ && $s->sql($waits) eq '1') || reported();
});
not_reported('the changes are not reported after the wait for COMMIT PREPARED was canceled');
lose_subscriber('the prepared transaction is committed again');
is($prepared->(), '0', 'the transaction is no longer prepared');

# nothing is applied twice: killed at random while it applies
for my $round (1 .. 3)
{
	$c->sql("INSERT INTO log VALUES ($_)") for 1 .. 20;
	$s->kill9;
	$c->sql("UPDATE rep SET v = v + 1 WHERE id % 7 = $round; INSERT INTO log SELECT generate_series(1, 1000)");
	$s = subscriber();
	$c->sql("DO \$\$ BEGIN FOR i IN 1 .. 50 LOOP INSERT INTO log VALUES (i); COMMIT; END LOOP; END \$\$");
}
same_sums('nothing is missing and nothing is applied twice after kills');
$s->stop;
$c->sql('INSERT INTO log VALUES (5)');
$s = subscriber();
same_sums('nothing is missing and nothing is applied twice after a clean stop');
$s->sql('DROP SUBSCRIPTION subscr');
$_->program_ok('pg_amcheck', 'pg_amcheck', '--install-missing', '--all', '--heapallindexed') for $c, $s;
$_->stop for $c, $s;
$store->stop;
done_testing();
