# Index builds, with caches smaller than each index, that are canceled, or whose compute or store is
# killed, at a random time. A failed build must leave no kept page, no spilled page and no local
# file; an index exists only if its build has finished; the next build must be correct.
use strict;
use warnings;
use IndexBuilds;
use Oracle;
use PageserverTest;
use Test::More;
use Time::HiRes qw(time);
use TrapTest;

my $seed = $ENV{SEED} // (int(time) ^ $$);
srand($seed);
note("SEED=$seed");
my $rows = 40000;
my $store = trap_store();
my $c = trap_compute($store, 1, $small_caches);
my $observer = session($c);
my %wal;    # bytes of WAL that a build writes

make_table($c, 't', $rows);
$c->sql('VACUUM (FREEZE) t');
my @numbers = map { 1 + int(rand($rows)) } 1 .. 3;

# Starts a build in a session, and waits for a random point in it: when a number of blocks of the table
# have been read, or an amount of WAL has been written. Returns the session, or undef if the build ended
# too early.
sub start_build
{
	my ($kind, $sql) = @_;
	my $s = session($c);
	my $fraction = rand(0.9);
	my $begun = $observer->ask('SELECT pg_current_wal_insert_lsn()');
	my $progress = "FROM pg_stat_progress_create_index WHERE pid = $s->{pid}";
	my $moment = rand() < 0.4 ?
	  "SELECT count(*) $progress AND blocks_total > 0 AND blocks_done >= $fraction * blocks_total" :
	  "SELECT count(*) $progress AND pg_current_wal_insert_lsn() - '$begun' >= $fraction * $wal{$kind}";
	$s->send($sql);
	until ($observer->ask($moment) eq '1')
	{
		next unless $s->done;
		$s->close;
		return;
	}
	return $s;
}

# Builds until one is caught in the middle; $code interferes, and returns whether it did.
sub interfere
{
	my ($kind, $what, $code, $sql) = @_;
	for (1 .. 20)
	{
		my $s = start_build($kind, $sql // index_sql('t', $kind));
		return 1 if $s && $code->($s);
		$c->sql("DROP INDEX IF EXISTS t_$kind");
	}
	fail("$what: a build of index $kind is caught in the middle");
}

for my $kind (@kinds)
{
	my $begun = $observer->ask('SELECT pg_current_wal_insert_lsn()');
	$c->sql(index_sql('t', $kind));
	$wal{$kind} = $observer->ask("SELECT pg_current_wal_insert_lsn() - '$begun'");
	$c->sql("DROP INDEX t_$kind");
}
# Catalog pages and maps are kept for reasons of their own.
$observer->ask('CHECKPOINT');
my $kept = $observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache');

# ---- canceled ----
my $cancel = sub {
	my ($s) = @_;
	$observer->ask("SELECT pg_cancel_backend($s->{pid})");
	# A cancel that arrives during the wait for a commit ends the session.
	my $alive = eval { $s->result; 1; };
	my $canceled = $s->errors =~ /canceling statement due to user request/;
	eval { $s->close; };
	return $alive && $canceled;
};
for my $kind (@kinds)
{
	interfere($kind, 'cancel', $cancel) or next;
	nothing_left($c, $observer, $kept, "index $kind, cancelled");
	# A concurrent build leaves an invalid index, as on a stock server, until it is dropped.
	interfere($kind, 'cancel', $cancel, index_sql('t', $kind, 'CONCURRENTLY'));
	$c->sql_is("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_$kind'::regclass", 'f', "index $kind, canceled in a concurrent build, is invalid");
	if (rand() < 0.5) { $c->sql("REINDEX INDEX t_$kind"); }
	else { $c->sql("DROP INDEX t_$kind; " . index_sql('t', $kind)); }
	check_index($c, 't', $kind, 'built after a cancel', @numbers);
	$c->sql("DROP INDEX t_$kind");
	nothing_left($c, $observer, $kept, "index $kind, dropped");
}

# ---- the compute is killed ----
# A build whose commit was already on its way may have succeeded, and then the index must be complete.
sub crash
{
	my ($kind, $sql, $in_the_middle) = @_;
	return interfere($kind, 'kill of the compute', sub {
		my ($s) = @_;
		$c->kill9;
		eval { $s->close; };
		$c = trap_compute($store, 0, $small_caches);
		$observer = session($c);
		my $is = $c->sql("SELECT indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relname = 't_$kind'");
		return 1 if $is eq $in_the_middle;
		check_index($c, 't', $kind, 'built before a kill of the compute', @numbers) if $is eq 't';
		return 0;
	}, $sql);
}

my %concurrently = map { $kinds[ rand(@kinds) ] => 1 } 1 .. 3;
for my $kind (@kinds)
{
	crash($kind, index_sql('t', $kind), '') or next;
	$c->sql(index_sql('t', $kind));
	check_index($c, 't', $kind, 'built after a kill of the compute', @numbers);
	$c->sql("DROP INDEX t_$kind");
	next unless $concurrently{$kind};
	# An invalid index is left, as on a stock server.
	crash($kind, index_sql('t', $kind, 'CONCURRENTLY'), 'f') or next;
	if (rand() < 0.5) { $c->sql("REINDEX INDEX CONCURRENTLY t_$kind"); }
	else { $c->sql("DROP INDEX t_$kind; " . index_sql('t', $kind)); }
	check_index($c, 't', $kind, 'built after a kill of the compute in a concurrent build', @numbers);
	$c->sql("DROP INDEX t_$kind");
}

# ---- the store is killed: the build waits and continues, or can be canceled at once ----
$observer->ask('CHECKPOINT');
$kept = $observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache');
for my $kind (@kinds)
{
	my $session;
	interfere($kind, 'kill of the store', sub {
		($session) = @_;
		$store->kill9;
		return 1;
	}) or next;
	$store->start;
	$session->result;
	is($session->errors, '', "the build of index $kind continues when the store is killed");
	$session->close;
	check_index($c, 't', $kind, 'built across a kill of the store', @numbers);
	$c->sql("DROP INDEX t_$kind");
}
for my $kind (map { $kinds[ rand(@kinds) ] } 1 .. 3)
{
	my $took;
	interfere($kind, 'cancel without the store', sub {
		my ($s) = @_;
		$store->kill9;
		my $begun = time;
		kill 'INT', $s->{pid};
		my $alive = eval { $s->result; 1; };
		$took = time - $begun;
		$store->start;
		my $canceled = $s->errors =~ /canceling statement due to user request/;
		eval { $s->close; };
		return $alive && $canceled;
	}) or next;
	cmp_ok($took, '<', 5, "the build of index $kind can be canceled without the store");
	nothing_left($c, $observer, $kept, "index $kind, canceled without the store");
}

# ---- a table rewritten with its indexes ----
$c->sql("CREATE INDEX t_btree ON t (btree); CREATE INDEX t_gin ON t USING gin (gin); DELETE FROM t WHERE id % 20 = 0");
my $table = 'SELECT count(*), sum(hashint4(id)::int8), sum(hashtext(brin)::int8) FROM t';
my $sum = $c->sql($table);
$observer->ask('CHECKPOINT');
my $begun = $observer->ask('SELECT pg_current_wal_insert_lsn()');
$c->sql('CLUSTER t USING t_btree');
$wal{rewrite} = $observer->ask("SELECT pg_current_wal_insert_lsn() - '$begun'");

# Starts a rewrite and waits for a random point in it.
sub start_rewrite
{
	my ($sql) = @_;
	my $s = session($c);
	my $fraction = rand(0.7);
	$begun = $observer->ask('SELECT pg_current_wal_insert_lsn()');
	$s->send($sql);
	wait_for('the rewrite', sub { $observer->ask("SELECT pg_current_wal_insert_lsn() - '$begun' >= $fraction * $wal{rewrite}") eq 't' });
	return $s;
}

sub check_rewritten
{
	my ($what) = @_;
	$c->sql_is($table, $sum, "the table after $what");
	check_index($c, 't', $_, $what, @numbers) for qw(btree gin);
}

for my $sql ('VACUUM FULL t', 'CLUSTER t USING t_btree')
{
	$observer->ask('CHECKPOINT');
	$kept = $observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache');
	$cancel->(start_rewrite($sql));
	nothing_left($c, $observer, $kept, "$sql, cancelled");
	check_rewritten("$sql, cancelled");
	my $s = start_rewrite($sql);
	$store->kill9;
	$store->start;
	$s->result;
	is($s->errors, '', "$sql continues when the store is back");
	$s->close;
	check_rewritten("$sql across a kill of the store");
	$s = start_rewrite($sql);
	$c->kill9;
	eval { $s->close; };
	$c = trap_compute($store, 0, $small_caches);
	$observer = session($c);
	check_rewritten("$sql and a kill of the compute");
}

# ---- the pages that must be kept exceed cache_limit ----
$c->sql('DROP INDEX t_gin');
$c->stop;
$c = trap_compute($store, 0, $small_caches . "pageserver_smgr.cache_limit = 1MB\n");
$observer = session($c);
$kept = $observer->ask('SELECT kept / 8192 FROM pageserver_smgr_cache');
for my $kind (grep { /^(gin|gist|spgist)/ } @kinds)
{
	my ($rc, undef, $err) = $c->psql(index_sql('t', $kind));
	like($err, qr/page cache is full of pages that must stay in it/, "index $kind is larger than cache_limit");
	nothing_left($c, $observer, $kept, "index $kind, larger than cache_limit");
}

$c->program_ok('pg_amcheck', 'pg_amcheck', '-d', 'postgres', '--heapallindexed', '--parent-check');
$observer->close;
$c->stop;
oracle_ok($store, 'main', count => 2);
$store->stop;
done_testing();
