# A commit whose wait for the store is cut short gets no answer, whatever cuts it short. A session that
# connects to find out the outcome does not see anything that the next compute may not have.
use strict;
use warnings;
use PageserverTest;
use TrapTest;
use Test::More;

my $probe = "$ENV{PAGESERVER_TOP}/test/modules/commit_probe.so";
my $conf = "autovacuum = off\nmax_prepared_transactions = 10\nwal_writer_delay = 10000\nshared_preload_libraries = $probe,pageserver_smgr\n";
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => $conf);
$c->sql('CREATE EXTENSION pageserver_smgr; CREATE TABLE committed (i int)');
$c->sql("CREATE FUNCTION $_ RETURNS void AS '$probe' LANGUAGE C") for 'terminate_when_canceled()', 'write_at_commit()', 'start_committer(text)';

my ($observer, $worker);
my $clients = 0;

sub observe
{
	$observer = session($c);
	$worker = $observer->ask('SELECT worker_pid FROM pageserver_smgr_store');
	$observer->ask("SELECT wait_event FROM pg_stat_get_activity(1); SELECT pg_cancel_backend(1), pg_terminate_backend(1); SELECT count(*) FROM committed");
	$observer->errors;
}
observe();

# A psql that prints command tags, so that an answer is seen even if the connection ends right after it.
sub new_session
{
	my $s = bless { in => '', out => '', err => '' }, 'Client';
	$s->{h} = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-A', '-t', '-d', $c->connstr ],
		'<', \$s->{in}, '>', \$s->{out}, '2>', \$s->{err});
	# no statement that would wait
	my $name = 'client' . ++$clients;
	$s->ask("SET application_name = '$name'");
	$s->{pid} = $observer->ask("SELECT pid FROM pg_stat_activity WHERE application_name = '$name'");
	$s->{out} = '';
	return $s;
}

# A session that has already run its first statement.
sub client
{
	my $s = new_session();
	$s->ask('SELECT 1');
	$s->{out} = '';
	return $s;
}

sub ended
{
	my ($pid) = @_;
	wait_for("the end of $pid", sub { $observer->ask("SELECT count(*) FROM pg_stat_get_activity($pid)") eq '0' });
}

sub waits
{
	my ($pid, $what) = @_;
	wait_for("$what: the wait", sub { $observer->ask("SELECT wait_event FROM pg_stat_get_activity($pid)") eq 'SyncRep' });
}

# ---- no answer ----

my @statements = (
	[ 'a statement', '', 'INSERT INTO committed VALUES (1)' ],
	[ 'COMMIT', 'BEGIN; INSERT INTO committed VALUES (2)', 'COMMIT' ],
	[ 'COMMIT in a block of code', '', 'DO $$ BEGIN INSERT INTO committed VALUES (3); COMMIT; PERFORM 1; END $$' ],
	[ 'PREPARE TRANSACTION', 'BEGIN; INSERT INTO committed VALUES (4)', "PREPARE TRANSACTION 'p\$n'" ],
	[ 'COMMIT PREPARED', "BEGIN; INSERT INTO committed VALUES (5); PREPARE TRANSACTION 'p\$n'", "COMMIT PREPARED 'p\$n'" ],
	[ 'ROLLBACK PREPARED', "BEGIN; INSERT INTO committed VALUES (6); PREPARE TRANSACTION 'p\$n'", "ROLLBACK PREPARED 'p\$n'" ],
	[ 'a transaction that writes when it commits', '', 'SELECT write_at_commit()' ],
);
my $n = 0;
for my $how ('cancel', 'cancel and terminate', 'terminate')
{
	for my $statement (@statements)
	{
		my ($name, $before, $sql) = map { $_ =~ s/\$n/$n/gr } @$statement;
		my $what = "$how: $name";
		my $client = client();
		my $function = $how =~ /cancel/ ? 'pg_cancel_backend' : 'pg_terminate_backend';

		$n++;
		$client->ask('SELECT terminate_when_canceled()') if $how eq 'cancel and terminate';
		$client->ask($before) if $before;
		stop_process($worker);
		$client->{out} = '';
		$client->say($sql);
		waits($client->{pid}, $what);
		$observer->ask("SELECT $function($client->{pid})");
		ended($client->{pid});
		$client->{h}->finish;
		is($client->{out}, '', "$what: no answer");
		like($client->{err}, qr/first statement of a new session waits/, "$what: the error says what to do") if $how eq 'cancel';
		go_on_process($worker);
	}
}

# With the extended protocol, the commit happens only after the command tag has been sent: no program
# takes the tag for a commit.
PostgreSQL::Test::Utils::append_to_file(PageserverTest::test_dir() . '/insert.sql', 'INSERT INTO committed VALUES (7);');
for my $mode ('extended', 'prepared')
{
	my $said = '';
	my $pid;
	$c->sql('SELECT 1');    # no commit has an unknown outcome now
	stop_process($worker);
	my $bench = IPC::Run::start([ PageserverTest::bindir() . '/pgbench', '-h', $c->{host}, '-p', $c->{port}, '-U', 'postgres', '-n', '-t', '1', '-M', $mode,
			'-f', PageserverTest::test_dir() . '/insert.sql', 'postgres' ], '<', \undef, '>&', \$said);
	wait_for('pgbench', sub { $pid = $observer->ask("SELECT pid FROM pg_stat_activity WHERE query LIKE 'INSERT INTO committed VALUES (7)%' AND wait_event = 'SyncRep'") });
	$observer->ask("SELECT pg_cancel_backend($pid)");
	ended($pid);
	$bench->finish;
	isnt($bench->result(0), 0, "$mode protocol: the client has an error");
	like($said, qr/number of transactions actually processed: 0\/1/, "$mode protocol: the client has seen no commit") or diag($said);
	go_on_process($worker);
}

# In the end the rows are present, each as often as it was committed.
my $all = $c->sql('SELECT i, count(*) FROM committed GROUP BY i ORDER BY i');
is($all, "1|3\n2|3\n3|3\n5|3\n7|2", 'every transaction has committed');

# A background worker ends as well.
stop_process($worker);
$observer->ask("SELECT start_committer('$probe')");
my $committer;
wait_for('the committer', sub { $committer = $observer->ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'committer'") });
waits($committer, 'the committer');
$observer->ask("SELECT pg_cancel_backend($committer)");
ended($committer);
unlike($c->log_content, qr/the committer goes on/, 'a background worker does not continue after a canceled commit');
go_on_process($worker);

# ---- sessions that look for the outcome ----

my $in_old = client();
$in_old->ask('SELECT count(*) FROM committed');
my $lost = client();
# psql asks for the OIDs of functions when it first uses large objects.
$in_old->say('\lo_unlink 1');
$in_old->until_error(qr/does not exist/);
stop_process($worker);
$lost->say('INSERT INTO committed VALUES (100)');
waits($lost->{pid}, 'a commit');
$observer->ask("SELECT pg_cancel_backend($lost->{pid})");
ended($lost->{pid});
my $count = 'SELECT count(*) FROM committed WHERE i = 100';
is($observer->ask($count), '1', 'an old session sees what others have committed');

my $looker = new_session();
$looker->say($count);
waits($looker->{pid}, 'a new session');
$looker->until_error(qr/WARNING: +waiting until the page store has acknowledged commits/);
is($looker->{out}, '', 'a new session is told why it waits, and sees nothing');
$observer->ask("SELECT pg_cancel_backend($looker->{pid})");
$looker->until_error(qr/canceling statement due to user request/);
$looker->say("COPY committed TO STDOUT");
waits($looker->{pid}, 'the next statement');
is($looker->{out}, '', 'a statement after a canceled wait waits, too');
$observer->ask("SELECT pg_cancel_backend($looker->{pid})");
$looker->until_error(qr/canceling statement due to user request.*canceling statement due to user request/s);
$looker->ask('SET pageserver_smgr.wait_for_commits_in_doubt = off');
$looker->{out} = '';
$looker->say($count);
$looker->until(qr/^1$/m);
pass('a session that chooses not to wait sees the local state');

# A pooler's connection has a new client after DISCARD ALL; this includes a client that calls a function
# without a statement.
$in_old->ask('DISCARD ALL');
$in_old->{err} = '';
$in_old->say('\lo_unlink 1');
waits($in_old->{pid}, 'a function call after DISCARD ALL');
is($in_old->{err}, '', 'a function call waits, too');

$looker = new_session();
$looker->say($count);
waits($looker->{pid}, 'another new session');
go_on_process($worker);
$looker->until(qr/^1$/m);
$in_old->until_error(qr/does not exist/);
$c->kill9;
$c = $store->start_compute('main', conf => $conf);
$c->sql_is($count, '1', 'the next compute has the rows that the session saw');
$c->sql_is('SELECT count(*) FROM committed WHERE i = -1', '1', 'the next compute has what the background worker committed');

# ---- commits of unknown outcome that are lost ----
observe();
$lost = client();
stop_process($worker);
$lost->say('INSERT INTO committed VALUES (200)');
waits($lost->{pid}, 'a commit');
$observer->ask("SELECT pg_cancel_backend($lost->{pid})");
ended($lost->{pid});
$looker = new_session();
$looker->say('SELECT count(*) FROM committed WHERE i = 200');
waits($looker->{pid}, 'a new session');
# The end of the postmaster also cuts a wait short.
my $last = new_session();
$last->ask('SET pageserver_smgr.wait_for_commits_in_doubt = off');
$last->{out} = '';
$last->say('INSERT INTO committed VALUES (300)');
waits($last->{pid}, 'the last commit');
$c->kill9_postmaster;
$_->{h}->finish for $lost, $looker, $last;
is($_->{out}, '', 'no answer when the postmaster ends') for $lost, $looker, $last;
$c->kill9;
go_on_process($worker);
$c = $store->start_compute('main', conf => $conf);
$c->sql_is('SELECT count(*) FROM committed WHERE i IN (200, 300)', '0', 'no client saw the lost commits');
$c->stop;
$store->stop;
done_testing();

package Client;

use Time::HiRes qw(time usleep);

sub say
{
	my ($s, $sql) = @_;
	$s->{in} .= $sql =~ /^\\/ ? "$sql\n" : "$sql;\n";
	$s->{h}->pump_nb;
}

sub wait_like
{
	my ($s, $stream, $pattern) = @_;
	my $end = time + 60;

	until ($s->{$stream} =~ $pattern)
	{
		die "waited too long for $pattern: $s->{out}$s->{err}" if time > $end;
		usleep(5_000);
		$s->{h}->pump_nb;
	}
}

sub until
{
	my ($s, $pattern) = @_;
	$s->wait_like('out', $pattern);
}

sub until_error
{
	my ($s, $pattern) = @_;
	$s->wait_like('err', $pattern);
}

# Sends a line and waits until it is done.
sub ask
{
	my ($s, $sql) = @_;
	$s->{out} = '';
	$s->say($sql);
	$s->say('\echo done');
	$s->until(qr/^done$/m);
}
