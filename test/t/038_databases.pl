# Commands on databases and tablespaces work on directories and bypass the storage manager. They must do
# what they do on a stock server, even if the compute has not touched any of the relations, across changes
# of the compute, kills, and errors in the middle. The same statements run on a stock server, and the
# results are compared.
use strict;
use warnings;
use Oracle;
use PageserverTest;
use StockServer;
use Test::More;
use TrapTest;

my $dir = PageserverTest::test_dir();
my $small = "shared_buffers = 512kB\npageserver_smgr.cache_size = 1MB\npageserver_smgr.cache_limit = 512MB\n";
# room for all pages, so that those that should be forgotten would still be found
my $roomy = "shared_buffers = 16MB\nbgwriter_lru_maxpages = 0\npageserver_smgr.cache_size = 64MB\n";
my $conf = "autovacuum = off\n"
  . "max_parallel_workers_per_gather = 0\nmax_parallel_maintenance_workers = 0\ncheckpoint_timeout = 3600\nbgwriter_delay = 10ms\njit = off\n"
  . "allow_in_place_tablespaces = on\nmax_prepared_transactions = 4\n";
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
$store->ctl_ok('export of the beginning', 'export', 'main', '-D', "$dir/start");
my $stock = StockServer->new("$dir/stock", from => "$dir/start", conf => $conf);
my $c = $store->start_compute('main', conf => $conf . $small);

# Runs a statement on both servers; with "what", this is a test that also compares the output.
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

# Bytes that a database's directories occupy on the compute's disk, including their files that look like
# relations.
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

# Checks that a database (src, or a copy of it) has the same contents on both servers.
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

# ---- copies while this compute knows the relations ----
both("SELECT nextval('seq'), nextval('cached') FROM generate_series(1, 5)", db => 'src', what => 'sequences');
for my $strategy ('wal_log', 'FILE_COPY', 'DEFAULT')
{
	my $new = lc "by_$strategy";
	both("CREATE DATABASE $new TEMPLATE src STRATEGY = $strategy");
	looks_same($new, 'a copy has all data');
	# FILE_COPY: a sequence's WAL record says that the next 32 values are used
	both("SELECT nextval('seq'), nextval('cached'), last_value FROM seq", db => $new, what => "$new: its sequences continue");
}
both("SELECT nextval('seq'), nextval('cached')", db => 'src', what => 'the sequences of the template continue');
cmp_ok(disk_usage($c, 'by_file_copy'), '<', disk_usage($stock, 'by_file_copy') - 6_000_000, 'a copy of files occupies no disk space for data that is in the store');
is(set_aside(), 0, 'no hidden stubs are left after the copies');
looks_same('src', 'the template is unchanged');
# The file of a dropped relation is removed by the next checkpoint, which is in the middle of the command.
my $dropped = $c->sql("CREATE TABLE dropped AS SELECT 1; CHECKPOINT; SELECT pg_relation_filepath('dropped')", db => 'src');
$c->sql("DROP TABLE dropped", db => 'src');
ok(-e "$c->{dir}/$dropped", 'the file of a dropped relation exists until the next checkpoint');
$c->sql("CREATE DATABASE another TEMPLATE src STRATEGY FILE_COPY; DROP DATABASE another");
ok(!-e "$c->{dir}/$dropped", 'the file of a dropped relation does not come back');
$stock->sql("CREATE TABLE dropped AS SELECT 1", db => 'src');
$stock->sql("DROP TABLE dropped", db => 'src');
# connected to the template itself
both("CREATE DATABASE from_inside TEMPLATE src STRATEGY FILE_COPY", db => 'src');
looks_same('from_inside', 'a copy of the current database');
is(set_aside(), 0, 'no hidden stubs are left after a copy of the current database');
both("DROP DATABASE from_inside");

# Values of a copied sequence that are returned without a WAL record must not be returned again.
both("SELECT nextval('seq')", db => 'src', what => 'a value of the template');
both("CREATE DATABASE late TEMPLATE src STRATEGY WAL_LOG");
my $given = $c->sql("SELECT max(nextval('seq')) FROM generate_series(1, 3)", db => 'late');

# ---- moves ----
next_compute($roomy);
cmp_ok($c->sql("SELECT nextval('seq')", db => 'late'), '>', $given, 'a copied sequence returns no value twice');
both("DROP DATABASE late");
both("ALTER DATABASE src SET TABLESPACE ts2", what => 'no move into a tablespace that has relations of it, untouched here');
looks_same('src', 'the next compute');
both("CREATE TABLE later (id int, pad text); INSERT INTO later SELECT i, repeat('l', 100) FROM generate_series(1, 300) i; SELECT setval('seq', 1000), setval('cached', 1000)", db => 'src', what => 'a table without maps');
looks_same('src', 'a table without maps');
my $lsn_before_moves = $c->sql('SELECT pg_current_wal_insert_lsn()');
both("INSERT INTO t SELECT i, repeat('n', 900) FROM generate_series(10001, 10100) i; SELECT nextval('seq')", db => 'src', what => 'new rows');
both("ALTER DATABASE src SET TABLESPACE ts2", what => 'no move into a tablespace that has relations of it');
both("ALTER TABLE empty SET TABLESPACE pg_default", db => 'src');
both("DO \$\$ BEGIN ALTER DATABASE src SET TABLESPACE ts2; EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', SQLERRM; END \$\$", what => 'no move within a function');
both("ALTER DATABASE src SET TABLESPACE ts2");
looks_same('src', 'after a move');
cmp_ok(disk_usage($c, 'src'), '<', disk_usage($stock, 'src') - 6_000_000, 'a moved database occupies no disk space for data that is in the store');
both("SELECT nextval('seq'), nextval('cached')", db => 'src', what => 'sequences continue after a move');
both("INSERT INTO t SELECT i, repeat('m', 900) FROM generate_series(20001, 20100) i; DELETE FROM t WHERE id < 100; DELETE FROM later WHERE id > 150; VACUUM later; UPDATE u SET pad = 'moved' WHERE id < 10", db => 'src', what => 'changes');
# A move back: what is known of the blocks at its first location is outdated.
both("ALTER DATABASE src SET TABLESPACE pg_default");
looks_same('src', 'after a move back');
is(set_aside(), 0, 'no hidden stubs are left after a move back');

# A move that fails after the copy was made and logged: the row of pg_database changes under it.
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
		$commit eq 'COMMIT' ? like($mover->errors, qr/tuple concurrently updated/, "a move fails late") : like($mover->errors, qr/canceling statement/, "a move is canceled late");
		$other->ask('ROLLBACK');
		$_->close for $other, $mover;
	}
	is(set_aside(), 0, 'hidden stubs are back after a failed move');
	looks_same('src', 'after a failed move');
	is($c->sql("SELECT pg_tablespace_size('ts2') < 100000"), 't', 'the store keeps nothing of the failed move');
}
both("ALTER DATABASE src SET TABLESPACE ts2", what => 'the next attempt succeeds');
looks_same('src', 'after the next attempt');

# A copy that fails in the middle: a file of the template cannot be read.
for my $server ($c, $stock)
{
	my $file = $server->{dir} . '/' . $server->sql("SELECT pg_relation_filepath('u')", db => 'src');
	chmod 0000, $file;
	my ($rc, $out, $err) = $server->psql("CREATE DATABASE broken TEMPLATE src STRATEGY FILE_COPY");
	like($err, qr/could not open file/, 'a copy fails in the middle');
	chmod 0600, $file;
}
is(set_aside(), 0, 'hidden stubs are back after a failed copy');
looks_same('src', 'after a failed copy');
both("SELECT datname FROM pg_database ORDER BY 1", what => 'a failed copy leaves no database');

# ---- a database with the OID of a dropped one ----
my $kept = 'SELECT kept FROM pageserver_smgr_cache';
$c->sql('CREATE EXTENSION pageserver_smgr');
my $kept_before;
# Pages of a copy that failed in the middle must not be found in the next database with that OID.
my $used = 'SELECT used FROM pageserver_smgr_cache';
my $used_before = $c->sql("CHECKPOINT; $used");
my $init = "$c->{dir}/" . $c->sql("SELECT pg_relation_filepath('u')", db => 'src') . '_init';
chmod 0000, $init;
my (undef, undef, $error) = $c->psql('CREATE DATABASE broken TEMPLATE src STRATEGY WAL_LOG');
like($error, qr/could not open file ".*_init"/, 'a page-by-page copy fails in the middle');
chmod 0600, $init;
cmp_ok($c->sql("CHECKPOINT; $used"), '<', $used_before + 200 * 8192, 'the page cache has dropped the pages of the failed copy');
for my $strategy ('file_copy', 'wal_log')
{
	both("CREATE DATABASE again OID 900000 STRATEGY $strategy");
	both("SELECT count(*) > 300 FROM pg_class; DO \$\$ BEGIN FOR i IN 1..150 LOOP EXECUTE format('CREATE TABLE t%s (id serial, pad text)', i); END LOOP; END \$\$;"
		  . " CREATE FUNCTION here() RETURNS int LANGUAGE sql AS 'SELECT 1'; VACUUM pg_class; SELECT nextval('t1_id_seq'); CHECKPOINT", db => 'again', what => "a database of OID 900000, $strategy");
	cmp_ok($c->sql($kept), '>', 0, 'the database has pages that are kept') if $strategy eq 'file_copy';
	both("DROP DATABASE again", what => 'dropped');
	both("CREATE DATABASE again OID 900000 STRATEGY " . ($strategy eq 'file_copy' ? 'wal_log' : 'file_copy'));
	both("SELECT count(*), pg_relation_size('pg_class'), pg_relation_size('pg_attribute') FROM pg_class; SELECT count(*) FROM pg_attribute; SELECT here()",
		db => 'again', what => 'the next database with this OID has none of its data');
	both("CREATE TABLE t1 (id int PRIMARY KEY); INSERT INTO t1 SELECT generate_series(1, 500); SELECT count(*) FROM pg_attribute", db => 'again', what => 'the next database with this OID can be used');
	$kept_before = $c->sql($kept) if $strategy eq 'file_copy';
	both("DROP DATABASE again WITH (FORCE)", what => 'dropped');
}
# A visibility map and a sequence are kept as long as the compute lives.
both("CREATE DATABASE gone");
$kept_before = $c->sql("CHECKPOINT; $kept");
both("CREATE TABLE v AS SELECT generate_series(1, 1000) id; VACUUM v; DELETE FROM v WHERE id = 1; CREATE SEQUENCE s; SELECT nextval('s'); CHECKPOINT", db => 'gone', what => 'pages that are kept');
cmp_ok($c->sql($kept), '>', $kept_before, 'pages of the database are kept');
both("DROP DATABASE gone");
cmp_ok($c->sql($kept), '<=', $kept_before, 'pages of a dropped database are not kept');

# ---- the next compute has not touched any relation ----
next_compute();
both("CREATE DATABASE far_copy TEMPLATE src STRATEGY FILE_COPY", what => 'a copy of a database that this compute has not touched');
looks_same('far_copy', 'the copy has all data');
next_compute();
both("DROP TABLESPACE ts1", what => 'a tablespace cannot be dropped while it contains relations of other databases');
# Only an empty relation is left there, which belongs to a database other than this one.
both("CREATE DATABASE other; ");
both("CREATE TABLESPACE ts3 LOCATION ''");
both("CREATE TABLE lonely (id int) TABLESPACE ts3", db => 'other');
next_compute();
both("DROP TABLESPACE ts3", what => 'a tablespace cannot be dropped while it contains an empty relation of another database');
both("ALTER TABLE ALL IN TABLESPACE ts3 SET TABLESPACE pg_default", db => 'other');
both("DROP TABLESPACE ts3", what => 'the tablespace can be dropped when the relation is dropped');
both("ALTER DATABASE far_copy RENAME TO renamed; ");
looks_same('renamed', 'renamed');

# Dropped by a compute that has touched no relation of it: the store must be told of every tablespace.
next_compute();
both("DROP DATABASE $_") for 'renamed', 'by_wal_log', 'by_file_copy', 'by_default', 'src';
both("SELECT pg_tablespace_size('ts1') < 100000, pg_tablespace_size('ts2') < 100000", what => 'nothing of a dropped database is left in its tablespaces');
both("DROP TABLESPACE ts1; ");
both("DROP TABLESPACE ts2; ");

# ---- kills in the middle ----
for my $command ('CREATE DATABASE half TEMPLATE whole STRATEGY FILE_COPY', 'CREATE DATABASE half TEMPLATE whole STRATEGY WAL_LOG', 'ALTER DATABASE whole SET TABLESPACE ts4', 'DROP DATABASE whole')
{
	my $first = $command =~ /FILE_COPY/;
	$c->sql("CREATE TABLESPACE ts4 LOCATION ''") if $first;
	$c->sql('CREATE DATABASE whole') if $first;
	$c->sql("CREATE TABLE w AS SELECT i AS id, repeat('w', 500) pad FROM generate_series(1, 5000) i", db => 'whole') if $first;
	# A session holds the command up late: it cannot change pg_database, or cannot commit.
	my ($other, $runner) = (session($c), session($c));
	$other->ask($command =~ /CREATE/ ? 'BEGIN; LOCK pg_shdepend IN SHARE MODE' : 'BEGIN; ALTER DATABASE whole CONNECTION LIMIT 40');
	$runner->send($command);
	wait_for('the command', sub { $runner->done || $c->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $runner->{pid} AND wait_event_type = 'Lock'") eq '1' });
	$c->kill9;
	$c = $store->start_compute('main', conf => $conf . $small);
	$c->sql_is('SELECT count(*), sum(length(pad)) FROM w', '5000|2500000', "$command, killed in the middle: the database is complete", db => 'whole');
	$c->sql_is("SELECT count(*) FROM pg_database WHERE datname = 'half'", '0', "$command, killed in the middle: no partial database exists");
	$c->sql('CREATE TABLE again (id int); INSERT INTO again SELECT generate_series(1, 1000); DROP TABLE again', db => 'whole');
}
# ---- the remains of a killed command keep their tablespace in use, as on a stock server, until they are removed ----
both("CREATE TABLESPACE ts5 LOCATION ''");
both("CREATE TABLESPACE ts6 LOCATION ''");
both("CREATE DATABASE moving");
both("CREATE TABLE m AS SELECT generate_series(1, 1000) id", db => 'moving', what => 'a database to move');
my %orphans;    # file paths of the orphaned relations, by server
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
	# Everything is durable, except for the commits.
	$server->sql("SELECT pg_logical_emit_message(true, 'orphans', 'x')");
}
next_compute();
$_->{h}->kill_kill for @sessions;
both("SELECT count(*) FROM pg_class WHERE relname = 'orphan'", what => 'no catalog has the orphaned relation');
both("COMMIT PREPARED 'prepared'; ALTER TABLE prepared SET TABLESPACE pg_default; BEGIN; CREATE TABLE prepared2 (id int) TABLESPACE ts5; PREPARE TRANSACTION 'prepared2'", what => 'the prepared transaction survives');
next_compute();
both("ALTER DATABASE moving SET TABLESPACE ts6", what => 'a database is not moved over the remains of an earlier move');
my $list = "SELECT spcname, database = (SELECT oid FROM pg_database WHERE datname = current_database()), count(*), sum(size) > 100000";
my $group = 'JOIN pg_tablespace t ON t.oid = tablespace GROUP BY 1, 2 ORDER BY 1, 2';
my $creating = session($c);
$creating->ask('BEGIN; CREATE TABLE just_now (id int PRIMARY KEY); CREATE TABLE just_now2 (id int) TABLESPACE ts5; INSERT INTO just_now SELECT generate_series(1, 1000)');
# neither what is in use, nor what belongs to a prepared transaction
my $found = qr/^ts5\|t\|4\|t$/;
like($c->sql("$list FROM pageserver_smgr_orphans() $group"), $found, 'orphans are found');
like($c->sql("BEGIN; $list FROM pageserver_smgr_orphans(true) $group; ROLLBACK"), $found, 'orphans are removed only by a commit');
my ($rc, $out, $err) = $c->psql('BEGIN READ ONLY; SELECT * FROM pageserver_smgr_orphans(true)');
like($err, qr/cannot execute pageserver_smgr_orphans\(true\) in a read-only transaction/, 'a read-only transaction cannot remove orphans');
like($c->sql("$list FROM pageserver_smgr_orphans(true) $group"), $found, 'orphans are removed');
$c->sql_is('SELECT count(*) FROM pageserver_smgr_orphans()', '0', 'no orphans are left');
$creating->ask('COMMIT');
$creating->close;
$c->sql_is('DELETE FROM just_now WHERE id > 500; SELECT count(*) FROM just_now; DROP TABLE just_now, just_now2', '500', 'relations that were in use are unchanged');
$c->sql('CREATE EXTENSION pageserver_smgr', db => 'moving');
like($c->sql("$list FROM pageserver_smgr_orphans(true) $group", db => 'moving'), qr/^ts6\|t\|\d\d\d\|t$/, 'in the database that was to be moved, the orphans are those of the move');
unlink map { glob "$stock->{dir}/$_*" } @{ $orphans{$stock} };
unlink glob "$stock->{dir}/pg_tblspc/" . $stock->sql("SELECT oid FROM pg_tablespace WHERE spcname = 'ts6'") . '/PG_*/*/*';
both("DROP TABLESPACE ts5", what => 'the tablespace cannot be dropped while a prepared transaction has a relation there');
both("COMMIT PREPARED 'prepared2'; DROP TABLE prepared, prepared2; ");
both("DROP TABLESPACE ts5", what => 'the tablespace can be dropped afterwards');
both("ALTER DATABASE moving SET TABLESPACE ts6", what => 'the database can be moved');
both("SELECT count(*), sum(id) FROM m", db => 'moving', what => 'the moved database has all rows');
both("CREATE ROLE mover CREATEDB; ALTER DATABASE moving OWNER TO mover", what => 'an owner who may not create in other tablespaces');
both("INSERT INTO m VALUES (1001)", db => 'moving', what => 'a change that a recovering stock server has not written yet');
both("SET ROLE mover; ALTER DATABASE moving SET TABLESPACE pg_default; ALTER DATABASE moving SET TABLESPACE ts4", what => 'a move that fails before anything is copied');
both("INSERT INTO m VALUES (1002)", db => 'moving', what => 'a failed move does not affect later changes');
next_compute();
both("SELECT count(*), sum(id) FROM m", db => 'moving', what => 'all rows after a failed move, in the next compute');
$c->sql_is('SELECT count(*) FROM pageserver_smgr_orphans()', '0', 'no orphans in the next compute');
# A compute's directory is also built from files that are not relations.
$c->sql('CREATE EXTENSION pageserver_smgr; SELECT count(*) FROM pageserver_smgr_orphans(true)', db => 'whole');
next_compute();
$c->sql_is("DROP TABLESPACE ts4; SELECT count(*) FROM pg_tablespace WHERE spcname = 'ts4'", '0', 'a tablespace into which a killed move was going can be dropped');

$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--install-missing', '--heapallindexed');
$c->stop;
oracle_ok($store, 'main', lsns => [$lsn_before_moves], count => 2);
$store->stop;
done_testing();
