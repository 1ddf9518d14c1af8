# The pages that redo helpers produce are compared with those of stock recovery, byte for byte
# (test/unit/redocheck.c). A broad workload runs on a stock server, once with each of the settings that
# change what WAL contains and what redo does.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $redocheck = "$ENV{PAGESERVER_TOP}/test/unit/redocheck";
die "$redocheck is missing: run \"make -C test/unit\"" unless -x $redocheck;

# The scale of the workload: 1 takes about 20 s for each variant.
my $scale = $ENV{REDO_SCALE} || 1;

my @load = (
	"CREATE EXTENSION bloom", "CREATE EXTENSION btree_gist", "CREATE EXTENSION pg_trgm",
	"CREATE EXTENSION pg_visibility", "CREATE EXTENSION pgstattuple",
	"CREATE TABLE ts (id int, x int) TABLESPACE inplace",
	"INSERT INTO ts SELECT i, i FROM generate_series(1, 5000) i", "CREATE INDEX ON ts (x) TABLESPACE inplace",

	# heap, HOT, multi-insert, TOAST
	"CREATE TABLE h (id int, k int, t text, pad text) WITH (fillfactor = 80)",
	"INSERT INTO h SELECT i, i % 1000, md5(i::text), repeat('x', i % 200) FROM generate_series(1, 20000 * $scale) i",
	"CREATE INDEX h_id ON h (id)", "CREATE INDEX h_k ON h (k)", "CREATE UNIQUE INDEX h_u ON h (t, id) INCLUDE (k)",
	"CREATE INDEX h_hash ON h USING hash (k)", "CREATE INDEX h_brin ON h USING brin (id) WITH (pages_per_range = 4)",
	"CREATE INDEX h_trgm ON h USING gin (t gin_trgm_ops)", "CREATE INDEX h_bloom ON h USING bloom (id, k)",
	"CREATE TABLE toast (id int, t text)",
	"INSERT INTO toast SELECT i, string_agg(md5((i * j)::text), '') FROM generate_series(1, 300) i, generate_series(1, 300) j GROUP BY i",
	"COPY (SELECT i, i % 7, md5((i * 7)::text), 'c' FROM generate_series(30001, 45000) i) TO PROGRAM 'cat > copy.txt'",
	"COPY h FROM PROGRAM 'cat copy.txt'",
	"UPDATE h SET pad = pad || 'y' WHERE id % 3 = 0", "UPDATE h SET k = k + 1 WHERE id % 5 = 0",
	"VACUUM h", "DELETE FROM h WHERE id % 4 = 0", "VACUUM (INDEX_CLEANUP on) h",
	"INSERT INTO h SELECT i, i % 50, md5(i::text), 'z' FROM generate_series(50000, 50000 + 10000 * $scale) i",
	"SELECT count(*) FROM (SELECT * FROM h WHERE id % 11 = 0 FOR UPDATE) s",
	"SELECT count(*) FROM (SELECT * FROM h WHERE id % 13 = 0 FOR KEY SHARE) s",
	"VACUUM FREEZE h", "UPDATE h SET pad = 'after freeze' WHERE id % 17 = 0",
	"SELECT count(*) FROM (SELECT * FROM h WHERE id % 19 = 0 FOR SHARE) s",
	"DELETE FROM toast WHERE id % 2 = 0", "UPDATE toast SET t = t || t WHERE id % 3 = 0",
	"INSERT INTO h SELECT 1, 1, 'speculative', '' ON CONFLICT DO NOTHING",
	"BEGIN; INSERT INTO h SELECT i, 0, 'aborted', '' FROM generate_series(1, 3000) i; ROLLBACK",
	"BEGIN; SAVEPOINT a; UPDATE h SET k = 0 WHERE id < 500; ROLLBACK TO a; UPDATE h SET k = 1 WHERE id < 400; COMMIT",

	# GIN
	"CREATE TABLE g (id int, a int[], t tsvector)",
	"CREATE INDEX g_a ON g USING gin (a)", "CREATE INDEX g_nf ON g USING gin (a) WITH (fastupdate = off)",
	"CREATE INDEX g_t ON g USING gin (t)",
	"INSERT INTO g SELECT i, ARRAY[i % 3, i % 100, i], to_tsvector('simple', 'a' || i % 50 || ' b' || i) FROM generate_series(1, 10000 * $scale) i",
	"SELECT gin_clean_pending_list('g_a')", "DELETE FROM g WHERE id % 2 = 0", "VACUUM g",
	"INSERT INTO g SELECT i, ARRAY[1, i % 10], to_tsvector('simple', 'c' || i) FROM generate_series(1, 5000 * $scale) i", "VACUUM g",
	"DELETE FROM g WHERE id > 3000", "VACUUM g",

	# GiST, SP-GiST
	"CREATE TABLE p (id int, p point, b box, r int4range, s text)",
	"CREATE INDEX p_gist ON p USING gist (b)", "CREATE INDEX p_bt ON p USING gist (id)",
	"CREATE INDEX p_quad ON p USING spgist (p)", "CREATE INDEX p_kd ON p USING spgist (p kd_point_ops)",
	"CREATE INDEX p_radix ON p USING spgist (s)", "CREATE INDEX p_r ON p USING gist (r)",
	"INSERT INTO p SELECT i, point(i * 7919 % 10007, i * 104729 % 10009), box(point(i % 997, i % 991), point(i % 997 + 3, i % 991 + 3)), int4range(i, i + 10), md5(i::text) FROM generate_series(1, 8000 * $scale) i",
	"DELETE FROM p WHERE id % 3 = 0", "VACUUM p",
	"INSERT INTO p SELECT i, point(i % 100, i % 77), box(point(i, i), point(i + 1, i + 1)), int4range(i, i + 1), repeat('ab', i % 30) FROM generate_series(1, 4000 * $scale) i",
	"DELETE FROM p WHERE id < 6000", "VACUUM p", "CREATE INDEX p_sorted ON p USING gist (p)",
	"INSERT INTO p SELECT i, point(i, -i), box(point(i, i), point(i, i)), 'empty', 'q' FROM generate_series(1, 3000) i", "VACUUM p",

	# sequences, rewrites, truncation
	"CREATE SEQUENCE s", "SELECT count(nextval('s')) FROM generate_series(1, 1000)", "ALTER SEQUENCE s RESTART 5 INCREMENT 3",
	"SELECT setval('s', 100000)", "SELECT nextval('s')",
	"CREATE TABLE tr AS SELECT i, md5(i::text) t FROM generate_series(1, 20000) i", "CREATE INDEX ON tr (i)",
	"VACUUM tr", "DELETE FROM tr WHERE i > 7000", "VACUUM tr",
	"INSERT INTO tr SELECT i, 'again' FROM generate_series(1, 9000) i", "VACUUM tr", "DELETE FROM tr WHERE i % 100 > 0", "VACUUM tr",
	"SELECT pg_truncate_visibility_map('tr')", "VACUUM tr", "UPDATE tr SET t = 'x'",
	"DELETE FROM tr", "VACUUM tr", "INSERT INTO tr VALUES (1, 'last')",
	"CREATE TABLE t2 AS SELECT * FROM h WHERE id < 5000", "TRUNCATE t2", "INSERT INTO t2 SELECT * FROM h WHERE id < 2000",
	"ALTER TABLE t2 ADD PRIMARY KEY (t, id, k, pad)", "CLUSTER t2 USING t2_pkey", "VACUUM FULL t2",
	"ALTER TABLE t2 ALTER k TYPE bigint", "REINDEX INDEX CONCURRENTLY h_k", "REINDEX TABLE tr", "REINDEX INDEX p_r",
	"CREATE UNLOGGED TABLE ul AS SELECT * FROM h WHERE id < 1000", "CREATE INDEX ON ul (id)", "CREATE INDEX ON ul USING gin (t gin_trgm_ops)",
	"CREATE UNLOGGED SEQUENCE us",
	"SELECT brin_summarize_new_values('h_brin')", "SELECT brin_desummarize_range('h_brin', 0)", "SELECT brin_summarize_range('h_brin', 0)",
	"UPDATE h SET id = id + 1000000 WHERE id % 10 = 1", "DELETE FROM h WHERE id % 3 = 1", "VACUUM h",
	"DELETE FROM h WHERE id BETWEEN 2000 AND 12000", "VACUUM h", "VACUUM h",
	"INSERT INTO h SELECT i, i, md5(i::text), '' FROM generate_series(2000, 12000) i",
	"CREATE MATERIALIZED VIEW mv AS SELECT k, count(*) FROM h GROUP BY k", "REFRESH MATERIALIZED VIEW mv",
	"CREATE DATABASE d2 STRATEGY wal_log", "CREATE DATABASE d3 STRATEGY file_copy",
	"DROP DATABASE d3", "DROP TABLE toast", "ANALYZE",
	"SELECT lo_from_bytea(0, convert_to(repeat('large', 20000), 'UTF8'))",
	"CREATE TABLE part (id int, t text) PARTITION BY HASH (id)",
	(map { "CREATE TABLE part$_ PARTITION OF part FOR VALUES WITH (MODULUS 8, REMAINDER $_)" } 0 .. 7),
	"INSERT INTO part SELECT i, 'p' FROM generate_series(1, 5000) i", "UPDATE part SET id = id + 1 WHERE id % 10 = 0",
);

sub run_variant
{
	my ($name, $initdb, $conf, @flags) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $replayed = PostgreSQL::Test::Cluster->new("${name}_replayed");
	my $base = $node->backup_dir . '/cold';

	$node->init(extra => $initdb);
	$node->append_conf('postgresql.conf', <<EOC);
allow_in_place_tablespaces = on
autovacuum = off
fsync = off
max_connections = 20
max_prepared_transactions = 5
wal_level = replica
wal_keep_size = 20GB
max_wal_size = 200MB
checkpoint_timeout = 30s
$conf
EOC
	$node->start;
	$node->safe_psql('postgres', "CREATE TABLESPACE inplace LOCATION ''");
	$node->stop;
	$node->backup_fs_cold('cold');
	$node->start;

	# several sessions of small transactions, beside the main load
	my $bench = $node->basedir . '/pgbench.out';
	$node->safe_psql('postgres', 'CREATE DATABASE bench');
	$node->command_ok([ 'pgbench', '-i', '-q', 'bench' ], "$name: pgbench -i");
	my $pgbench = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '4', '-T', 15 * $scale, '-p', $node->port, '-h', $node->host, 'bench' ],
		'>', $bench, '2>&1');
	my $failed = 0;
	for my $sql (@load)
	{
		my ($rc, $out, $err) = $node->psql('postgres', $sql);
		next if $rc == 0;
		$failed++;
		diag("$sql: $err");
	}
	is($failed, 0, "$name: the load succeeds");
	$node->safe_psql('d2', "CREATE TABLE x AS SELECT i FROM generate_series(1, 1000) i; VACUUM FREEZE pg_class; VACUUM FULL pg_proc");
	IPC::Run::finish($pgbench);
	is($? >> 8, 0, "$name: pgbench succeeds");
	$node->safe_psql('bench', 'VACUUM');
	my $copied = $node->safe_psql('postgres', 'CHECKPOINT; SELECT pg_create_restore_point(\'end\')');
	$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
	$node->stop('immediate');

	$replayed->init_from_backup($node, 'cold');
	$replayed->append_conf('postgresql.conf', <<EOC);
restore_command = 'cp "@{[$node->data_dir]}/pg_wal/%f" "%p"'
recovery_target_name = 'end'
recovery_target_action = 'shutdown'
hot_standby = off
max_wal_size = 20GB
checkpoint_timeout = 1h
EOC
	$replayed->set_recovery_mode;
	IPC::Run::run([ 'postgres', '-D', $replayed->data_dir ], '>', $replayed->logfile, '2>&1');
	like(slurp_file($replayed->logfile), qr/recovery stopping at restore point "end"/, "$name: stock recovery reaches its target");

	chdir "$ENV{PAGESERVER_TOP}/test/unit" or die;
	my ($stdout, $stderr);
	my $ok = IPC::Run::run([ $redocheck, $base, $node->data_dir . '/pg_wal', $copied, $replayed->data_dir, @flags ],
		'>', \$stdout, '2>', \$stderr);
	note($stdout);
	diag($stderr) if !$ok;
	ok($ok, "$name: pages equal those of stock recovery");
	$_->clean_node for ($node, $replayed);
}

my %variants = (
	plain => [ [], "full_page_writes = on", '--bench' ],
	checksums => [ ['--data-checksums'], "wal_compression = lz4", '--hints' ],
	# the settings that a compute has
	compute => [ [], "full_page_writes = off\nwal_log_hints = on", '--hints' ],
	segments => [ ['--wal-segsize=64'], "wal_compression = pglz\nwal_level = logical\nmin_wal_size = 128MB\nwal_consistency_checking = 'gin,gist'" ],
);

for my $name ($ENV{REDO_VARIANTS} ? split(/,/, $ENV{REDO_VARIANTS}) : qw(plain checksums compute segments))
{
	run_variant($name, @{ $variants{$name} });
}
done_testing();
