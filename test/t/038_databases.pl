# Commands on databases and tablespaces work on directories and bypass the storage manager. They
# must do what they do on a stock server, even if the compute has not touched any of the relations,
# across changes of the compute, kills, and errors in the middle.
use strict;
use warnings;
use Oracle;
use PageserverTest;
use StockServer;
use Test::More;
use TrapTest;

my $dir = PageserverTest::test_dir();
my $small = "shared_buffers = 512kB\npageserver_smgr.cache_size = 1MB\npageserver_smgr.cache_limit = 512MB\n";
# room for all, so that what should be forgotten would still be there
my $roomy = "shared_buffers = 16MB\nbgwriter_lru_maxpages = 0\npageserver_smgr.cache_size = 64MB\n";
my $conf = "autovacuum = off\n"
  . "max_parallel_workers_per_gather = 0\nmax_parallel_maintenance_workers = 0\ncheckpoint_timeout = 3600\nbgwriter_delay = 10ms\njit = off\n"
  . "allow_in_place_tablespaces = on\nmax_prepared_transactions = 4\n";
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
$store->ctl_ok('export of the beginning', 'export', 'main', '-D', "$dir/start");
my $stock = StockServer->new("$dir/stock", from => "$dir/start", conf => $conf);
my $c = $store->start_compute('main', conf => $conf . $small);

# A statement on both servers; with the name of a test it is one, also of what it prints.
sub both
{
	my ($sql, %opt) = @_;
	same($c, $stock, "SET client_min_messages = warning; $sql", $opt{what} // (split /\n/, $sql)[0], %opt);
}

sub next_compute
{
	my ($more) = @_;
	$_->kill9 for $c, $stock;
	$stock->start;
	$c = $store->start_compute('main', conf => $conf . ($more // $small));
}

# Bytes that a database's directories take on the compute's disk, and their files that look like relations.
sub disk_usage
{
	my ($server, $db) = @_;
	my ($oid, $files, $bytes) = ($server->sql("SELECT oid FROM pg_database WHERE datname = '$db'"), 0, 0);
	for my $file (glob "$server->{dir}/base/$oid/* $server->{dir}/pg_tblspc/*/PG_*/$oid/*")
	{
		my @stat = stat $file or next;
		$bytes += $stat[12] * 512;
	}
	return $bytes;
}

sub set_aside
{
	return scalar(() = glob "$c->{dir}/base/*/pageserver_smgr.stubs $c->{dir}/pg_tblspc/*/PG_*/*/pageserver_smgr.stubs");
}

# what a copy of database src, or itself, must hold
my $look = "SELECT 't', count(*), sum(id), sum(length(pad)) FROM t UNION ALL SELECT 'far', count(*), sum(id), sum(length(pad)) FROM far"
  . " UNION ALL SELECT 'u', count(*), sum(id), NULL FROM u UNION ALL SELECT 'empty', count(*), NULL, NULL FROM empty"
  . " UNION ALL SELECT 'body', count(*), NULL, sum(length(body)) FROM toasted;"
  . " SET enable_seqscan = off; SELECT count(*) FROM far WHERE id BETWEEN 100 AND 299; SELECT count(*) FROM u WHERE id BETWEEN 100 AND 299;"
  . " SELECT relname, pg_relation_size(oid), pg_relation_size(oid, 'fsm'), pg_relation_size(oid, 'vm') FROM pg_class WHERE relkind IN ('r', 'i', 'S', 't') AND oid >= 16384 AND relname !~ 'pg_toast' ORDER BY 1";

sub looks_same
{
	my ($db, $what) = @_;
	both($look, db => $db, what => "$what: $db");
}

both("CREATE TABLESPACE ts1 LOCATION ''");
both("CREATE TABLESPACE ts2 LOCATION ''");
both("CREATE DATABASE src");
both("CREATE TABLE t (id int PRIMARY KEY, pad text); INSERT INTO t SELECT i, repeat('t', 900) FROM generate_series(1, 8000) i;"
	  . " CREATE TABLE far (id int PRIMARY KEY, pad text) TABLESPACE ts1; INSERT INTO far SELECT i, repeat('f', 300) FROM generate_series(1, 3000) i;"
	  . " CREATE INDEX far_pad ON far USING hash (id) TABLESPACE ts1; CREATE TABLE empty (id int) TABLESPACE ts2;"
	  . " CREATE TABLE toasted (id int, body text); ALTER TABLE toasted ALTER body SET STORAGE EXTERNAL; INSERT INTO toasted SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 50) i;"
	  . " CREATE UNLOGGED TABLE u (id int PRIMARY KEY, pad text); INSERT INTO u SELECT i, 'u' FROM generate_series(1, 2000) i; CREATE INDEX ON u USING gin (to_tsvector('simple', pad));"
	  . " CREATE SEQUENCE seq; CREATE SEQUENCE cached CACHE 10; VACUUM (FREEZE) t; DELETE FROM far WHERE id % 3 = 0; VACUUM far; CHECKPOINT", db => 'src', what => 'a database to copy');

# ---- copies while the relations are known here ----
both("SELECT nextval('seq'), nextval('cached') FROM generate_series(1, 5)", db => 'src', what => 'sequences');
for my $strategy ('wal_log', 'FILE_COPY', 'DEFAULT')
{
	my $new = lc "by_$strategy";
	both("CREATE DATABASE $new TEMPLATE src STRATEGY = $strategy");
	looks_same($new, 'a copy has it all');
	# FILE_COPY: a record of a sequence says that the next 32 values are taken
	both("SELECT nextval('seq'), nextval('cached'), last_value FROM seq", db => $new, what => "$new: its sequences go on");
}
both("SELECT nextval('seq'), nextval('cached')", db => 'src', what => 'and those of the template');
cmp_ok(disk_usage($c, 'by_file_copy'), '<', disk_usage($stock, 'by_file_copy') - 6_000_000, 'a copy of files takes no room for what is in the store');
is(set_aside(), 0, 'nothing is left aside');
looks_same('src', 'the template is as it was');
# the file of a dropped relation goes with the next checkpoint, and that is in the middle of the command
my $dropped = $c->sql("CREATE TABLE dropped AS SELECT 1; CHECKPOINT; SELECT pg_relation_filepath('dropped')", db => 'src');
$c->sql("DROP TABLE dropped", db => 'src');
ok(-e "$c->{dir}/$dropped", 'the file of a dropped relation');
$c->sql("CREATE DATABASE another TEMPLATE src STRATEGY FILE_COPY; DROP DATABASE another");
ok(!-e "$c->{dir}/$dropped", 'it does not come back');
$stock->sql("CREATE TABLE dropped AS SELECT 1", db => 'src');
$stock->sql("DROP TABLE dropped", db => 'src');
# connected to the template itself
both("CREATE DATABASE from_inside TEMPLATE src STRATEGY FILE_COPY", db => 'src');
looks_same('from_inside', 'a copy of the database at hand');
is(set_aside(), 0, 'nothing is left aside');
both("DROP DATABASE from_inside");

# values of a copied sequence that are given out without a record must not come again
both("SELECT nextval('seq')", db => 'src', what => 'a value of the template');
both("CREATE DATABASE late TEMPLATE src STRATEGY WAL_LOG");
my $given = $c->sql("SELECT max(nextval('seq')) FROM generate_series(1, 3)", db => 'late');

# ---- moves ----
next_compute($roomy);
cmp_ok($c->sql("SELECT nextval('seq')", db => 'late'), '>', $given, 'a copied sequence gives no value twice');
both("DROP DATABASE late");
both("ALTER DATABASE src SET TABLESPACE ts2", what => 'not into a tablespace that has some of it, untouched here');
looks_same('src', 'the next compute');
both("CREATE TABLE later (id int, pad text); INSERT INTO later SELECT i, repeat('l', 100) FROM generate_series(1, 300) i; SELECT setval('seq', 1000), setval('cached', 1000)", db => 'src', what => 'a table without maps');
looks_same('src', 'a table without maps');
my $lsn_before_moves = $c->sql('SELECT pg_current_wal_insert_lsn()');
both("INSERT INTO t SELECT i, repeat('n', 900) FROM generate_series(10001, 10100) i; SELECT nextval('seq')", db => 'src', what => 'new rows');
both("ALTER DATABASE src SET TABLESPACE ts2", what => 'not into a tablespace that has some of it');
both("ALTER TABLE empty SET TABLESPACE pg_default", db => 'src');
both("DO \$\$ BEGIN ALTER DATABASE src SET TABLESPACE ts2; EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', SQLERRM; END \$\$", what => 'not within a function');
both("ALTER DATABASE src SET TABLESPACE ts2");
looks_same('src', 'after a move');
cmp_ok(disk_usage($c, 'src'), '<', disk_usage($stock, 'src') - 6_000_000, 'a moved database takes no room for what is in the store');
both("SELECT nextval('seq'), nextval('cached')", db => 'src', what => 'sequences go on after a move');
both("INSERT INTO t SELECT i, repeat('m', 900) FROM generate_series(20001, 20100) i; DELETE FROM t WHERE id < 100; DELETE FROM later WHERE id > 150; VACUUM later; UPDATE u SET pad = 'moved' WHERE id < 10", db => 'src', what => 'changes');
# back: what is known of the blocks of its first place is old
both("ALTER DATABASE src SET TABLESPACE pg_default");
looks_same('src', 'after a move back');
is(set_aside(), 0, 'nothing is left aside');

# a move that fails when the copy is made and logged: the row of pg_database changes under it
for my $commit ('COMMIT', 'cancel')
{
	for my $server ($c, $stock)
	{
		my ($other, $mover) = (session($server), session($server));
		$other->ask('BEGIN; ALTER DATABASE src CONNECTION LIMIT 50');
		$mover->send('ALTER DATABASE src SET TABLESPACE ts2');
		wait_for('the move', sub { $server->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $mover->{pid} AND wait_event_type = 'Lock'") eq '1' });
		if ($commit eq 'COMMIT')
		{
			$other->ask('COMMIT');
		}
		else
		{
			$server->sql("SELECT pg_cancel_backend($mover->{pid})");
		}
		$mover->result;
		$commit eq 'COMMIT' ? like($mover->errors, qr/tuple concurrently updated/, "a move fails late") : like($mover->errors, qr/canceling statement/, "a move is cancelled late");
		$other->ask('ROLLBACK');
		$_->close for $other, $mover;
	}
	is(set_aside(), 0, 'what was set aside is back');
	looks_same('src', 'after a failed move');
	is($c->sql("SELECT pg_tablespace_size('ts2') < 100000"), 't', 'the store keeps nothing of it');
}
both("ALTER DATABASE src SET TABLESPACE ts2", what => 'the next attempt moves it');
looks_same('src', 'after the next attempt');

# a copy that fails in its middle: a file of the template cannot be read
for my $server ($c, $stock)
{
	my $file = $server->{dir} . '/' . $server->sql("SELECT pg_relation_filepath('u')", db => 'src');
	chmod 0000, $file;
	my ($rc, $out, $err) = $server->psql("CREATE DATABASE broken TEMPLATE src STRATEGY FILE_COPY");
	like($err, qr/could not open file/, 'a copy fails in its middle');
	chmod 0600, $file;
}
is(set_aside(), 0, 'what was set aside is back');
looks_same('src', 'after a failed copy');
both("SELECT datname FROM pg_database ORDER BY 1", what => 'no other database');

# ---- a database with the OID of one that is gone ----
my $kept = 'SELECT kept FROM pageserver_smgr_cache';
$c->sql('CREATE EXTENSION pageserver_smgr');
my $kept_before;
# pages of a copy that failed in its middle would be found in the next database of that OID
my $used = 'SELECT used FROM pageserver_smgr_cache';
my $used_before = $c->sql("CHECKPOINT; $used");
my $init = "$c->{dir}/" . $c->sql("SELECT pg_relation_filepath('u')", db => 'src') . '_init';
chmod 0000, $init;
my (undef, undef, $error) = $c->psql('CREATE DATABASE broken TEMPLATE src STRATEGY WAL_LOG');
like($error, qr/could not open file ".*_init"/, 'a copy page by page fails in its middle');
chmod 0600, $init;
cmp_ok($c->sql("CHECKPOINT; $used"), '<', $used_before + 200 * 8192, 'the page cache has forgotten it');
for my $strategy ('file_copy', 'wal_log')
{
	both("CREATE DATABASE again OID 900000 STRATEGY $strategy");
	both("SELECT count(*) > 300 FROM pg_class; DO \$\$ BEGIN FOR i IN 1..150 LOOP EXECUTE format('CREATE TABLE t%s (id serial, pad text)', i); END LOOP; END \$\$;"
		  . " CREATE FUNCTION here() RETURNS int LANGUAGE sql AS 'SELECT 1'; VACUUM pg_class; SELECT nextval('t1_id_seq'); CHECKPOINT", db => 'again', what => "a database of OID 900000, $strategy");
	cmp_ok($c->sql($kept), '>', 0, 'with pages that are kept') if $strategy eq 'file_copy';
	both("DROP DATABASE again", what => 'dropped');
	both("CREATE DATABASE again OID 900000 STRATEGY " . ($strategy eq 'file_copy' ? 'wal_log' : 'file_copy'));
	both("SELECT count(*), pg_relation_size('pg_class'), pg_relation_size('pg_attribute') FROM pg_class; SELECT count(*) FROM pg_attribute; SELECT here()",
		db => 'again', what => 'the next one with its OID has nothing of it');
	both("CREATE TABLE t1 (id int PRIMARY KEY); INSERT INTO t1 SELECT generate_series(1, 500); SELECT count(*) FROM pg_attribute", db => 'again', what => 'and can be used');
	$kept_before = $c->sql($kept) if $strategy eq 'file_copy';
	both("DROP DATABASE again WITH (FORCE)", what => 'dropped');
}
# a visibility map and a sequence are kept for as long as the compute lives
both("CREATE DATABASE gone");
$kept_before = $c->sql("CHECKPOINT; $kept");
both("CREATE TABLE v AS SELECT generate_series(1, 1000) id; VACUUM v; DELETE FROM v WHERE id = 1; CREATE SEQUENCE s; SELECT nextval('s'); CHECKPOINT", db => 'gone', what => 'pages that are kept');
cmp_ok($c->sql($kept), '>', $kept_before, 'they are');
both("DROP DATABASE gone");
cmp_ok($c->sql($kept), '<=', $kept_before, 'those of a dropped database are not');

# ---- the next compute knows of no relation ----
next_compute();
both("CREATE DATABASE far_copy TEMPLATE src STRATEGY FILE_COPY", what => 'a copy of what this compute has not touched');
looks_same('far_copy', 'it has it all');
next_compute();
both("DROP TABLESPACE ts1", what => 'not while it holds relations of other databases');
# only an empty relation is left there, of another database than this one
both("CREATE DATABASE other; ");
both("CREATE TABLESPACE ts3 LOCATION ''");
both("CREATE TABLE lonely (id int) TABLESPACE ts3", db => 'other');
next_compute();
both("DROP TABLESPACE ts3", what => 'not while it holds an empty relation of another database');
both("ALTER TABLE ALL IN TABLESPACE ts3 SET TABLESPACE pg_default", db => 'other');
both("DROP TABLESPACE ts3", what => 'when it has gone');
both("ALTER DATABASE far_copy RENAME TO renamed; ");
looks_same('renamed', 'renamed');

# dropped by a compute that has touched nothing of it: the store must be told of every tablespace
next_compute();
both("DROP DATABASE $_") for 'renamed', 'by_wal_log', 'by_file_copy', 'by_default', 'src';
both("SELECT pg_tablespace_size('ts1') < 100000, pg_tablespace_size('ts2') < 100000", what => 'nothing is left in their tablespaces');
both("DROP TABLESPACE ts1; ");
both("DROP TABLESPACE ts2; ");

# ---- kills in the middle ----
for my $command ('CREATE DATABASE half TEMPLATE whole STRATEGY FILE_COPY', 'CREATE DATABASE half TEMPLATE whole STRATEGY WAL_LOG', 'ALTER DATABASE whole SET TABLESPACE ts4', 'DROP DATABASE whole')
{
	my $first = $command =~ /FILE_COPY/;
	$c->sql("CREATE TABLESPACE ts4 LOCATION ''") if $first;
	$c->sql('CREATE DATABASE whole') if $first;
	$c->sql("CREATE TABLE w AS SELECT i AS id, repeat('w', 500) pad FROM generate_series(1, 5000) i", db => 'whole') if $first;
	# a session holds the command up late: it cannot change pg_database, or cannot commit
	my ($other, $runner) = (session($c), session($c));
	$other->ask($command =~ /CREATE/ ? 'BEGIN; LOCK pg_shdepend IN SHARE MODE' : 'BEGIN; ALTER DATABASE whole CONNECTION LIMIT 40');
	$runner->send($command);
	wait_for('the command', sub { $runner->done || $c->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $runner->{pid} AND wait_event_type = 'Lock'") eq '1' });
	$c->kill9;
	$c = $store->start_compute('main', conf => $conf . $small);
	$c->sql_is('SELECT count(*), sum(length(pad)) FROM w', '5000|2500000', "$command, killed in its middle: the database is there", db => 'whole');
	$c->sql_is("SELECT count(*) FROM pg_database WHERE datname = 'half'", '0', 'and no half one');
	$c->sql('CREATE TABLE again (id int); INSERT INTO again SELECT generate_series(1, 1000); DROP TABLE again', db => 'whole');
}
# ---- what a kill in the middle leaves behind keeps its tablespace, as on a stock server, until somebody removes it ----
both("CREATE TABLESPACE ts5 LOCATION ''");
both("CREATE TABLESPACE ts6 LOCATION ''");
both("CREATE DATABASE moving");
both("CREATE TABLE m AS SELECT generate_series(1, 1000) id", db => 'moving', what => 'a database to move');
my %orphans;    # their files on the stock server
my @sessions;
for my $server ($c, $stock)
{
	my @held = map { session($server) } 1 .. 3;
	push @sessions, @held;    # open until the kill
	$held[0]->ask("BEGIN; CREATE TABLE orphan (id int PRIMARY KEY USING INDEX TABLESPACE ts5, pad text) TABLESPACE ts5; INSERT INTO orphan SELECT i, repeat('o', 500) FROM generate_series(1, 1000) i");
	$orphans{$server} = [ split /\n/, $held[0]->ask("SELECT pg_relation_filepath(c.oid) FROM pg_class c JOIN pg_tablespace t ON t.oid = reltablespace WHERE spcname = 'ts5'") ];
	$held[1]->ask("BEGIN; CREATE TABLE prepared (id int) TABLESPACE ts5; PREPARE TRANSACTION 'prepared'; BEGIN; ALTER DATABASE moving CONNECTION LIMIT 40");
	$held[2]->send('ALTER DATABASE moving SET TABLESPACE ts6');
	wait_for('the move', sub { $server->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $held[2]{pid} AND wait_event_type = 'Lock'") eq '1' });
	# all of it is durable, but for the commits
	$server->sql("SELECT pg_logical_emit_message(true, 'orphans', 'x')");
}
next_compute();
$_->{h}->kill_kill for @sessions;
both("SELECT count(*) FROM pg_class WHERE relname = 'orphan'", what => 'no catalog names it');
both("COMMIT PREPARED 'prepared'; ALTER TABLE prepared SET TABLESPACE pg_default; BEGIN; CREATE TABLE prepared2 (id int) TABLESPACE ts5; PREPARE TRANSACTION 'prepared2'", what => 'what was prepared is there');
next_compute();
both("ALTER DATABASE moving SET TABLESPACE ts6", what => 'a database is not moved over what is left of a move');
my $list = "SELECT spcname, database = (SELECT oid FROM pg_database WHERE datname = current_database()), count(*), sum(size) > 100000";
my $group = 'JOIN pg_tablespace t ON t.oid = tablespace GROUP BY 1, 2 ORDER BY 1, 2';
my $creating = session($c);
$creating->ask('BEGIN; CREATE TABLE just_now (id int PRIMARY KEY); CREATE TABLE just_now2 (id int) TABLESPACE ts5; INSERT INTO just_now SELECT generate_series(1, 1000)');
# neither what is in use, nor what is prepared
my $found = qr/^ts5\|t\|4\|t$/;
like($c->sql("$list FROM pageserver_smgr_orphans() $group"), $found, 'what was left behind is found');
like($c->sql("BEGIN; $list FROM pageserver_smgr_orphans(true) $group; ROLLBACK"), $found, 'it is removed by a commit only');
my ($rc, $out, $err) = $c->psql('BEGIN READ ONLY; SELECT * FROM pageserver_smgr_orphans(true)');
like($err, qr/cannot execute pageserver_smgr_orphans\(true\) in a read-only transaction/, 'and not by one that only reads');
like($c->sql("$list FROM pageserver_smgr_orphans(true) $group"), $found, 'it is removed');
$c->sql_is('SELECT count(*) FROM pageserver_smgr_orphans()', '0', 'nothing is left of it');
$creating->ask('COMMIT');
$creating->close;
$c->sql_is('DELETE FROM just_now WHERE id > 500; SELECT count(*) FROM just_now; DROP TABLE just_now, just_now2', '500', 'what was in use is as it was');
$c->sql('CREATE EXTENSION pageserver_smgr', db => 'moving');
like($c->sql("$list FROM pageserver_smgr_orphans(true) $group", db => 'moving'), qr/^ts6\|t\|\d\d\d\|t$/, 'in the database that was to be moved it is that of the move');
unlink map { glob "$stock->{dir}/$_*" } @{ $orphans{$stock} };
unlink glob "$stock->{dir}/pg_tblspc/" . $stock->sql("SELECT oid FROM pg_tablespace WHERE spcname = 'ts6'") . '/PG_*/*/*';
both("DROP TABLESPACE ts5", what => 'not while a prepared transaction has something there');
both("COMMIT PREPARED 'prepared2'; DROP TABLE prepared, prepared2; ");
both("DROP TABLESPACE ts5", what => 'and then the tablespace can be dropped');
both("ALTER DATABASE moving SET TABLESPACE ts6", what => 'and the database moved');
both("SELECT count(*), sum(id) FROM m", db => 'moving', what => 'with all it has');
both("CREATE ROLE mover CREATEDB; ALTER DATABASE moving OWNER TO mover", what => 'an owner who may not create in other tablespaces');
both("INSERT INTO m VALUES (1001)", db => 'moving', what => 'a change that a stock server that recovers has not written yet');
both("SET ROLE mover; ALTER DATABASE moving SET TABLESPACE pg_default; ALTER DATABASE moving SET TABLESPACE ts4", what => 'a move that fails before anything is copied');
both("INSERT INTO m VALUES (1002)", db => 'moving', what => 'and does not matter to it');
next_compute();
both("SELECT count(*), sum(id) FROM m", db => 'moving', what => 'also in the next compute');
$c->sql_is('SELECT count(*) FROM pageserver_smgr_orphans()', '0', 'which has no orphans either');
# a compute's directory is also made of what is no relation
$c->sql('CREATE EXTENSION pageserver_smgr; SELECT count(*) FROM pageserver_smgr_orphans(true)', db => 'whole');
next_compute();
$c->sql_is("DROP TABLESPACE ts4; SELECT count(*) FROM pg_tablespace WHERE spcname = 'ts4'", '0', 'a tablespace into which a move was killed');

$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--install-missing', '--heapallindexed');
$c->stop;
oracle_ok($store, 'main', lsns => [$lsn_before_moves], count => 2);
$store->stop;
done_testing();
