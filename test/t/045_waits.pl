# Every wait on the store can be ended, and a store that comes back is used again.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $conf = "autovacuum = off\npageserver_smgr.shutdown_timeout = 2s\n";
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => $conf);
$c->sql("CREATE TABLE t$_ AS SELECT i, repeat('x', 500) pad FROM generate_series(1, 20000) i; VACUUM t$_") for 0 .. 3;
$c->sql('CREATE TABLE w (i int); INSERT INTO w VALUES (0)');
# the next compute has no page of t1, t2, t3; what the queries below need of the catalog it gets while the store answers
$c->stop;
$c = $store->start_compute('main', conf => $conf);

# An ordinary query that must ask the store, in the background.
sub background
{
	my ($sql, $err) = @_;
	return IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-A', '-t', '-q', '-d', $c->connstr, '-c', $sql ],
		'<', \undef, '>', \my $out, '2>', $err);
}

# A session that is connected already, for it could not look up the catalog later.
my ($in, $out) = ('', '');
my $session = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-A', '-t', '-q', '-d', $c->connstr ], '<', \$in, '>&', \$out, IPC::Run::timeout(120));
sub ask
{
	my ($sql, $until) = @_;
	$out = '';
	$in .= "$sql\n";
	my $t0 = time;
	$session->pump until $out =~ $until;
	return time - $t0;
}
ask("EXPLAIN SELECT count(*) FROM t$_; SELECT 'ready';", qr/ready/) for 1 .. 3;
ask("SELECT count(*) FROM t0; SELECT 'ready';", qr/ready/);
$c->sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'; INSERT INTO w VALUES (0)");

ask("SET statement_timeout = 0; SELECT 'pid', pg_backend_pid(), 'set', 'done', 'rows';", qr/pid\|\d+/);
my ($pid) = $out =~ /pid\|(\d+)/;

# ---- the store does not answer ----
kill 'STOP', $store->{pid};
my $took = ask("SET statement_timeout = '500ms'; SELECT count(*) FROM t1; SELECT 'done';", qr/done|ERROR.*\n(?:.*\n)*.*done/);
like($out, qr/canceling statement due to statement timeout/, 'statement_timeout ends a read that waits for the store');
cmp_ok($took, '<', 2, "in time ($took s)");
ask("SET statement_timeout = 0; \\echo set", qr/set/);
$in .= "SELECT count(*) FROM t1; SELECT 'done';\n";
$out = '';
$session->pump_nb for 1 .. 20;
usleep(500_000);
my $t0 = time;
kill 'INT', $pid;
$session->pump until $out =~ /done/;
like($out, qr/canceling statement due to user request/, 'and a cancel does');
cmp_ok(time - $t0, '<', 2, 'in time');
kill 'CONT', $store->{pid};
ask("SELECT 'rows', count(*) FROM t1;", qr/rows\|(\d+)/);
like($out, qr/rows\|20000/, 'the session goes on when the store does');

# ---- the store is gone ----
$store->kill9;
$took = ask("SET statement_timeout = '500ms'; SELECT count(*) FROM t2; SELECT 'done';", qr/done/);
like($out, qr/canceling statement due to statement timeout/, 'statement_timeout ends a wait for a connection');
cmp_ok($took, '<', 2, "in time ($took s)");
ask("SET statement_timeout = 0; \\echo set", qr/set/);
$in .= "SELECT 'rows', count(*) FROM t3;\n";
$out = '';
$session->pump_nb for 1 .. 20;
usleep(300_000);
$store->start;
$session->pump until $out =~ /rows\|/;
like($out, qr/rows\|20000/, 'a query waits for a store that is started again');
$in .= "\\q\n";
$session->finish;

# a commit waits, is canceled, and the client is not told that it is done
kill 'STOP', $store->{pid};
my $err = '';
my $commit = background('INSERT INTO w VALUES (1)', \$err);
PageserverTest::wait_until(sub { $c->sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") ne '0' }, 'a commit that waits');
my $waiting = $c->sql("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
kill 'INT', $waiting;
$commit->finish;
isnt($commit->result(0), 0, 'a canceled commit does not look like a commit');
like($err, qr/terminat|connection/, 'the connection ends');
kill 'CONT', $store->{pid};

# ---- fast shutdown with the store dead ----
$c->sql('INSERT INTO w VALUES (2)');
$store->kill9;
$t0 = time;
$c->stop('fast');
cmp_ok(time - $t0, '<', 10, 'a fast shutdown ends within its limit though the store is dead');
$store->start;
$c = $store->start_compute('main', conf => $conf);
$c->sql_is('SELECT count(*) FROM w WHERE i = 2', '1', 'what was acknowledged is there');
$c->stop;
$store->stop;
done_testing();
