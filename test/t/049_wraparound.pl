# Counters that wrap around: clusters whose transaction IDs, multixacts and multixact members are about to
# pass 2^31 and 2^32, and whose OIDs start again. In each, every row and every lock is unchanged, in the
# compute that created it and in the next ones, also after VACUUM (FREEZE) has truncated the SLRUs.
# Counters continue, including their epochs, and the SLRUs of a new compute consist of the same files.
use strict;
use warnings;
use Oracle;
use PageserverTest;
use PostgreSQL::Test::RecursiveCopy;
use Test::More;
use TrapTest;

my $dir = PageserverTest::test_dir();
my $bindir = PageserverTest::bindir();
my $source = "$dir/source";
my $port = PageserverTest::free_port();

use constant {
	XACTS_PER_SEGMENT => 32 * 8192 * 4,
	MULTIS_PER_SEGMENT => 32 * 2048,
	MEMBERS_PER_SEGMENT => 32 * 1636,
};

sub run_ok
{
	my (@command) = @_;
	my $out = '';
	return if IPC::Run::run(\@command, '<', \undef, '>&', \$out);
	fail("@command");
	BAIL_OUT($out);
}

# A segment of an SLRU, all zeros, as the manual of pg_resetwal requires.
sub zero_segment
{
	my ($slru, $segno) = @_;
	my $file = sprintf("%s/%s/%04X", $source, $slru, $segno);
	return if -e $file;
	open my $f, '>', $file or die "$file: $!";
	print $f "\0" x (32 * 8192);
	close $f;
}

# Sets the counters of the cluster in $source, then freezes everything older. A counter must not advance
# by more than 2^31 at a time.
sub jump
{
	my ($xid, $multi, $offset) = @_;
	run_ok("$bindir/pg_resetwal", '-x', $xid, '-u', $xid, '-m', "$multi,$multi", '-O', $offset, '-o', 4294967000, '-D', $source);
	zero_segment('pg_xact', int($xid / XACTS_PER_SEGMENT));
	zero_segment('pg_multixact/offsets', int($multi / MULTIS_PER_SEGMENT));
	zero_segment('pg_multixact/members', int($offset / MEMBERS_PER_SEGMENT));
	run_ok("$bindir/pg_ctl", 'start', '-s', '-w', '-D', $source, '-l', "$source.log", '-o',
		"-p $port -F -c listen_addresses= -c unix_socket_directories=$dir -c autovacuum=off");
	run_ok("$bindir/vacuumdb", '-q', '--all', '--freeze', '-h', $dir, '-p', $port, '-U', 'postgres');
	run_ok("$bindir/pg_ctl", 'stop', '-s', '-w', '-m', 'fast', '-D', $source);
}

run_ok("$bindir/initdb", '-D', $source, '-U', 'postgres', '-A', 'trust', '-N', '-k');
my $open_template0 = "UPDATE pg_database SET datallowconn = true;\n";
my $out = '';
IPC::Run::run([ "$bindir/postgres", '--single', '-F', '-D', $source, 'postgres' ], '<', \$open_template0, '>&', \$out) or BAIL_OUT($out);

# ---- the work that is done with each cluster ----

# Uses as many transaction IDs as rows that it inserts.
sub many_xids
{
	my ($table, $from, $to) = @_;
	return "DO \$\$ BEGIN FOR i IN $from .. $to LOOP BEGIN INSERT INTO $table VALUES (i, i % 97);"
	  . " IF i % 10 = 0 THEN RAISE division_by_zero; END IF; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END \$\$";
}

# Uses as many multixacts: $s locks each row in a transaction of its own (a subtransaction), in $mode.
sub many_locks
{
	my ($table, $mode) = @_;
	return "DO \$\$ DECLARE r record; BEGIN FOR r IN SELECT id FROM $table WHERE id > 1 LOOP BEGIN PERFORM FROM $table WHERE id = r.id FOR $mode;"
	  . " EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END \$\$";
}

my %sums = (xids => 'SELECT count(*), sum(id), sum(v) FROM xids', locked => 'SELECT count(*), sum(id), sum(v) FROM locked',
	fresh => 'SELECT count(*), sum(id) FROM fresh');

sub check_rows
{
	my ($c, $expected, $when) = @_;
	$c->sql_is(churn() . $sums{$_}, $expected->{$_}, "$_ $when") for sort keys %$expected;
}

# SLRU segments in the directory of a compute that is not running.
sub segments
{
	my ($c) = @_;
	return map { s{^\Q$c->{dir}\E/}{}r } map { sort glob "$c->{dir}/$_/*" } 'pg_xact', 'pg_multixact/offsets', 'pg_multixact/members';
}

sub counter_values
{
	my ($c) = @_;
	local $ENV{LC_ALL} = 'C';
	my $text = `$bindir/pg_controldata $c->{dir}`;
	my ($epoch, $xid) = $text =~ /NextXID:\s+(\d+):(\d+)/;
	my ($multi) = $text =~ /NextMultiXactId:\s+(\d+)/;
	my ($offset) = $text =~ /NextMultiOffset:\s+(\d+)/;
	my ($oldest_xid) = $text =~ /oldestXID:\s+(\d+)/;
	my ($oldest_multi) = $text =~ /oldestMultiXid:\s+(\d+)/;
	return "$epoch:$xid multi $multi offset $offset oldest $oldest_xid oldest multi $oldest_multi";
}

sub run_cluster
{
	my ($name, %at) = @_;
	my $store = PageserverTest->new_store($name, conf => "checkpoint_distance = 16MB\n");
	$store->ctl_ok("$name: import", 'import', '--pgdata', $source, 'main');
	my $c = trap_compute($store, 1);
	my %expected;

	$c->sql("CREATE TABLE xids (id int, v int); CREATE TABLE fresh (id int);"
		  . " CREATE TABLE locked (id int PRIMARY KEY, v int, pad text) WITH (fillfactor = 50);"
		  . " INSERT INTO locked SELECT i, 0, repeat('l', 100) FROM generate_series(1, 3000) i");
	is($c->sql('SELECT pg_current_xact_id()') < $at{full_xid} ? 1 : 0, 1, "$name: transaction IDs have not wrapped yet");

	# xids and multixacts on both sides of the limit, and a transaction that was prepared before it
	my ($a, $b, $observer) = (session($c), session($c), session($c));
	$c->sql("BEGIN; INSERT INTO xids VALUES (-1, 0); SAVEPOINT s; INSERT INTO xids VALUES (-2, 0); SELECT 1 FROM locked WHERE id = 1 FOR UPDATE; PREPARE TRANSACTION 'edge'");
	$c->sql(many_xids('xids', 1, 6000));
	$expected{xids} = $c->sql($sums{xids});
	like($expected{xids}, qr/^5400\|/, "$name: a tenth of the rows was rolled back");
	my $before = $c->sql('INSERT INTO fresh VALUES (0) RETURNING pg_current_xact_id()');
	cmp_ok($before, '>', $at{full_xid}, "$name: transaction IDs continue beyond the limit");

	# No checkpoint has seen these IDs, and the last one is that of a subtransaction, which only the
	# commit record names. The table is unlogged, not temporary: a backend drops its temporary tables when
	# it ends, or leaves them there with their old relfrozenxid when it is killed.
	$c->sql('CREATE UNLOGGED TABLE nothing (i int); BEGIN; INSERT INTO fresh VALUES (0);' . 'SAVEPOINT s; INSERT INTO nothing VALUES (1);' x 100 . 'COMMIT');
	$_->close for $a, $b, $observer;
	$c->kill9;
	$c = trap_compute($store, 0);
	my $after = $c->sql('INSERT INTO fresh VALUES (0) RETURNING pg_current_xact_id()');
	cmp_ok($after, '>', $before + 101, "$name: the next compute assigns no transaction ID twice");
	cmp_ok($after, '<', $before + 1000, "$name: the next compute skips few transaction IDs");
	check_rows($c, \%expected, 'written before the kill');
	$c->sql('TRUNCATE fresh');

	# multixacts
	($a, $b, $observer) = (session($c), session($c), session($c));
	$a->ask('BEGIN; SELECT count(*) FROM (SELECT 1 FROM locked WHERE id > 1 FOR KEY SHARE) x');
	$b->ask('BEGIN');
	$b->ask(many_locks('locked', 'KEY SHARE'));
	is($b->errors, '', "$name: the locks cause no error");
	my $edge = $c->sql('SELECT pg_current_wal_insert_lsn()');
	my ($first, $last) = split /\|/, $c->sql("SELECT min(xmax::text::bigint), max(xmax::text::bigint) FROM locked WHERE id > 1");
	cmp_ok($last - $first, '>', 2900, "$name: as many multixacts as rows ($first to $last)");
	$c->sql_is("SELECT count(*) FROM (SELECT DISTINCT xmax FROM locked WHERE id > 1) x, pg_get_multixact_members(xmax)", '5998', "$name: the multixacts have two members each");
	$observer->ask("CHECKPOINT;\n" . churn());

	# The locks still exist when the pages are read back: a change of the key waits, another one does not.
	for my $row (1, 2, 1500, 3000)
	{
		my ($rc, $o, $err) = $c->psql("SET lock_timeout = '100ms'; DELETE FROM locked WHERE id = $row");
		like($err, qr/lock timeout/, "$name: row $row is locked");
	}
	$observer->ask('UPDATE locked SET v = 1 WHERE id % 3 = 0');
	$observer->ask("CHECKPOINT;\n" . churn());
	is($observer->errors, '', "$name: updates of locked rows cause no error");
	$b->ask('COMMIT');
	my ($rc, $o, $err) = $c->psql("SET lock_timeout = '100ms'; DELETE FROM locked WHERE id = 1500");
	like($err, qr/lock timeout/, "$name: the lock of the other session remains");
	$expected{locked} = $c->sql($sums{locked});
	is($expected{locked}, '3000|4501500|1000', "$name: the updated rows");
	check_rows($c, \%expected, 'in the compute that wrote them');

	# a kill while the locks are held
	$c->kill9;
	$c = trap_compute($store, 0);
	check_rows($c, \%expected, 'in the next compute');
	$c->sql_is("SELECT count(*) FROM (SELECT DISTINCT xmax FROM locked WHERE id > 1 AND id % 3 <> 0) x, pg_get_multixact_members(xmax)", '3998', "$name: multixacts of the killed compute are readable");
	is($c->sql("SET lock_timeout = '1s'; BEGIN; DELETE FROM locked WHERE id > 1; SELECT count(*) FROM locked; ROLLBACK"), '1', "$name: the locks of the killed compute are released");
	($rc, $o, $err) = $c->psql("SET lock_timeout = '100ms'; DELETE FROM locked WHERE id = 1");
	like($err, qr/lock timeout/, "$name: the lock of a prepared transaction is still held");
	$c->sql("COMMIT PREPARED 'edge'");
	$c->sql_is("SELECT count(*), min(xmin::text::bigint) < max(xmin::text::bigint) FROM xids WHERE id < 0", '2|t', "$name: the prepared transaction commits, with its subtransaction");
	$expected{xids} = $c->sql($sums{xids});

	# more of both, with a transaction open while VACUUM (FREEZE) runs; then everything old is frozen and
	# truncated
	($a, $b) = (session($c), session($c));
	$a->ask('BEGIN; SELECT count(*) FROM (SELECT 1 FROM locked WHERE id > 2000 FOR KEY SHARE) x');
	$b->ask('BEGIN');
	$b->ask(many_locks('locked', 'SHARE'));
	$c->sql('VACUUM (FREEZE) locked');
	check_rows($c, \%expected, 'frozen while some are locked');
	($rc, $o, $err) = $c->psql("SET lock_timeout = '100ms'; UPDATE locked SET v = 0 WHERE id = 2500");
	like($err, qr/lock timeout/, "$name: VACUUM (FREEZE) removes no lock");
	$_->ask('COMMIT') for $a, $b;
	$c->sql('INSERT INTO fresh SELECT generate_series(1, 1000)');
	$expected{fresh} = $c->sql($sums{fresh});
	$c->program_ok("$name: VACUUM (FREEZE) of everything", 'vacuumdb', '-q', '--all', '--freeze');
	$c->program_ok("$name: VACUUM (FREEZE) once more, which truncates", 'vacuumdb', '-q', '--all', '--freeze');
	check_rows($c, \%expected, 'frozen');
	$c->sql_is("SELECT max(age(relfrozenxid)) < 1000 AND max(mxid_age(relminmxid)) < 1000 FROM pg_class WHERE relkind IN ('r', 't', 'm')", 't', "$name: no table has old IDs");

	# A kill: the oldest IDs are those that WAL says were truncated to.
	my $oldest = $c->sql('SELECT datfrozenxid, datminmxid FROM pg_database ORDER BY age(datfrozenxid) DESC, mxid_age(datminmxid) DESC LIMIT 1');
	$c->kill9;
	$c = trap_compute($store, 0);
	$c->sql_is('SELECT oldest_xid, oldest_multi_xid FROM pg_control_checkpoint()', $oldest, "$name: the next compute knows the oldest IDs");
	$c->stop;
	my @segments = segments($c);
	my $counters = counter_values($c);
	is(scalar(grep { /^pg_xact/ } @segments), $at{clog_segments}, "$name: clog is truncated");

	# the next compute starts with exactly these segments
	$c = trap_compute($store, 0);
	is(join(' ', segments($c)), "@segments", "$name: the next compute has the SLRU segments of the old one, and no others");
	is(counter_values($c), $counters, "$name: the next compute has the counters of the old one");
	check_rows($c, \%expected, 'after truncation');
	$c->program_ok("$name: pg_amcheck", 'pg_amcheck', '--all', '--heapallindexed');

	# the counters continue
	$c->sql(many_xids('xids', 10001, 10100) . "; CREATE DATABASE more; CREATE TABLE last AS SELECT * FROM xids");
	($a, $b) = (session($c), session($c));
	$a->ask('BEGIN; SELECT count(*) FROM (SELECT 1 FROM locked WHERE id < 100 FOR KEY SHARE) x');
	$b->ask('BEGIN; SELECT count(*) FROM (SELECT 1 FROM locked WHERE id < 100 FOR SHARE) x');
	$a->close;
	$b->close;
	$c->kill9;
	$c = trap_compute($store, 0);
	$c->sql_is('SELECT count(*) FROM last', 5400 + 2 + 90, "$name: the compute after the next one has all rows");
	$c->sql('UPDATE locked SET v = 0');
	my $oid = $c->sql('SELECT next_oid FROM pg_control_checkpoint()');
	ok($oid >= 16384 && $oid < 40000, "$name: OIDs have wrapped around ($oid)");
	$c->stop;
	oracle_ok($store, 'main', name => $name, lsns => [$edge], count => 1);
	$store->stop;
}

# Everything at 2^31: IDs beyond it must not be considered older.
jump(1_100_000_000, 1_100_000_000, 1_100_000_000);
jump(2 ** 31 - 2000, 2 ** 31 - 1500, 2 ** 31 - 1501);
run_cluster('half', full_xid => 2 ** 31, clog_segments => 1);

# Everything at 2^32.
jump(3_200_000_000, 3_200_000_000, 3_200_000_000);
jump(2 ** 32 - 2000, 2 ** 32 - 1500, 2 ** 32 - 1501);
run_cluster('full', full_xid => 2 ** 32, clog_segments => 1);
done_testing();
