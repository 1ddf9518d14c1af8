# The size functions return what they return on a stock server that has run the same statements: each fork
# of each relation to the block, databases and tablespaces to the byte.
#
# Two things differ between any two servers and are excluded on both sides. The size of directories
# themselves, which pg_tablespace_size() includes, is subtracted; pg_internal.init, a cache that sessions
# write at any time, is removed.
use strict;
use warnings;
use File::Find;
use PageserverTest;
use StockServer;
use Test::More;

my $dir = PageserverTest::test_dir();
my $conf = "shared_buffers = 512kB\npageserver_smgr.cache_size = 1MB\npageserver_smgr.cache_limit = 512MB\nautovacuum = off\n"
  . "max_parallel_workers_per_gather = 0\nmax_parallel_maintenance_workers = 0\ncheckpoint_timeout = 3600\nbgwriter_delay = 10ms\njit = off\n"
  . "allow_in_place_tablespaces = on\nmax_wal_size = 8GB\n";
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
$store->ctl_ok('export of the beginning', 'export', 'main', '-D', "$dir/start");
my $stock = StockServer->new("$dir/stock", from => "$dir/start", conf => $conf =~ s/^pageserver_smgr\..*\n//mgr);
my $c = $store->start_compute('main', conf => $conf);

sub both
{
	my ($sql, %opt) = @_;
	same($c, $stock, "SET client_min_messages = warning; $sql", $opt{what} // (split /\n/, $sql)[0], %opt);
}

# every relation, including catalogs and temporary relations of other sessions
my $relations = "SELECT relname, relpersistence, pg_relation_size(oid) / 8192 main, pg_relation_size(oid, 'fsm') / 8192 fsm,"
  . " pg_relation_size(oid, 'vm') / 8192 vm, pg_relation_size(oid, 'init') / 8192 init, pg_table_size(oid), pg_indexes_size(oid), pg_total_relation_size(oid)"
  . " FROM pg_class c WHERE relkind <> 'v' ORDER BY relname COLLATE \"C\"";

# Returns the bytes of the directories in a tablespace, and removes pg_internal.init.
sub directory_bytes
{
	my ($server, $path) = @_;
	my $bytes = 0;
	my $real = "$server->{dir}/$path";
	return 0 unless -d $real;
	opendir my $d, $real or die "$real: $!";
	for my $entry (grep { !/^\.\.?$/ } readdir $d)
	{
		$bytes += -s "$real/$entry" if -d "$real/$entry";
	}
	return $bytes;
}

sub remove_init_files
{
	my ($server) = @_;
	find({ no_chdir => 1, follow => 1, follow_skip => 2, wanted => sub { unlink $_ if /pg_internal\.init/ } }, "$server->{dir}/base", "$server->{dir}/global", "$server->{dir}/pg_tblspc");
}

# Sizes of all databases and tablespaces, by name and OID.
sub totals
{
	my ($server) = @_;
	my @lines;
	for my $db (split /\n/, $server->sql('SELECT datname FROM pg_database ORDER BY 1'))
	{
		# The session writes the file again.
		remove_init_files($server);
		my ($by_name, $by_oid) = split /\|/, $server->sql("SELECT pg_database_size(datname), pg_database_size(oid) FROM pg_database WHERE datname = '$db'", db => 'template1');
		push @lines, "database $db: $by_name" . ($by_name eq $by_oid ? '' : ", by OID $by_oid");
	}
	for my $spc (split /\n/, $server->sql('SELECT spcname, oid FROM pg_tablespace ORDER BY 1'))
	{
		my ($name, $oid) = split /\|/, $spc;
		remove_init_files($server);
		my ($by_name, $by_oid) = split /\|/, $server->sql("SELECT pg_tablespace_size('$name'), pg_tablespace_size($oid)", db => 'template1');
		my $path = $name eq 'pg_default' ? 'base' : $name eq 'pg_global' ? 'global' : (glob "$server->{dir}/pg_tblspc/$oid/PG_*")[0];
		$path =~ s/^\Q$server->{dir}\E\///;
		my $directories = directory_bytes($server, $path);
		push @lines, "tablespace $name: " . ($by_name - $directories) . ($by_name eq $by_oid ? '' : ", by OID $by_oid");
	}
	return join "\n", @lines;
}

sub compare
{
	my ($what) = @_;
	for my $db ('postgres', 'other')
	{
		both($relations, db => $db, what => "$what: relations of $db");
	}
	same_lines(totals($c), totals($stock), "$what: databases and tablespaces");
}

both("CREATE TABLESPACE ts LOCATION ''");
both("CREATE DATABASE other TABLESPACE ts");
for my $db ('postgres', 'other')
{
	both("CREATE TABLE heap (id int PRIMARY KEY, pad text, tags int[]);"
		  . " INSERT INTO heap SELECT i, repeat('h', 300), ARRAY[i % 10, i % 7] FROM generate_series(1, 5000) i;"
		  . " CREATE INDEX heap_gin ON heap USING gin (tags); CREATE INDEX heap_brin ON heap USING brin (id); CREATE INDEX heap_hash ON heap USING hash (id);"
		  . " CREATE INDEX heap_spgist ON heap USING spgist (md5(id::text)); CREATE INDEX heap_gist ON heap USING gist (point(id, id));", db => $db);
	both("CREATE TABLE toasted (id int, body text); ALTER TABLE toasted ALTER body SET STORAGE EXTERNAL;"
		  . " INSERT INTO toasted SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, 200) i", db => $db);
	both("CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, body text); INSERT INTO unlogged SELECT i, repeat('u', 500) FROM generate_series(1, 2000) i;"
		  . " CREATE INDEX ON unlogged USING gin (to_tsvector('simple', body)); CREATE INDEX ON unlogged USING hash (id); CREATE INDEX ON unlogged USING spgist (md5(id::text))", db => $db);
	both("CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY HASH (id); CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
		  . " CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1) TABLESPACE " . ($db eq 'other' ? 'pg_default' : 'ts') . ";"
		  . " INSERT INTO parted SELECT i, 'p' FROM generate_series(1, 3000) i; CREATE VIEW looks AS SELECT * FROM parted; CREATE SEQUENCE seq;"
		  . " CREATE MATERIALIZED VIEW mat AS SELECT * FROM parted", db => $db);
	both("CREATE TABLE empty (id int, t text)", db => $db);
}
compare("inserts");
my $temporary = TempSession->new($c, $stock);
compare('a temporary table of another session');
$temporary->end;
both("DELETE FROM heap WHERE id % 2 = 0; DELETE FROM toasted WHERE id > 50; DELETE FROM unlogged WHERE id > 500; VACUUM");
compare('VACUUM');
# A map gets its first page, although no bit in it can be set.
both("CREATE TABLE invisible (id int) WITH (autovacuum_enabled = off); INSERT INTO invisible SELECT generate_series(1, 1000)");
my $snapshot = TempSession->new($c, $stock, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
both("DELETE FROM invisible; VACUUM invisible; DELETE FROM heap WHERE id < 100; VACUUM heap");
compare('VACUUM with an old snapshot open');
$snapshot->end;
both("DELETE FROM heap WHERE id > 2000; VACUUM (TRUNCATE) heap; DELETE FROM toasted WHERE id > 20; VACUUM toasted; DELETE FROM unlogged WHERE id > 100; VACUUM unlogged");
compare('VACUUM that truncates');
both("TRUNCATE parted_0, mat");
both("BEGIN; TRUNCATE toasted; INSERT INTO toasted VALUES (1, repeat('x', 100000)); ROLLBACK; BEGIN; SAVEPOINT s; TRUNCATE unlogged; ROLLBACK TO s; COMMIT");
compare('TRUNCATE');
both("CLUSTER heap USING heap_pkey; VACUUM FULL toasted; REINDEX TABLE unlogged; VACUUM FULL pg_class; CLUSTER pg_attribute USING pg_attribute_relid_attnum_index");
both("VACUUM FULL pg_database; REINDEX DATABASE other", db => 'other');
compare('CLUSTER, VACUUM FULL, REINDEX');
both("ALTER TABLE heap SET TABLESPACE ts; ALTER INDEX heap_gin SET TABLESPACE ts; ALTER TABLE unlogged SET LOGGED; ALTER TABLE parted_0 SET UNLOGGED");
compare('SET TABLESPACE, LOGGED, UNLOGGED');
both("DROP TABLE toasted; DROP INDEX heap_hash");
both("CHECKPOINT");
compare('DROP');

# objects that do not exist, and users without permission
both("SELECT pg_relation_size(999999), pg_relation_size(999999, 'vm'), pg_table_size(999999), pg_indexes_size(999999), pg_total_relation_size(999999),"
	  . " pg_database_size(999999), pg_tablespace_size(999999), pg_database_size(0::oid), pg_tablespace_size(0), pg_relation_size(0)", what => 'what does not exist');
both("SELECT pg_relation_size('looks'), pg_table_size('parted'), pg_indexes_size('parted'), pg_total_relation_size('parted_pkey'), pg_relation_size('heap_gin', 'main')", what => 'relations without storage');
both($_) for "SELECT pg_database_size('nobody')", "SELECT pg_tablespace_size('nowhere')", "SELECT pg_relation_size('heap', 'sideways')",
  "SELECT pg_relation_size('nothing')", "SELECT pg_relation_size(999999, 'sideways')", "SELECT pg_total_relation_size(NULL), pg_database_size(NULL::oid), pg_database_size(NULL::name)";
both("CREATE ROLE nobody; REVOKE CONNECT ON DATABASE other FROM public");
both("SET ROLE nobody; $_", what => "as nobody: $_") for "SELECT pg_database_size('other')", "SELECT pg_database_size(999999)", "SELECT pg_database_size(0::oid)", "SELECT pg_tablespace_size('ts')", "SELECT pg_tablespace_size('pg_global')",
  "SELECT pg_tablespace_size(999999)", "SELECT pg_tablespace_size('pg_default') > 0", "SELECT pg_relation_size('heap')", "SELECT pg_database_size('postgres') > 0";
both("GRANT pg_read_all_stats TO nobody; SET ROLE nobody; SELECT pg_tablespace_size('ts') > 0, pg_database_size('other') > 0", what => 'as a reader of statistics');

# the next compute, and a stock server that has crashed: unlogged relations are empty on both
for my $change ('kill', 'stop')
{
	both("CHECKPOINT");
	if ($change eq 'kill')
	{
		$_->kill9 for $c, $stock;
	}
	else
	{
		# A clean stop of a stock server preserves unlogged relations, but there are none by now.
		both("DROP TABLE unlogged, parted_0, parted", db => $_) for 'postgres', 'other';
		both("CHECKPOINT");
		$_->stop for $c, $stock;
	}
	$stock->start;
	$c = $store->start_compute('main', conf => $conf);
	compare("next compute ($change)");
}
$c->stop;
$store->stop;
done_testing();

# A session on both servers, with a temporary table or another statement.
package TempSession;

sub new
{
	my ($class, $c, $stock, $sql) = @_;
	require TrapTest;
	my $self = bless [ map { TrapTest::session($_) } $c, $stock ], $class;
	$_->ask($sql // "CREATE TEMP TABLE temporary (id int PRIMARY KEY, t text); INSERT INTO temporary SELECT i, repeat('t', 1000) FROM generate_series(1, 3000) i") for @$self;
	return $self;
}

sub end
{
	my ($self) = @_;
	$_->close for @$self;
}
