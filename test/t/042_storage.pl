# Sequences, unlogged and temporary relations, catalog rewrites, TRUNCATE and DROP in
# subtransactions: the results are those of a stock server, while all pages are evicted again and
# again, and after the compute is killed or stopped.
use strict;
use warnings;
use Oracle;
use PageserverTest;
use StockServer;
use Test::More;
use TrapTest;

my $dir = PageserverTest::test_dir();
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
$store->ctl_ok('export of the beginning', 'export', 'main', '-D', "$dir/start");
my $conf = "shared_buffers = 1MB\nautovacuum = off\nmax_parallel_workers_per_gather = 0\nmax_parallel_maintenance_workers = 0\njit = off\ncheckpoint_timeout = 3600\n";
my $stock = StockServer->new("$dir/stock", from => "$dir/start", conf => $conf);
my $c = trap_compute($store, 1);

# Runs the same statements on both servers, in one session of each that stays open, with the compute's
# caches empty.  If an error is expected, its pattern is given.
my @sessions;

sub open_sessions
{
	@sessions = map { session($_) } $c, $stock;
}

sub both
{
	my ($sql, $what, $error) = @_;
	$sessions[0]->ask(churn());
	my @printed = map { $_->ask("SET client_min_messages = warning; $sql") . "\n" } @sessions;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $session (@sessions)
	{
		# A session's error output may arrive a little after its answer.
		wait_for("the error $error", sub { $session->{h}->pump_nb; $session->{err} =~ /ERROR/ }) if $error;
		my $errors = $session->errors;
		ok($error ? $errors =~ $error : $errors eq '', ($what // $sql) . ': errors') or diag($errors) if $error || $errors;
	}
	return same_lines($printed[0], $printed[1], $what // (split /\n/, $sql)[0]);
}

sub next_compute
{
	my ($how) = @_;
	$_->close for @sessions;
	$c->sql("CHECKPOINT");
	if ($how eq 'kill')
	{
		$_->kill9 for $c, $stock;
	}
	else
	{
		$_->stop for $c, $stock;
	}
	$stock->start;
	$c = trap_compute($store, 0);
	open_sessions();
}

open_sessions();

# ---- sequences ----
both("CREATE SEQUENCE s; CREATE SEQUENCE s_cache CACHE 10; CREATE SEQUENCE s_down INCREMENT -7 MAXVALUE 1000 START 1000; CREATE SEQUENCE s_cycle MAXVALUE 5 CYCLE;"
	  . " CREATE TABLE ser (id serial PRIMARY KEY, ident int GENERATED ALWAYS AS IDENTITY, v text)");
my $next = "SELECT nextval('s'), nextval('s_cache'), nextval('s_down'), nextval('s_cycle')";
both("$next FROM generate_series(1, 4)", "first values");
both("$next, currval('s'), lastval()", "no gap after it was evicted, $_") for 1 .. 3;
both("SELECT s.last_value, s.log_cnt, d.last_value FROM s, s_down d", 'the columns of a sequence');
both("BEGIN; SELECT setval('s', 500); $next; ROLLBACK");
both("$next", "after a setval() that was rolled back");
both("SELECT setval('s', 70, false), setval('s_cache', 30); $next");
both("BEGIN; ALTER SEQUENCE s RESTART 7000 INCREMENT 3; $next");
both("$next; ROLLBACK");
both($next, "after ALTER SEQUENCE that was rolled back");
both("ALTER SEQUENCE s INCREMENT 2 CACHE 5; ALTER SEQUENCE s_cycle RESTART; $next");
both("INSERT INTO ser (v) SELECT 'v' FROM generate_series(1, 40)") for 1 .. 2;
both("SELECT count(*), max(id), max(ident), count(DISTINCT id) FROM ser");
next_compute('stop');
both($next, "the values that follow a clean stop");
both("INSERT INTO ser (v) SELECT 'v' FROM generate_series(1, 3); SELECT max(id), max(ident) FROM ser");
both("$next FROM generate_series(1, 3)", 'more values');
my $last = $sessions[0]->ask("SELECT nextval('s')::text || '|' || nextval('s_down')");
$sessions[1]->ask("SELECT nextval('s'), nextval('s_down')");
next_compute('kill');
my ($s, $down) = split /\|/, $sessions[0]->ask("SELECT nextval('s')::text || '|' || nextval('s_down')");
my ($s_before, $down_before) = split /\|/, $last;
cmp_ok($s, '>', $s_before, 'a sequence returns no value twice after a kill');
cmp_ok($s, '<=', $s_before + 2 * 33 * 5, 'a sequence skips few values after a kill');
cmp_ok($down, '<', $down_before, 'a descending sequence returns no value twice after a kill');
both("INSERT INTO ser (v) VALUES ('after'); SELECT count(DISTINCT id) = count(*) FROM ser", 'a serial column gets no value twice after a kill');

# ---- unlogged relations ----
both("CREATE EXTENSION bloom") && both("CREATE EXTENSION btree_gist");
my %methods = (btree => 'id', hash => 'id', gist => 'id', spgist => 'md5(t)', brin => 'id', gin => 'a', bloom => 'id');
for my $method (sort keys %methods)
{
	both("CREATE UNLOGGED TABLE u_$method (id int, t text, a int[]); CREATE INDEX u_${method}_i ON u_$method USING $method (($methods{$method}))" =~ s/\(\((id|a)\)\)/($1)/r);
	both("INSERT INTO u_$method SELECT i, 't' || i, ARRAY[i, i % 10] FROM generate_series(1, 2000) i", "$method: rows");
}
my $scans = join '; ', 'SET enable_seqscan = off', map { "SELECT '$_', count(*), min(id) FROM u_$_ WHERE " . ($_ eq 'gin' ? 'a @> ARRAY[7]' : $_ eq 'spgist' ? "md5(t) = md5('t77')" : 'id = 77') } sort keys %methods;
my $rows = join ' UNION ALL ', map { "SELECT '$_', count(*) FROM u_$_" } sort keys %methods;
both("EXPLAIN (COSTS OFF) " . ($scans =~ s/.*?; //r =~ s/; /; EXPLAIN (COSTS OFF) /gr), 'index scans of unlogged tables');
both("$scans; $rows", 'unlogged tables and indexes that were evicted');
both("DELETE FROM u_gin WHERE id < 100; VACUUM u_gin; VACUUM FULL u_btree; TRUNCATE u_brin; INSERT INTO u_brin SELECT 77 FROM generate_series(1, 500); REINDEX TABLE u_hash; $scans; $rows", 'unlogged tables that were changed and rewritten');
both("CREATE UNLOGGED MATERIALIZED VIEW um AS SELECT 1", 'no unlogged materialized views', qr/cannot be unlogged/);
both("CREATE UNLOGGED SEQUENCE us; CREATE UNLOGGED SEQUENCE us_logged; CREATE SEQUENCE us_unlogged; SELECT nextval('us'), nextval('us_logged'), nextval('us_unlogged') FROM generate_series(1, 5)");
both("ALTER SEQUENCE us_logged SET LOGGED; ALTER SEQUENCE us_unlogged SET UNLOGGED; SELECT nextval('us'), nextval('us_logged'), nextval('us_unlogged')", 'unlogged sequences that were evicted');
both("SELECT nextval('us'), nextval('us_logged'), nextval('us_unlogged')", 'unlogged sequences that were evicted again');
both("CREATE UNLOGGED TABLE up (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE UNLOGGED TABLE up_1 PARTITION OF up FOR VALUES FROM (0) TO (1000);"
	  . " CREATE TABLE up_2 PARTITION OF up FOR VALUES FROM (1000) TO (2000); INSERT INTO up SELECT generate_series(1, 1999); SELECT relname, relpersistence FROM pg_class WHERE relname ~ '^up' ORDER BY 1");
both("CREATE UNLOGGED TABLE becomes (id int PRIMARY KEY, t text, g int4range); CREATE INDEX ON becomes USING gist (g); CREATE INDEX ON becomes USING gin (to_tsvector('simple', t));"
	  . " INSERT INTO becomes SELECT i, 'b' || i, int4range(i, i + 5) FROM generate_series(1, 3000) i; ALTER TABLE becomes SET LOGGED");
both("CREATE TABLE no_more (id int PRIMARY KEY, t text); INSERT INTO no_more SELECT i, 'n' FROM generate_series(1, 3000) i; ALTER TABLE no_more SET UNLOGGED");
both("CREATE UNLOGGED TABLE there_and_back AS SELECT i FROM generate_series(1, 3000) i; ALTER TABLE there_and_back SET LOGGED; ALTER TABLE there_and_back SET UNLOGGED; BEGIN; ALTER TABLE there_and_back SET LOGGED; INSERT INTO there_and_back VALUES (0); ROLLBACK");
my $changed = "SET enable_seqscan = off; SELECT count(*) FROM becomes WHERE id BETWEEN 10 AND 99; SELECT count(*) FROM becomes WHERE g \@> 500; SELECT count(*) FROM becomes WHERE to_tsvector('simple', t) \@\@ 'b77';"
  . " SELECT count(*), sum(id) FROM becomes; SELECT count(*) FROM no_more; SELECT count(*) FROM no_more WHERE id > 0; SELECT count(*), sum(i) FROM there_and_back; SELECT tableoid::regclass, count(*) FROM up GROUP BY 1 ORDER BY 1";
both($changed, 'SET LOGGED, SET UNLOGGED');

# ---- temporary tables ----
both("SET temp_buffers = 100; CREATE TEMP TABLE tmp (id int PRIMARY KEY, pad text); INSERT INTO tmp SELECT i, repeat('t', 800) FROM generate_series(1, 5000) i; CREATE INDEX ON tmp USING gin (to_tsvector('simple', pad))");
both("DELETE FROM tmp WHERE id % 2 = 0; VACUUM tmp; SELECT count(*), sum(id) FROM tmp; SET enable_seqscan = off; SELECT count(*) FROM tmp WHERE id BETWEEN 100 AND 199; TRUNCATE tmp; SELECT count(*) FROM tmp; INSERT INTO tmp VALUES (1)");
both("BEGIN; CREATE TEMP TABLE tmp_commit (id int) ON COMMIT DROP; INSERT INTO tmp_commit SELECT generate_series(1, 5000); SELECT count(*) FROM tmp_commit");
both("COMMIT; SELECT count(*) FROM tmp_commit", 'a table that is dropped by the COMMIT', qr/does not exist/);
both("CREATE TEMP TABLE tmp_rows (id int) ON COMMIT DELETE ROWS; BEGIN; INSERT INTO tmp_rows SELECT generate_series(1, 5000); SELECT count(*) FROM tmp_rows; COMMIT; SELECT count(*) FROM tmp_rows");
my $temporary = sub { scalar(() = glob "$c->{dir}/base/*/t[0-9]*_[0-9]*") };
cmp_ok($temporary->(), '>', 0, 'temporary tables have files');

# ---- rewrites of mapped catalogs ----
both("VACUUM FULL pg_class; VACUUM FULL pg_attribute; VACUUM FULL pg_proc; VACUUM FULL pg_type; VACUUM FULL pg_database; VACUUM FULL pg_authid; CLUSTER pg_index USING pg_index_indrelid_index; VACUUM FULL pg_largeobject");
both("REINDEX SYSTEM postgres; REINDEX DATABASE postgres", 'REINDEX of everything');
both("SELECT count(*) > 300, count(*) FILTER (WHERE pg_relation_filenode(oid) = oid) > 0 FROM pg_class; CREATE ROLE after_it; CREATE TABLE after_it (id int); SELECT relpages >= 0 FROM pg_class WHERE relname = 'after_it'");

# ---- TRUNCATE, DROP and CREATE that are rolled back ----
both("CREATE TABLE tr (id serial PRIMARY KEY, pad text); INSERT INTO tr (pad) SELECT repeat('r', 500) FROM generate_series(1, 2000); CREATE TABLE dr AS SELECT i AS id, repeat('d', 500) pad FROM generate_series(1, 2000) i; VACUUM tr, dr");
both("BEGIN; SAVEPOINT a; TRUNCATE tr RESTART IDENTITY; INSERT INTO tr (pad) SELECT repeat('x', 700) FROM generate_series(1, 1000); SELECT count(*), max(id) FROM tr; SAVEPOINT b; TRUNCATE tr; INSERT INTO tr (pad) VALUES ('b'); SELECT count(*), min(id) FROM tr");
both("ROLLBACK TO b; SELECT count(*), max(id), sum(length(pad)) FROM tr");
both("ROLLBACK TO a; SELECT count(*), max(id), sum(length(pad)) FROM tr; SAVEPOINT c; DROP TABLE dr; CREATE TABLE dr (n int); INSERT INTO dr SELECT generate_series(1, 5000); SELECT count(*) FROM dr");
both("ROLLBACK TO c; SELECT count(*) FROM dr");
both("ROLLBACK; SELECT count(*), sum(id), sum(length(pad)) FROM dr; SELECT nextval('tr_id_seq')", 'TRUNCATE and DROP are rolled back');
both("BEGIN; CREATE TABLE fresh (id int, pad text); INSERT INTO fresh SELECT i, repeat('o', 800) FROM generate_series(1, 2000) i; SAVEPOINT s; INSERT INTO fresh SELECT i, 'sub' FROM generate_series(1, 1000) i; ROLLBACK TO s; SELECT count(*) FROM fresh");
# a table that was created in this transaction is truncated in place
both("TRUNCATE fresh; SELECT count(*) FROM fresh; INSERT INTO fresh SELECT i, repeat('n', 800) FROM generate_series(1, 500) i; SELECT count(*), min(pad) = max(pad) FROM fresh", 'a table that was created in this transaction is truncated');
both("SAVEPOINT t; TRUNCATE fresh; INSERT INTO fresh VALUES (1, 'one'); ROLLBACK TO t; SELECT count(*), min(length(pad)) FROM fresh");
both("COMMIT; SELECT count(*), min(length(pad)), max(pad) = repeat('n', 800) FROM fresh");
both("TRUNCATE tr RESTART IDENTITY; INSERT INTO tr (pad) SELECT 'again' FROM generate_series(1, 10); SELECT count(*), max(id) FROM tr; SELECT count(*) FROM tr WHERE id = 5");
both("BEGIN; DROP TABLE dr; ROLLBACK; SELECT count(*) FROM dr; DROP TABLE dr; CREATE TABLE dr (id int); SELECT count(*) FROM dr");

# ---- after a kill ----
my $check = "SELECT count(*), max(id) FROM tr; SELECT count(*), min(length(pad)), max(pad) = repeat('n', 800) FROM fresh; SELECT count(*) FROM dr; SELECT relname, relkind, relpersistence FROM pg_class WHERE oid >= 16384 AND relnamespace = 'public'::regnamespace AND relname !~ '^(big|pageserver|pg_|bt_)' ORDER BY 1";
next_compute('kill');
is($temporary->(), 0, 'no file of a temporary table is left');
both("$check; $changed; $scans; $rows", 'after a kill, when unlogged relations are empty');
both("INSERT INTO u_$_ SELECT i, 't' || i, ARRAY[i, i % 10] FROM generate_series(1, 2000) i", "$_: can be used at once") for sort keys %methods;
both("SELECT nextval('us'), nextval('us_unlogged'), nextval('us_logged') > 7", 'an unlogged sequence starts again');
both("$scans; $rows; INSERT INTO no_more VALUES (1, 'new'); INSERT INTO up SELECT generate_series(1, 10); $changed", 'unlogged relations keep what is inserted now');
both("CREATE ROLE one_more; SELECT rolname FROM pg_roles WHERE rolname ~ '_it|_more' ORDER BY 1; VACUUM FULL pg_class; VACUUM FULL pg_database");
next_compute('kill');
both("$check; SELECT rolname FROM pg_roles WHERE rolname ~ '_it|_more' ORDER BY 1", 'after another kill');
$_->close for @sessions;
$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--heapallindexed');
$c->stop;
oracle_ok($store, 'main', count => 2);
$store->stop;
done_testing();
