# What a transaction sees of its own changes, and of rows that others lock, while its pages are evicted
# between and within statements. The same scripts run on a stock server, whose caches are left alone, and
# the output of psql is compared.
#
# The test covers KEEP_OPEN_XACT in src/compute/keep_reasons.c (command IDs, combo command IDs,
# speculative tokens). This includes cases in which the executor, not a cursor, relies on them: a
# statement does not see its own rows; "cannot affect row a second time". Row locks, which are logged,
# must come back from the store unchanged.
use strict;
use warnings;
use Oracle;
use PageserverTest;
use StockServer;
use Test::More;
use TrapTest;

my $store = trap_store();
my $c = trap_compute($store, 1);
my $stock = StockServer->new(PageserverTest::test_dir() . '/stock', conf => "max_prepared_transactions = 4\nautovacuum = off\njit = off\n"
	  . "max_parallel_workers_per_gather = 0\n");

# The statements below use the same names on both servers.
$stock->sql("CREATE TABLE big (i int); CREATE EXTENSION pg_prewarm; CREATE FUNCTION pageserver_smgr_clear_cache() RETURNS void LANGUAGE SQL AS ''");
$_->sql(<<'END') for $stock, $c;
-- all that a cursor still has, as sums
CREATE FUNCTION drain(c refcursor, OUT n bigint, OUT ids numeric, OUT vs numeric, OUT both_ numeric) LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
	n := 0; ids := 0; vs := 0; both_ := 0;
	LOOP
		FETCH c INTO r;
		EXIT WHEN NOT FOUND;
		n := n + 1; ids := ids + r.id; vs := vs + r.v; both_ := both_ + r.id::numeric * r.v;
	END LOOP;
END $$;
-- pushes everything out at every nth of its calls
CREATE FUNCTION out_every(i bigint, n int) RETURNS bigint VOLATILE LANGUAGE plpgsql AS $$
BEGIN
	IF i % n = 0 THEN PERFORM pg_prewarm('big'), pageserver_smgr_clear_cache(); END IF;
	RETURN i;
END $$;
-- can this session lock the row now?  It does not keep the lock.
CREATE FUNCTION try_lock(t text, i int, mode text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT 1 FROM %I WHERE id = %s FOR %s NOWAIT', t, i, mode);
	RAISE division_by_zero;
EXCEPTION
	WHEN division_by_zero THEN RETURN 'free';
	WHEN lock_not_available THEN RETURN 'locked';
	WHEN serialization_failure THEN RETURN 'changed';
END $$;
END

# ---- one session ----

my $push = "CHECKPOINT;\n" . churn();
my $see = sub { map { "SELECT '$_', * FROM drain('$_');\n" } @_ };
my $cid = "CREATE TABLE cid (id int, v int, pad text);\nBEGIN;\nINSERT INTO cid VALUES (0, 0, '');\n"
  . "INSERT INTO cid SELECT i, 0, repeat('a', 900) FROM generate_series(1, 12000) i;\n";

my @scripts = (
	[ 'cursors and subtransactions, ten times the caches', join '', $cid,
		"DECLARE c1 CURSOR FOR SELECT id, v FROM cid;\n",
		"SAVEPOINT a;\nUPDATE cid SET v = 1 WHERE id % 4 = 0;\nDECLARE c2 CURSOR FOR SELECT id, v FROM cid;\n",
		"SAVEPOINT b;\nDELETE FROM cid WHERE id % 3 = 0;\nDECLARE c3 CURSOR FOR SELECT id, v FROM cid;\nMOVE 5000 FROM c3;\n", $push,
		"INSERT INTO cid SELECT -i, 7, repeat('n', 900) FROM generate_series(1, 3000) i;\nDECLARE c4 CURSOR FOR SELECT id, v FROM cid;\n",
		"DELETE FROM cid WHERE id < -2000;\nUPDATE cid SET v = v + 10 WHERE id % 5 = 0;\n", $push,
		$see->('c3', 'c4'),
		"ROLLBACK TO b;\nDECLARE c5 CURSOR FOR SELECT id, v FROM cid;\nUPDATE cid SET v = v + 100 WHERE id % 8 = 0;\nRELEASE a;\n", $push,
		$see->('c5', 'c1', 'c2'),
		"SELECT count(*), sum(id), sum(v) FROM cid;\nCOMMIT;\nSELECT count(*), sum(id), sum(v) FROM cid;\nDROP TABLE cid;\n" ],

	[ 'a hundred nested subtransactions', join '',
		"CREATE TABLE nest (id int, v int, pad text);\nBEGIN;\nINSERT INTO nest SELECT i, 0, repeat('n', 900) FROM generate_series(1, 4000) i;\n",
		(map {
			my $i = $_;
			("SAVEPOINT s$i;\nUPDATE nest SET v = v + $i WHERE id % 100 IN ($i, @{[ ($i * 7) % 100 ]});\n",
				$i % 20 == 7 ? ("INSERT INTO nest SELECT 10000 * $i + j, $i, 'x' FROM generate_series(1, 100) j;\nDECLARE n$i CURSOR FOR SELECT id, v FROM nest;\n") : (),
				$i % 20 == 8 ? ("DELETE FROM nest WHERE id % 50 = $i % 50;\n", $push) : ())
		} 1 .. 100),
		$push, $see->('n7', 'n47', 'n87'),
		"ROLLBACK TO s90;\n", "UPDATE nest SET v = v - 1;\n", $push,
		"RELEASE s60;\nDECLARE late CURSOR FOR SELECT id, v FROM nest;\nDELETE FROM nest;\n", $push, $see->('n27', 'late'),
		"ROLLBACK TO s30;\n", $push, "SELECT count(*), sum(id), sum(v) FROM nest;\nCOMMIT;\nSELECT count(*), sum(id), sum(v) FROM nest;\nDROP TABLE nest;\n" ],

	[ 'rows that one transaction inserts, changes and deletes', join '',
		"CREATE TABLE combo (id int PRIMARY KEY, v int, pad text) WITH (fillfactor = 60);\nINSERT INTO combo SELECT i, 0, repeat('c', 500) FROM generate_series(1, 1000) i;\n",
		"BEGIN;\nINSERT INTO combo SELECT i, 0, repeat('c', 500) FROM generate_series(1001, 5000) i;\n",
		(map { ("DECLARE k$_ CURSOR FOR SELECT id, v FROM combo;\n",
					"UPDATE combo SET v = v + 1 WHERE id % 3 = $_ % 3;\n",
					"DELETE FROM combo WHERE id % 50 = $_;\n",
					"INSERT INTO combo SELECT id, -$_, 'again' FROM generate_series(1, 5000) id WHERE id % 50 = $_;\n", $push) } 1 .. 6),
		$see->(map { "k$_" } 1 .. 6), "COMMIT;\n", $push, "SELECT count(*), sum(id), sum(v) FROM combo;\nDROP TABLE combo;\n" ],

	[ 'WITH HOLD', join '', $cid,
		"DECLARE h1 CURSOR WITH HOLD FOR SELECT id, v FROM cid;\nUPDATE cid SET v = id;\nDECLARE h2 SCROLL CURSOR WITH HOLD FOR SELECT id, v FROM cid WHERE id % 2 = 0;\nDELETE FROM cid WHERE id > 100;\n",
		$push, "COMMIT;\n", $push, "TRUNCATE cid;\n", $see->('h1'), "MOVE FORWARD 3000 FROM h2;\nFETCH 2 FROM h2;\nFETCH BACKWARD 3 FROM h2;\nCLOSE ALL;\nDROP TABLE cid;\n" ],

	[ 'statements that must not see their own rows', join '',
		"CREATE TABLE own (id int, v int, pad text);\nCREATE INDEX own_v ON own (v);\nBEGIN;\nINSERT INTO own SELECT i, i, repeat('o', 500) FROM generate_series(1, 4000) i;\n", $push,
		"SET LOCAL enable_seqscan = off;\nSET LOCAL enable_bitmapscan = off;\n",
		# The new versions are further ahead in the index that is being scanned.
		"UPDATE own SET v = out_every(v + 1000, 500) WHERE v > 0;\nSELECT count(*), sum(id), sum(v) FROM own;\n",
		"RESET enable_seqscan;\nSET LOCAL enable_indexscan = off;\n",
		"INSERT INTO own SELECT out_every(id, 700) + 10000, v, pad FROM own;\nSELECT count(*), sum(id), sum(v) FROM own;\n",
		"DELETE FROM own WHERE out_every(id, 900) % 2 = 0;\nSELECT count(*), sum(id), sum(v) FROM own;\n",
		"WITH moved AS (DELETE FROM own WHERE id > 12000 RETURNING *) INSERT INTO own SELECT out_every(id, 501), -1, pad FROM moved;\n",
		"SELECT count(*), sum(id), sum(v) FROM own;\nCOMMIT;\nSELECT count(*), sum(id), sum(v) FROM own;\nDROP TABLE own;\n" ],

	[ 'a row that is affected twice', join '',
		"CREATE TABLE twice (id int PRIMARY KEY, v int, pad text);\nINSERT INTO twice VALUES (0, 0, '');\n",
		"BEGIN;\nINSERT INTO twice SELECT out_every(CASE WHEN i = 3000 THEN 5 ELSE i END, 999), 1, repeat('t', 500) FROM generate_series(1, 3000) i ON CONFLICT (id) DO UPDATE SET v = 2;\nROLLBACK;\n",
		"BEGIN;\nINSERT INTO twice SELECT out_every(i, 999), 1, repeat('t', 500) FROM generate_series(1, 3000) i ON CONFLICT (id) DO UPDATE SET v = 2;\n", $push,
		"INSERT INTO twice SELECT out_every(i, 999), 1, repeat('t', 500) FROM generate_series(2000, 4000) i ON CONFLICT (id) DO UPDATE SET v = twice.v + 10;\n", $push,
		"SELECT count(*), sum(id), sum(v) FROM twice;\n",
		"SAVEPOINT m;\nMERGE INTO twice USING (SELECT out_every(CASE WHEN i = 2000 THEN 7 ELSE i END, 499)::int AS i FROM generate_series(1, 2000) i) s ON twice.id = s.i WHEN MATCHED THEN UPDATE SET v = -1 WHEN NOT MATCHED THEN INSERT VALUES (s.i, -2);\nROLLBACK TO m;\n",
		"MERGE INTO twice USING (SELECT out_every(i, 499)::int AS i FROM generate_series(3001, 5000) i) s ON twice.id = s.i WHEN MATCHED AND s.i % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = -1 WHEN NOT MATCHED THEN INSERT VALUES (s.i, -2, repeat('m', 500));\n",
		"UPDATE twice SET v = 1000 FROM generate_series(1, 3) g WHERE out_every(id, 700) > 0;\n",
		"SELECT count(*), sum(id), sum(v) FROM twice;\nCOMMIT;\n", $push, "SELECT count(*), sum(id), sum(v) FROM twice;\nDROP TABLE twice;\n" ],

	[ 'triggers', <<END . $push . <<'END2' . $push . <<'END3' ],
CREATE TABLE trig (id int, v int, pad text); CREATE TABLE seen (id int, sees int, stable_sees int);
CREATE FUNCTION sees_stable() RETURNS bigint STABLE LANGUAGE SQL AS 'SELECT count(*) FROM trig';
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
	IF NEW.id % 400 = 0 THEN
		PERFORM out_every(0, 1);
		INSERT INTO seen SELECT NEW.id, (SELECT count(*) FROM trig), sees_stable();
	END IF;
	RETURN NEW; END \$\$;
CREATE TRIGGER note_before BEFORE INSERT ON trig FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note_after AFTER INSERT ON trig FOR EACH ROW EXECUTE FUNCTION note();
BEGIN;
INSERT INTO trig SELECT i, 0, repeat('t', 900) FROM generate_series(1, 2000) i;
END
INSERT INTO trig SELECT i, 0, repeat('t', 900) FROM generate_series(2001, 4000) i;
SELECT * FROM seen ORDER BY id, sees;
COMMIT;
-- a row that a trigger changes behind the back of the statement
CREATE FUNCTION behind() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	UPDATE trig SET v = v + 1 WHERE id = OLD.id + 1;
	PERFORM out_every(OLD.id, 3);
	RETURN NEW; END $$;
CREATE INDEX ON trig (id);
CREATE TRIGGER behind BEFORE UPDATE ON trig FOR EACH ROW WHEN (NEW.v >= 100) EXECUTE FUNCTION behind();
BEGIN; UPDATE trig SET v = v + 1; UPDATE trig SET v = 100 WHERE id BETWEEN 10 AND 20;
ROLLBACK;
BEGIN; UPDATE trig SET v = v + 1; UPDATE trig SET v = 100 WHERE id IN (1000, 1010, 2000);
END2
SELECT v, count(*), sum(id) FROM trig GROUP BY v ORDER BY v; COMMIT;
SELECT v, count(*), sum(id) FROM trig GROUP BY v ORDER BY v; DROP TABLE trig, seen; DROP FUNCTION note, behind, sees_stable;
END3

	[ 'WHERE CURRENT OF', join '', $cid,
		"DO \$\$ DECLARE c CURSOR FOR SELECT * FROM cid WHERE id > 0 FOR UPDATE; BEGIN FOR r IN c LOOP\n",
		"IF r.id % 1500 = 0 THEN PERFORM out_every(0, 1); END IF; IF r.id % 6 = 0 THEN DELETE FROM cid WHERE CURRENT OF c; ELSIF r.id % 2 = 0 THEN UPDATE cid SET v = r.id WHERE CURRENT OF c; END IF;\nEND LOOP; END \$\$;\n",
		"SELECT count(*), sum(id), sum(v) FROM cid;\nCOMMIT;\n", $push, "SELECT count(*), sum(id), sum(v) FROM cid;\nDROP TABLE cid;\n" ],

	[ 'deferred constraints', join '',
		"CREATE TABLE parent (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int, pad text);\nCREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED, pad text);\n",
		"BEGIN;\nINSERT INTO child SELECT i, repeat('c', 500) FROM generate_series(1, 3000) i;\n", $push,
		"INSERT INTO parent SELECT i, 0, repeat('p', 500) FROM generate_series(1, 3000) i;\n", $push, "COMMIT;\n",
		"BEGIN;\nUPDATE parent SET id = 3001 - id;\nUPDATE parent SET v = 1 WHERE id % 3 = 0;\n", $push, "SELECT count(*), sum(id), sum(v) FROM parent;\nCOMMIT;\n",
		"BEGIN;\nINSERT INTO parent VALUES (77, 77, '');\nSAVEPOINT s;\nDELETE FROM parent WHERE id = 77 AND v = 77;\n", $push, "ROLLBACK TO s;\nCOMMIT;\n",
		"BEGIN;\nDELETE FROM parent WHERE id = 2999;\nINSERT INTO parent VALUES (4000, 0, '');\nSAVEPOINT s;\nDELETE FROM child WHERE id = 2999;\n", $push, "ROLLBACK TO s;\nSET CONSTRAINTS ALL IMMEDIATE;\nROLLBACK;\n",
		"SELECT (SELECT count(*) FROM parent), (SELECT count(*) FROM child);\nDROP TABLE child, parent;\n" ],
);

# The output of psql for a script, with errors in their places.
sub script
{
	my ($server, $sql) = @_;
	my $out = '';
	IPC::Run::run([ PageserverTest::bindir() . '/psql', '-X', '-A', '-t', '-d', $server->connstr, '-f', '-' ],
		'<', \$sql, '>&', \$out, IPC::Run::timeout(120));
	return $out;
}

for my $s (@scripts)
{
	my ($name, $sql) = @$s;
	my $expected = script($stock, $sql);
	my $got = script($c, $sql);
	ok($got eq $expected, $name) or diag(differences($expected, $got));
}

sub differences
{
	my ($expected, $got) = @_;
	my @files = map { PageserverTest::test_dir() . "/$_" } 'expected', 'got';
	for ([ $files[0], $expected ], [ $files[1], $got ])
	{
		open my $f, '>', $_->[0] or die;
		print $f $_->[1];
	}
	return `diff -u @files | head -60`;
}

# ---- several sessions ----

# Runs steps in the sessions that they name, and evicts everything after each.  A step is [ session,
# statement ], or [ session, statement, 'waits' ] for one that must be seen waiting for a lock, or [
# session ] to get its result.
sub play
{
	my ($server, $push, @steps) = @_;
	my %sessions;
	my $observer = session($server);
	my $text = '';

	for my $step (@steps)
	{
		my ($name, $sql, $waits) = @$step;
		my $s = $sessions{$name} //= session($server);
		$text .= "$name> " . ($sql // '(goes on)') . "\n";
		if ($waits)
		{
			$s->send($sql);
			wait_for("$name to wait in $sql", sub { $observer->ask("SELECT count(*) FROM pg_stat_get_activity($s->{pid}) WHERE wait_event_type = 'Lock'") eq '1' });
			$text .= 'waits for ' . $observer->ask("SELECT wait_event FROM pg_stat_get_activity($s->{pid})") . "\n";
		}
		else
		{
			$text .= (defined $sql ? $s->ask($sql) : $s->result) . "\n" . $s->errors;
		}
		$observer->ask($push) if $push;
	}
	$_->close for values %sessions;
	$observer->close;
	return $text =~ s/(Process|transaction) \d+/$1 N/gr;
}

my @modes = ('KEY SHARE', 'SHARE', 'NO KEY UPDATE', 'UPDATE');
my $try = "SELECT id, string_agg(try_lock('locks', id, m), ' ' ORDER BY n) FROM generate_series(1, 12) id, unnest(ARRAY['"
  . join("', '", @modes) . "']) WITH ORDINALITY u (m, n) GROUP BY id ORDER BY id";
my $rows = 'SELECT count(*), sum(v), min(v), max(v) FROM locks';
my @locks = map { $modes[$_] } 0 .. 3;
my @plays = (
	[ 'row locks, multixacts and subtransactions',
		[ 's', "CREATE TABLE locks (id int PRIMARY KEY, v int, pad text) WITH (fillfactor = 70); INSERT INTO locks SELECT i, 0, repeat('l', 300) FROM generate_series(1, 200) i; VACUUM (FREEZE) locks" ],
		[ 'a', 'BEGIN' ],
		# rows 1 to 4 are locked by the transaction, 5 to 8 by a subtransaction, 9 to 12 by one that is
		# rolled back
		(map { [ 'a', "SELECT id FROM locks WHERE id = " . ($_ + 1) . " FOR $locks[$_]" ] } 0 .. 3),
		[ 'a', 'SAVEPOINT s' ], (map { [ 'a', "SELECT id FROM locks WHERE id = " . ($_ + 5) . " FOR $locks[$_]" ] } 0 .. 3), [ 'a', 'RELEASE s' ],
		[ 'a', 'SAVEPOINT s' ], (map { [ 'a', "SELECT id FROM locks WHERE id = " . ($_ + 9) . " FOR $locks[$_]" ] } 0 .. 3), [ 'a', 'ROLLBACK TO s' ],
		[ 'd', $try ],
		[ 'b', "BEGIN; SELECT id FROM locks WHERE id <= 12 FOR KEY SHARE SKIP LOCKED" ],
		[ 'd', $try ],
		# A third one updates what two others lock, and its subtransaction updates more.
		[ 'c', "BEGIN; UPDATE locks SET v = 1 WHERE id IN (SELECT id FROM locks WHERE id <= 12 FOR NO KEY UPDATE SKIP LOCKED)" ],
		[ 'c', "SAVEPOINT s; UPDATE locks SET v = v + 10 WHERE v = 1" ],
		[ 'c', $rows ], [ 'd', $rows ], [ 'd', $try ],
		[ 'c', 'ROLLBACK TO s' ],
		[ 'c', $rows ], [ 'd', $try ],
		[ 'a', 'COMMIT' ], [ 'd', $try ],
		[ 'c', 'UPDATE locks SET v = v + 100 WHERE id <= 8' , ],
		[ 'd', 'DELETE FROM locks WHERE id = 1', 'waits' ],
		[ 'c', 'COMMIT' ], [ 's', $rows ], [ 's', $try ],
		[ 'b', 'COMMIT' ], [ 'd' ], [ 's', $rows ], [ 's', $try ],
		[ 's', 'DROP TABLE locks' ] ],

	[ 'a transaction that locks what it has locked before',
		[ 's', "CREATE TABLE locks (id int PRIMARY KEY, v int, pad text); INSERT INTO locks SELECT i, 0, repeat('l', 300) FROM generate_series(1, 12) i" ],
		[ 'b', 'BEGIN; SELECT count(*) FROM (SELECT 1 FROM locks FOR KEY SHARE) x' ],
		[ 'a', 'BEGIN; SELECT count(*) FROM (SELECT 1 FROM locks FOR KEY SHARE) x' ],
		(map { [ 'a', "SAVEPOINT s$_; UPDATE locks SET v = v + $_ WHERE id >= $_" ] } 1 .. 6),
		[ 'a', 'DECLARE c CURSOR FOR SELECT id, v FROM locks ORDER BY id; UPDATE locks SET v = 99' ],
		[ 'd', $try ], [ 'a', "SELECT * FROM drain('c')" ],
		[ 'a', 'ROLLBACK TO s4' ], [ 'a', $rows ], [ 'd', $try ],
		[ 'a', 'RELEASE s2' ], [ 'a', 'DECLARE c CURSOR FOR SELECT id, v FROM locks; UPDATE locks SET v = -1; ' ], [ 'a', "SELECT * FROM drain('c')" ],
		[ 'a', 'ROLLBACK TO s1' ], [ 'a', $rows ], [ 'd', $try ], [ 'b', 'COMMIT' ], [ 'd', $try ], [ 'a', 'COMMIT' ], [ 'd', $rows ],
		[ 's', 'DROP TABLE locks' ] ],

	[ 'updates that wait, and look again',
		[ 's', "CREATE TABLE epq (id int PRIMARY KEY, v int, pad text); INSERT INTO epq SELECT i, i, repeat('e', 400) FROM generate_series(1, 2000) i" ],
		[ 'a', 'BEGIN; UPDATE epq SET v = v + 10000 WHERE id % 2 = 0' ],
		[ 'b', 'UPDATE epq SET v = v + 1 WHERE id % 100 = 0 AND v > 500', 'waits' ],
		[ 'c', 'BEGIN ISOLATION LEVEL REPEATABLE READ; DECLARE c CURSOR FOR SELECT id, v FROM epq' ],
		[ 'd', 'BEGIN; SELECT id, v FROM epq WHERE id = 100 FOR SHARE', 'waits' ],
		[ 'a', 'COMMIT' ], [ 'b' ], [ 'd' ],
		[ 'b', 'SELECT count(*), sum(v) FROM epq' ],
		[ 'c', "SELECT * FROM drain('c')" ],
		[ 'c', 'UPDATE epq SET v = 0 WHERE id = 2' ], [ 'c', 'ROLLBACK' ],
		[ 'd', 'COMMIT' ], [ 's', 'DROP TABLE epq' ] ],

	[ 'ON CONFLICT that meets a row which another inserts just then',
		[ 's', "CREATE TABLE spec (k int, v text, pad text) WITH (fillfactor = 50)" ],
		[ 's', "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \$\$ BEGIN IF current_setting('trap.slow', true) = \$1::text THEN PERFORM pg_advisory_lock_shared(1); END IF; RETURN \$1; END \$\$" ],
		# The unique index is written first; the other one waits.
		[ 's', 'CREATE UNIQUE INDEX spec_1 ON spec (k); CREATE INDEX spec_2 ON spec (slow(k))' ],
		[ 'h', 'SELECT pg_advisory_lock(1)' ],
		[ 'a', "SET trap.slow = 1; BEGIN" ],
		[ 'a', "INSERT INTO spec VALUES (1, 'a') ON CONFLICT (k) DO UPDATE SET v = spec.v || 'a'", 'waits' ],
		# Until its outcome is known, the others wait for its token, then for its transaction.
		[ 'b', "INSERT INTO spec VALUES (1, 'b') ON CONFLICT (k) DO UPDATE SET v = spec.v || 'b'", 'waits' ],
		[ 'c', "INSERT INTO spec VALUES (1, 'c') ON CONFLICT (k) DO NOTHING", 'waits' ],
		[ 'h', 'SELECT pg_advisory_unlock(1)' ],
		[ 'a' ], [ 'a', 'COMMIT' ], [ 'b' ], [ 'c' ],
		[ 's', 'SELECT k, v FROM spec' ],
		[ 'h', 'SELECT pg_advisory_unlock_all()' ],
		[ 's', 'DROP TABLE spec; DROP FUNCTION slow' ] ],

	[ 'serializable transactions',
		[ 's', "CREATE TABLE ssi (id int PRIMARY KEY, on_call bool, pad text); INSERT INTO ssi SELECT i, true, repeat('s', 400) FROM generate_series(1, 1000) i" ],
		[ 'a', 'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM ssi WHERE on_call' ],
		[ 'b', 'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM ssi WHERE on_call' ],
		[ 'a', 'UPDATE ssi SET on_call = false WHERE id = 1' ], [ 'b', 'UPDATE ssi SET on_call = false WHERE id = 900' ],
		[ 'a', 'COMMIT' ], [ 'b', 'COMMIT' ], [ 'b', 'ROLLBACK' ],
		# through the index; the reader is prepared
		[ 'a', "BEGIN ISOLATION LEVEL SERIALIZABLE; SET enable_seqscan = off; SELECT id FROM ssi WHERE id IN (10, 2000)" ],
		[ 'b', "BEGIN ISOLATION LEVEL SERIALIZABLE; SET enable_seqscan = off; SELECT id FROM ssi WHERE id IN (20, 3000)" ],
		[ 'a', "INSERT INTO ssi VALUES (3000, true); PREPARE TRANSACTION 'ssi'" ],
		[ 'b', 'INSERT INTO ssi VALUES (2000, true)' ], [ 'b', 'COMMIT' ], [ 'b', 'ROLLBACK' ],
		[ 's', "COMMIT PREPARED 'ssi'" ], [ 's', 'SELECT count(*), sum(id) FROM ssi WHERE on_call' ],
		[ 's', 'DROP TABLE ssi' ] ],
);

for my $p (@plays)
{
	my ($name, @steps) = @$p;
	my $expected = play($stock, '', @steps);
	my $got = play($c, $push, @steps);
	ok($got eq $expected, $name) or diag(differences($expected, $got));
	note($expected);
}
like(play($stock, '', [ 's', 'SELECT 1' ]), qr/^s> SELECT 1\n1\n/, 'the compared output contains results');

# ---- many conflicts between concurrent sessions ----
$c->sql("CREATE TABLE upserts (k int PRIMARY KEY, n int, pad text) WITH (fillfactor = 50)");
my @sessions = map { session($c) } 1 .. 4;
my $observer = session($c);
$_->send("DO \$\$ BEGIN FOR i IN 1 .. 300 LOOP INSERT INTO upserts VALUES (i, 1, repeat('u', 500)) ON CONFLICT (k) DO UPDATE SET n = upserts.n + 1; COMMIT; END LOOP; END \$\$") for @sessions;
my $pushed = 0;
while (grep { !$_->done } @sessions)
{
	$observer->ask($push);
	$pushed++;
}
is(join('', map { $_->result; $_->errors } @sessions), '', "no error of four sessions with the same keys, with everything evicted $pushed times meanwhile");
$c->sql_is('SELECT count(*), min(n), max(n) FROM upserts', '300|4|4', 'each session has counted each key once');
$_->close for @sessions, $observer;

cmp_ok($c->sql('SELECT kept / 8192 FROM pageserver_smgr_cache'), '<', 50, 'no pages are kept at the end');
$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--heapallindexed');
$stock->stop;
$c->stop;
oracle_ok($store, 'main', count => 2);
$store->stop;
done_testing();
