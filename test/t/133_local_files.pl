# PostgreSQL, or an extension through PostgreSQL's C functions, inspects local directories in some places.
# There, a compute that has not touched any relation must return what the compute that created them
# returns.
use strict;
use warnings;
use PageserverTest;
use TrapTest;
use Test::More;

my $conf = "pageserver_smgr.catalog_read_interval = 0\nautovacuum = off\ncheckpoint_timeout = 3600\nallow_in_place_tablespaces = on\n";
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => $conf);

sub next_compute
{
	$c->kill9;
	$c = $store->start_compute('main', conf => $conf);
}

$c->sql("CREATE EXTENSION pageserver_smgr");
$c->sql("CREATE TABLESPACE $_ LOCATION ''") for 'ts', 'other', 'free';
$c->sql("CREATE DATABASE t");
$c->sql("CREATE TABLE a (id int PRIMARY KEY, pad text) TABLESPACE ts; INSERT INTO a SELECT i, repeat('a', 100) FROM generate_series(1, 3000) i; CREATE TABLE b AS SELECT 1 x", db => 't');

# ---- sizes, requested in C ----
my $probe = "$ENV{PAGESERVER_TOP}/test/modules/direct_calls.so";
$c->sql("CREATE FUNCTION $_ RETURNS bigint AS '$probe' LANGUAGE C STRICT")
  for map { "$_->[0]_in_c($_->[1])" } [ relation_size => 'regclass, text' ], [ table_size => 'regclass' ], [ indexes_size => 'regclass' ], [ total_relation_size => 'regclass' ],
  [ database_size => 'oid' ], [ database_size_name => 'name' ], [ tablespace_size => 'oid' ], [ tablespace_size_name => 'name' ];
$c->sql("CREATE TABLE sized (id int PRIMARY KEY, body text) TABLESPACE ts; ALTER TABLE sized ALTER body SET STORAGE EXTERNAL;"
	  . " INSERT INTO sized SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 200) i; CREATE INDEX ON sized USING hash (body)");
# A page of a visibility map in which no bit was set, because of an older snapshot, is in no WAL record,
# and so not in the next compute.
PageserverTest::wait_until(sub {
	$c->sql('VACUUM sized');
	return $c->sql("SELECT bool_and(t.relallvisible = t.relpages) FROM pg_class c, pg_class t WHERE c.oid = 'sized'::regclass AND t.oid IN (c.oid, c.reltoastrelid)") eq 't';
}, 'all pages to be visible to all');
my @sizes = map { [ "$_->[0]_in_c($_->[2])", "pg_$_->[1]($_->[2])" ] }
  [ 'relation_size', 'relation_size', "'sized', 'main'" ], [ 'relation_size', 'relation_size', "'sized', 'fsm'" ], [ 'table_size', 'table_size', "'sized'" ],
  [ 'indexes_size', 'indexes_size', "'sized'" ], [ 'total_relation_size', 'total_relation_size', "'sized'" ];
my $databases = "SELECT database_size_in_c(oid), database_size_name_in_c(datname), pg_database_size(oid), pg_database_size(datname) FROM pg_database WHERE datname = 't'";
my $tablespaces = "SELECT tablespace_size_in_c(oid), tablespace_size_name_in_c(spcname), pg_tablespace_size(oid), pg_tablespace_size(spcname) FROM pg_tablespace WHERE spcname = 'ts'";
my @before = map { $c->sql("SELECT $_->[1]") } @sizes;

# A compute that has not touched these relations: first in C, because SQL creates local files.
for my $order (0, 1)
{
	next_compute();
	for my $sql ($databases, $tablespaces)
	{
		my ($in_c, $by_name, @in_sql) = split /\|/, $c->sql($sql);
		cmp_ok($in_c, '>', 1_000_000, "$sql: much");
		is_deeply([ $in_c, $by_name ], \@in_sql, "$sql: in C as in SQL");
	}
	for my $i ($order ? (reverse 0 .. $#sizes) : (0 .. $#sizes))
	{
		cmp_ok($before[$i], '>', 0, "$sizes[$i][1]: something");
		is($c->sql("SELECT $sizes[$i][0]"), $before[$i], "$sizes[$i][0], in C, in the next compute");
		is($c->sql("SELECT $sizes[$i][1]"), $before[$i], "$sizes[$i][1], in SQL");
	}
}

# ---- which databases use a tablespace ----
sub uses
{
	my ($spc) = @_;
	return $c->sql("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_tablespace s, pg_tablespace_databases(s.oid) d JOIN pg_database b ON b.oid = d WHERE spcname = '$spc'");
}
next_compute();
is(uses('ts'), 'postgres t', 'databases with relations in a tablespace');
is(uses('free'), '', 'no database in an empty tablespace');
is(uses('pg_default'), 'postgres t template0 template1', 'all databases in the default tablespace');
$c->sql('SELECT count(*) FROM a', db => 't');
is(uses('ts'), 'postgres t', 'each database is listed once');
like(($c->psql('SELECT pg_tablespace_databases(1664)'))[2], qr/WARNING: +global tablespace never has databases/, 'the databases of pg_global');
like(($c->psql('SELECT pg_tablespace_databases(99)'))[2], qr/WARNING: +99 is not a tablespace OID/, 'the databases of an OID that is no tablespace');

# ---- CREATE DATABASE ... TABLESPACE: a tablespace that the template uses is refused ----
for my $strategy ('wal_log', 'file_copy')
{
	next_compute();
	my (undef, undef, $err) = $c->psql("CREATE DATABASE x TEMPLATE t TABLESPACE ts STRATEGY $strategy");
	like($err, qr/cannot assign new default tablespace "ts"\n.*already has some tables in this tablespace/, "$strategy: a tablespace that the template uses");
	$c->sql("CREATE DATABASE x_$strategy TEMPLATE t TABLESPACE other STRATEGY $strategy");
	$c->sql("CREATE DATABASE y_$strategy TEMPLATE x_$strategy TABLESPACE pg_default STRATEGY $strategy");
	$c->sql_is('SELECT count(*), max(x) FROM a, b', '3000|1', "$strategy: the copy of a copy has all rows", db => "y_$strategy");
	$c->sql_is("SELECT reltablespace <> 0 FROM pg_class WHERE relname = 'a'", 't', "$strategy: the table is in its tablespace", db => "y_$strategy");
	(undef, undef, $err) = $c->psql("CREATE DATABASE z TEMPLATE x_$strategy TABLESPACE ts STRATEGY $strategy");
	like($err, qr/cannot assign new default tablespace "ts"/, "$strategy: a tablespace that the copied template uses");
}

# A move that was killed leaves a directory behind; when its relations are removed, the files that are
# left in it are not relations.
my ($other, $mover) = (session($c), session($c));
$other->ask('BEGIN; ALTER DATABASE t CONNECTION LIMIT 40');
$mover->send('ALTER DATABASE t SET TABLESPACE free');
wait_for('the move', sub { $c->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $mover->{pid} AND wait_event_type = 'Lock'") eq '1' });
$c->sql("SELECT pg_logical_emit_message(true, 'moving', 'x')");
next_compute();
$_->{h}->kill_kill for $other, $mover;
is(uses('free'), 't', 'the remains of a killed move use its tablespace');
like(($c->psql('CREATE DATABASE x TEMPLATE t TABLESPACE free'))[2], qr/cannot assign new default tablespace "free"/, 'a database cannot be created over the remains of a killed move');
$c->sql('CREATE EXTENSION pageserver_smgr', db => 't');
$c->sql('SELECT count(*) FROM pageserver_smgr_orphans(true)', db => 't');
next_compute();
is(uses('free'), '', 'a directory without relations does not use a tablespace');
$c->sql('CREATE DATABASE x TEMPLATE t TABLESPACE free');
$c->sql_is('SELECT count(*), max(x) FROM a, b', '3000|1', 'a database can be created when the remains are removed', db => 'x');

# ---- a database that is being created has no orphans, and is not created while orphans are searched for ----
my ($creator, $remover, $observer) = map { session($c) } 1 .. 3;
$observer->ask("SELECT wait_event, wait_event_type FROM pg_stat_get_activity(1)");
$remover->ask('SELECT count(*) FROM pageserver_smgr_orphans(true)');
my $checkpointer = $observer->ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
sub waits_for
{
	my ($s, $what) = @_;
	wait_for("a session to wait for $what", sub { $s->done || $observer->ask("SELECT wait_event FROM pg_stat_get_activity($s->{pid})") eq $what });
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!$s->done, "waits for $what");
}
# It begins with a checkpoint.
stop_process($checkpointer);
$creator->send('CREATE DATABASE young TEMPLATE t STRATEGY file_copy');
waits_for($creator, 'CheckpointStart');
$remover->send('SELECT count(*) FROM pageserver_smgr_orphans(true)');
waits_for($remover, 'relation');
go_on_process($checkpointer);
$creator->result;
is($creator->errors, '', 'the database is created');
is($remover->result, '0', 'the database that was created has no orphans');
is($remover->errors, '', 'the search for orphans had no error');
$remover->ask('BEGIN; SELECT count(*) FROM pageserver_smgr_orphans(true)');
$creator->send('CREATE DATABASE younger TEMPLATE t STRATEGY file_copy');
waits_for($creator, 'relation');
$remover->ask('COMMIT');
$creator->result;
is($creator->errors, '', 'another database is created when the search has ended');
$_->close for $creator, $remover, $observer;
next_compute();
$c->sql_is('SELECT count(*), max(x) FROM a, b', '3000|1', "$_ is complete", db => $_) for 'young', 'younger';
$c->stop;
$store->stop;
done_testing();
