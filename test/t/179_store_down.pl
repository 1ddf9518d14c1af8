# The store is down. It must be possible to connect to every database, including those that this compute
# has never been connected to, and what monitoring asks must be answered. To make this possible, catalogs
# are read in advance while the store is up.
use strict;
use warnings;
use PageserverTest;
use POSIX ();
use TrapTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('a branch', 'branch', 'create', 'main');
# What is read must stay in the local page cache: shared buffers have room for little of it.
my $conf = "autovacuum = off\nshared_buffers = 1MB\nmax_parallel_workers_per_gather = 0\nmax_prepared_transactions = 2\n"
  . "log_min_messages = debug1\npageserver_smgr.catalog_read_interval = 1s\n";
my $c = $store->start_compute('main', conf => $conf);
$c->sql('CREATE EXTENSION pageserver_smgr; CREATE ROLE mon LOGIN IN ROLE pg_monitor; CREATE ROLE nobody LOGIN');
$c->sql("CREATE DATABASE $_") for qw(d1 d2 stuck);
$c->sql('CREATE TABLE t AS SELECT generate_series(1, 10000) i', db => 'd2');
$c->sql('ALTER ROLE mon SET work_mem = 1111; ALTER DATABASE d1 SET work_mem = 2222; CREATE DATABASE closed ALLOW_CONNECTIONS false');
# A reader that looks for the extension there waits; sessions that connect do not.
my $stuck = $c->sql("SELECT oid FROM pg_database WHERE datname = 'stuck'");
$c->sql("BEGIN; LOCK TABLE pg_depend; PREPARE TRANSACTION 'lock'", db => 'stuck');
$c->stop;

sub wait_for_log
{
	my ($compute, $pattern, $what) = @_;
	PageserverTest::wait_until(sub { $compute->log_content =~ $pattern }, $what);
}

sub wait_until_read
{
	my ($compute, @databases) = @_;
	wait_for_log($compute, qr/the catalogs of database $_ have been read/, "database $_") for @databases;
}

# ---- a reader that is kept waiting gives up, and the next one succeeds ----
$c = $store->start_compute('main', conf => $conf);
wait_for_log($c, qr/could not read catalogs of database $stuck in advance: canceling/, 'the reader to give up');
unlike($c->log_content, qr/the catalogs of database $stuck have been read/, 'a database whose catalogs are locked is not reported as read');
$c->sql("ROLLBACK PREPARED 'lock'", db => 'stuck');
wait_until_read($c, $stuck);
$c->stop;

# ---- commands that need a database without sessions, while catalogs are read ----
$c = $store->start_compute('main', conf => $conf);
for my $template (qw(d1 d2 template1))
{
	$c->sql("CREATE DATABASE new TEMPLATE $template");
	$c->sql('CREATE DATABASE copied STRATEGY FILE_COPY');
	$c->sql('DROP DATABASE copied');
	$c->sql('DROP DATABASE new');
}
pass('databases can be copied and dropped');
$c->sql('CREATE DATABASE made STRATEGY FILE_COPY');
# A page that is read while its LSN is uncertain because of such commands is not put into the local page
# cache.
$c->stop;
$c = $store->start_compute('main', conf => $conf);

# ---- all databases, including those that are created later ----
my %oid = map { split /\|/ } split /\n/, $c->sql('SELECT datname, oid FROM pg_database WHERE datallowconn');
is(join(' ', sort keys %oid), 'd1 d2 made postgres stuck template1', 'the databases that can be connected to');
wait_until_read($c, sort values %oid);
my $closed = $c->sql("SELECT oid FROM pg_database WHERE datname = 'closed'");
unlike($c->log_content, qr/the catalogs of database $closed/, 'a database that nobody can connect to is not read');
$c->sql_is("SELECT sum(xact_commit + xact_rollback + blks_hit + blks_read) FROM pg_stat_database WHERE datname IN ('d1', 'template1')", '0',
	'databases that nobody has used have no statistics');
unlike($c->log_content, qr/^.*(WARNING|ERROR|FATAL|PANIC): .*$/m, 'no warning or error in the log');
my $space = $c->sql("SELECT pg_tablespace_size('pg_default')");
my $size = $c->sql("SELECT pg_database_size('made')");

# ---- the store is down ----
$store->stop;
PageserverTest::wait_until(sub { PostgreSQL::Test::Utils::slurp_file("$c->{dir}/pageserver_smgr.status") =~ /"state": *"waiting"/ }, 'the compute to notice');

sub answers
{
	my ($what, $sql, $expected, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($rc, $out, $err) = eval { $c->psql($sql, timeout => 60, %opt) };
	is($rc, 0, "$what: there is an answer") or return diag($@ || $err);
	like($out, $expected, "$what: the answer");
	return $err;
}

my @questions = (
	"SELECT 'sessions', count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
	"SELECT 'commits', datname, xact_commit, blks_hit FROM pg_stat_database WHERE datname = 'd1'",
	"SELECT 'replication', application_name, pg_wal_lsn_diff(pg_current_wal_lsn(), sent_lsn) FROM pg_stat_replication",
	"SELECT 'slots', slot_name, active FROM pg_replication_slots",
	"SELECT 'tables', count(*), sum(n_dead_tup) FROM pg_stat_user_tables",
	"SELECT 'locks', mode, count(*) FROM pg_locks GROUP BY mode",
	"SELECT 'settings', setting FROM pg_settings WHERE name = 'work_mem'",
	"SELECT 'checkpoints', checkpoints_timed, buffers_clean FROM pg_stat_bgwriter",
	"SELECT 'sizes', count(*), count(pg_database_size(datname)), sum(pg_database_size(datname)) > 8 * 7000000 FROM pg_database",
);
for my $db (sort keys %oid)
{
	for my $user (qw(mon postgres))
	{
		my $work_mem = $user eq 'mon' ? 1111 : $db eq 'd1' ? 2222 : 4096;
		my $err = answers("$user in $db", join(';', @questions),
			qr/^sessions\|\d+\ncommits\|d1\|.*^slots\|pageserver\|.*^tables\|.*^locks\|.*^settings\|$work_mem\ncheckpoints\|\d+.*^sizes\|8\|8\|t$/ms,
			db => "$db user=$user");
		my $told = () = $err =~ /WARNING:  page store cannot be reached, so the size of database "\w+" is as of \d+-\d\d-\d\d \d\d:\d\d/g;
		is($told, 2 * 8, "$user in $db: the warnings say as of when sizes are");
	}
}
answers('somebody else', "SELECT current_user, current_setting('work_mem')", qr/^nobody\|2222kB$/, db => 'd1 user=nobody');
answers('our view', 'SELECT waits_for IS NOT NULL FROM pageserver_smgr_store', qr/^t$/, db => 'postgres user=mon');
answers('our other view', 'SELECT used > 0 FROM pageserver_smgr_cache', qr/^t$/, db => 'postgres user=mon');
answers('the size of a database', "SELECT pg_database_size('made')", qr/^$size$/);
like(answers('the size of a tablespace', "SELECT pg_tablespace_size('pg_default')", qr/^$space$/),
	qr/the size of tablespace "pg_default" is as of \d+-/, 'the size of a tablespace: as of when');
unlike($c->log_content, qr/the size of/, 'the warning about sizes is not logged');
like(($c->psql("SET statement_timeout = '200ms'; SELECT pg_tablespace_size('pg_global')"))[2], qr/statement timeout/,
	'a size that was never requested before waits for the store');
like(($c->psql('SET ROLE nobody; SELECT pg_tablespace_size($$pg_global$$)'))[2], qr/permission denied/, 'permissions are still checked');

# ---- the store is back ----
$store->start;
PageserverTest::wait_until(sub { $c->sql('SELECT connected FROM pageserver_smgr_store') eq 't' }, 'the compute to be connected');
is(answers('sizes, store back', $questions[-1], qr/^sizes\|8\|8\|t$/), '', 'store back: no warnings about sizes');
$c->sql('CREATE TABLE more AS SELECT generate_series(1, 10000) i', db => 'made');
cmp_ok($c->sql("SELECT pg_database_size('made')"), '>', $size, 'store back: a size that has changed');

# a shutdown does not wait for readers
$c->sql("CREATE DATABASE $_") for qw(e1 e2 e3);
$c->stop;
# A client's backend may be about to end.
unlike($c->log_content, qr/^.*(FATAL|PANIC): (?! *terminating connection due to administrator command).*$/m, 'readers end without a message');

# ---- the owner of a database, not a superuser, drops it with FORCE while a reader is in it ----
$c = $store->start_compute('main', conf => $conf);
$c->sql('CREATE ROLE owner LOGIN NOINHERIT; GRANT postgres TO owner');
my $owned;
for (my $i = 0; !$owned; $i++)
{
	my $oid = $c->sql("CREATE DATABASE owned$i OWNER owner") . $c->sql("SELECT oid FROM pg_database WHERE datname = 'owned$i'");
	my $holder = session($c, "owner dbname=owned$i");
	# the owner's session, which FORCE is to end as well
	$holder->ask('SET ROLE postgres; BEGIN; LOCK TABLE pg_depend');
	PageserverTest::wait_until(
		sub {
			$owned = $c->sql("SELECT datname FROM pg_stat_activity WHERE datid = $oid AND backend_type = 'pageserver catalog reader'");
			# A reader may have been there before the lock was taken; then the next database is tried.
			return $owned || $c->log_content =~ /the catalogs of database $oid have been read/;
		},
		'a reader');
}
my ($dropped, undef, $why) = $c->psql("DROP DATABASE $owned WITH (FORCE)", db => 'postgres user=owner');
is($dropped, 0, 'the owner of a database can drop it while a reader is in it') or diag($why);
$c->stop;

# ---- a shutdown that waits for the store uses no CPU, although a launcher would be due ----
$c = $store->start_compute('main', conf => $conf . "pageserver_smgr.shutdown_timeout = 10min\n");
my $worker = $c->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'pageserver WAL worker'");
my $session = session($c);
$session->ask("SELECT pg_logical_emit_message(false, 'x', 'to have read what this needs')");
$store->stop;
$session->ask("SELECT pg_logical_emit_message(false, 'x', 'WAL that the store does not have')");
kill 'INT', $c->{pid};
PageserverTest::wait_until(sub { $c->processes == 3 }, 'only postmaster, checkpointer and WAL worker to be left');

sub worker_ticks
{
	my @stat = split ' ', PostgreSQL::Test::Utils::slurp_file("/proc/$worker/stat") =~ s/^.*\) //r;
	return $stat[11] + $stat[12];
}
sleep 1;    # catalog_read_interval
my $ticks = worker_ticks();
sleep 2;
cmp_ok(worker_ticks() - $ticks, '<', POSIX::sysconf(POSIX::_SC_CLK_TCK()) / 5, 'the WAL worker sleeps');
$store->start;
PageserverTest::wait_gone($c->{pid});
delete $c->{pid};

# ---- a database that is dropped while its size is measured is not remembered ----
$c = $store->start_compute('main',
	conf => $conf =~ s/shared_buffers = 1MB/shared_buffers = 32MB/r =~ s/(catalog_read_interval) = 1s/$1 = 0/r);
my ($observer, $measuring, $dropper) = map { session($c) } 1 .. 3;
my $wait_event = "SELECT wait_event FROM pg_stat_activity WHERE pid = $measuring->{pid}";
$dropper->ask('SET synchronous_commit = local');
my $size_of_dropped;
# the first round, in which the store answers, brings everything that is needed of the catalog into shared buffers
for my $name (qw(warm gone))
{
	$dropper->ask("CREATE DATABASE $name");
	my $oid = $dropper->ask("SELECT oid FROM pg_database WHERE datname = '$name'");
	$size_of_dropped = "SELECT pg_database_size($oid\::oid)";
	$observer->ask($wait_event);
	stop_process($store->{pid}) if $name eq 'gone';
	$measuring->send($size_of_dropped);
	PageserverTest::wait_until(
		sub { $name eq 'gone' ? $observer->ask($wait_event) eq 'DataFileRead' : $measuring->done },
		'the size to be measured');
	$dropper->ask("DROP DATABASE $name");
}
go_on_process($store->{pid});
cmp_ok($measuring->result, '>', 0, 'the size of a database that is dropped meanwhile is returned');
$store->stop;
unlike(($c->psql("SET statement_timeout = '200ms'; $size_of_dropped"))[2], qr/is as of/,
	'the size of the dropped database is not remembered');
$store->start;
$c->stop;

# ---- no slot for readers, no space for pages ----
$c = $store->start_compute('main', conf => $conf . "max_worker_processes = 2\n");
wait_for_log($c, qr/no background worker slot is free for pageserver catalog launcher/, 'no background worker');
$c->stop;
$c = $store->start_compute('main', conf => $conf . "pageserver_smgr.cache_size = 1MB\n");
wait_for_log($c, qr/the local page cache has no room for the catalogs of database/, 'no room');
$c->stop;
$store->stop;
done_testing();
