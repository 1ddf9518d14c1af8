# TrapTest: shared by the tests of what WAL does not restore (test/t/03*.pl).
#
# It provides a compute with the smallest caches, a way to evict everything from them, and sessions that stay open, so
# that several of them can be made to conflict at known points.
package TrapTest;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PageserverTest;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(trap_store trap_compute session evict churn extend_by_many wait_for stop_process go_on_process wait_ingested stop_wal go_on_wal while_wal_is_held);

# The WAL writer does not flush by itself within a test; only the background writer writes pages unasked, and
# nothing reads them unasked.
our $conf = "shared_buffers = 1MB\npageserver_smgr.cache_size = 1MB\npageserver_smgr.cache_limit = 512MB\nautovacuum = off\n"
  . "max_prepared_transactions = 4\nbgwriter_delay = 10ms\nwal_writer_delay = 10000\nmax_parallel_workers_per_gather = 0\n"
  . "max_parallel_maintenance_workers = 0\ncheckpoint_timeout = 3600\njit = off\npageserver_smgr.catalog_read_interval = 0\n";

sub trap_store
{
	my $store = PageserverTest->new_store('main');
	$store->ctl_ok('branch create', 'branch', 'create', 'main');
	return $store;
}

# Starts a compute with what the tests need; $new: it is the branch's first.
sub trap_compute
{
	my ($store, $new, $more) = @_;
	my $c = $store->start_compute('main', conf => $conf . ($more // ''));
	return $c unless $new;
	$c->sql("CREATE EXTENSION $_") for qw(amcheck pageinspect pg_prewarm pg_visibility pg_freespacemap pageserver_smgr);
	# frozen, so that reading the table changes nothing
	$c->sql("CREATE TABLE big AS SELECT i, repeat('x', 900) pad FROM generate_series(1, 10000) i; VACUUM (FREEZE) big");
	return $c;
}

# SQL that evicts every unpinned page from shared buffers, by reading ten times as many pages without a ring buffer, and
# so moves the pages into the page cache.
sub evict
{
	return "SELECT pg_prewarm('big') \\g /dev/null\n";
}

# Evicts from shared buffers, and from the page cache every page that need not be kept.  Without the wait, the page
# cache would prefer to keep pages that the store has not ingested yet.
sub churn
{
	return evict() . "SELECT pageserver_smgr_clear_cache() \\g /dev/null\n";
}

# Waits until the code returns a true value; fails the test after a minute.
sub wait_for
{
	my ($what, $code) = @_;
	my $until = time + 60;
	while (!$code->())
	{
		die "waited too long: $what" if time > $until;
		usleep(10_000);
	}
}

sub session
{
	my ($c, $user) = @_;
	my $connstr = $c->connstr . ($user ? " user=$user" : '');
	my $s = bless { in => '', out => '', err => '', n => 0 }, 'TrapTest::Session';
	$s->{h} = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-A', '-t', '-q', '-d', $connstr, '-f', '-' ],
		'<', \$s->{in}, '>', \$s->{out}, '2>', \$s->{err});
	$s->{pid} = $s->ask('SELECT pg_backend_pid()');
	return $s;
}

our %stopped;

# Stops a process with SIGSTOP, and waits until none of its threads runs.
sub stop_process
{
	my ($pid) = @_;
	$stopped{$pid} = 1;
	kill 'STOP', $pid;
	wait_for("process $pid to stop", sub {
		for my $stat (glob "/proc/$pid/task/*/stat")
		{
			open my $f, '<', $stat or next;
			my $line = <$f> // '';
			return 0 if $line =~ /\) [^TZX] /;
		}
		return 1;
	});
}

sub go_on_process
{
	my ($pid) = @_;
	kill 'CONT', $pid if delete $stopped{$pid};
}

# Waits until the store has ingested all WAL that exists now.
sub wait_ingested
{
	my ($observer) = @_;
	my $now = $observer->ask("SELECT pg_logical_emit_message(true, 'trap', 'x') \\g /dev/null\nSELECT pg_current_wal_flush_lsn()");
	wait_for('ingest', sub { $observer->ask("SELECT ingested_lsn >= '$now' FROM pageserver_smgr_store") eq 't' });
}

# Stops the WAL worker: the store has all WAL up to now and gets no more until go_on_wal().  If the page cache has room
# for table "big", the table is in it, so that evict() needs nothing from the store: one of its many blocks may share an
# entry of last-written LSNs with a block that is changed now.
our $held;

sub stop_wal
{
	my ($observer) = @_;
	$observer->ask(evict());
	wait_ingested($observer);
	$held = $observer->ask('SELECT worker_pid FROM pageserver_smgr_store');
	stop_process($held);
}

sub go_on_wal
{
	go_on_process($held) if $held;
	undef $held;
}

# Runs a statement in a session while the store lacks the newest WAL.  If the statement needs a page that this WAL has
# changed, it waits for the store.  Then WAL is sent again.  Returns the statement's output, and whether it waited.
sub while_wal_is_held
{
	my ($s, $observer, $sql) = @_;
	my $waits = "SELECT count(*) FROM pg_stat_get_activity($s->{pid}) WHERE wait_event = 'DataFileRead'";
	my $in_a_row = 0;
	$s->send($sql);
	# a read that the store can answer takes less than a tenth of a second
	wait_for('a read', sub {
		return 1 if $s->done;
		$in_a_row = $observer->ask($waits) eq '1' ? $in_a_row + 1 : 0;
		return $in_a_row >= 15;
	});
	my $waited = !$s->done;
	go_on_wal();
	return ($s->result, $waited);
}

# Extends the table by 20 blocks that are not logged (RelationAddExtraBlocks()).  One session extends it while WAL may
# not grow any more (max_wal_lag must be 1), and waits while it holds the extension lock; two more wait for that lock.
# The first of these sees a waiter, and adds 20 blocks.  A row fills a page, and each session remembers the page that it
# used last, so that nobody tries the table's last page, which the first session is about to fill.  This inserts 6 rows
# with id 1000; column pad must have storage PLAIN.
sub extend_by_many
{
	my ($c, $observer, $table) = @_;
	my @extenders = (session($c), session($c), session($c));
	my $insert = "INSERT INTO $table VALUES (1000, repeat('r', 5000))";
	my $waiting = sub { my $event = shift; "SELECT count(*) FROM pg_stat_activity WHERE wait_event = '$event' AND query LIKE 'INSERT INTO $table%'" };
	my $before = $observer->ask("SELECT pg_relation_size('$table') / 8192");
	$observer->ask($waiting->('extend'));
	$_->ask($insert) for @extenders;
	stop_wal($observer);
	$observer->ask("SET synchronous_commit = local; SELECT pg_logical_emit_message(true, 'trap', repeat('x', 2500000)) \\g /dev/null\nRESET synchronous_commit");
	$extenders[0]->send($insert);
	wait_for('the extender', sub { $observer->ask($waiting->('DataFileExtend')) eq '1' });
	$extenders[$_]->send($insert) for 1 .. 2;
	wait_for('the waiters', sub { $observer->ask($waiting->('extend')) eq '2' });
	go_on_wal();
	$_->result for @extenders;
	$_->close for @extenders;
	cmp_ok($observer->ask("SELECT pg_relation_size('$table') / 8192"), '>=', $before + 23, "$table is extended by many blocks");
}

END
{
	my $code = $?;
	go_on_process($_) for keys %stopped;
	$? = $code;
}

package TrapTest::Session;

use strict;
use warnings;

use Carp;
use Time::HiRes;

# Sends statements without waiting for their output.
sub send
{
	my ($s, $sql) = @_;
	$s->{n}++;
	$s->{out} = '';
	$s->{sql} = $sql;
	$s->{in} .= "$sql\n;\n\\echo done $s->{n}\n";
	$s->{h}->pump_nb;
}

sub done
{
	my ($s) = @_;
	$s->{h}->pump_nb;
	return $s->{out} =~ /^done $s->{n}$/m;
}

# Returns the output of the last send().
sub result
{
	my ($s) = @_;
	my $until = time + 45;
	while (!$s->done)
	{
		Carp::croak("no answer to: $s->{sql}\n$s->{out}$s->{err}") if time > $until;
		Time::HiRes::usleep(2_000);
	}
	my $out = $s->{out};
	$out =~ s/^done $s->{n}\n//m;
	chomp $out;
	return $out;
}

sub ask
{
	my ($s, $sql) = @_;
	$s->send($sql);
	return $s->result;
}

# Errors and warnings since the last call.
sub errors
{
	my ($s) = @_;
	my $err = $s->{err};
	$s->{err} = '';
	return $err;
}

sub close
{
	my ($s) = @_;
	$s->{in} .= "\\q\n";
	$s->{h}->finish;
}

1;
