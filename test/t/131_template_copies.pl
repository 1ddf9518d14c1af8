# Several CREATE DATABASE commands copy one template at the same time, with both strategies. As on a stock
# server, each succeeds and each copy has all rows. A file copy hides the template's stub files, so it
# waits for the other copies, and they wait for it.
use strict;
use warnings;
use PageserverTest;
use TrapTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "autovacuum = off\ncheckpoint_timeout = 3600\nwal_writer_delay = 10000\n");
$c->sql('CREATE EXTENSION pageserver_smgr; CREATE EXTENSION pg_prewarm; CREATE TABLE big (i int)');
$c->sql('CREATE DATABASE t');
$c->sql("CREATE TABLE a AS SELECT i, repeat('a', 500) pad FROM generate_series(1, 1000) i; CREATE SEQUENCE s; SELECT nextval('s')", db => 't');

my $observer = session($c);
my @copies;

# A session that creates a copy of the template.
sub copy
{
	my ($name, $strategy) = @_;
	my $s = session($c);
	push @copies, $name;
	$s->{name} = $name;
	$s->{create} = "CREATE DATABASE $name TEMPLATE t STRATEGY $strategy";
	# Reads the catalog pages that the command needs.
	$s->ask("SELECT count(*) FROM pg_database, pg_tablespace, pg_shdepend");
	return $s;
}

sub waits_for
{
	my ($s, $what) = @_;
	wait_for("$s->{name} to wait for $what", sub { $observer->ask("SELECT wait_event FROM pg_stat_get_activity($s->{pid})") eq $what });
}

# Is the session kept from copying by another copy?  Otherwise it would end, or wait for its commit.
sub is_kept_out
{
	my ($s, $what) = @_;
	my $kept;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	eval { wait_for("$s->{name}: the lock", sub {
		$kept = $observer->ask("SELECT count(*) FROM pg_locks WHERE pid = $s->{pid} AND objsubid = 1 AND NOT granted");
		return $kept || $s->done || $observer->ask("SELECT wait_event FROM pg_stat_get_activity($s->{pid})") eq 'SyncRep';
	}) };
	is($kept, '1', $what);
}

sub made
{
	for my $s (@_)
	{
		$s->result;
		is($s->errors, '', "$s->{create}: no error");
		$s->close;
	}
}

sub has_all
{
	for my $db (@copies)
	{
		$c->sql_is('SELECT count(*), sum(i), max(ctid) FROM a', $c->sql('SELECT count(*), sum(i), max(ctid) FROM a', db => 't'), "$db has all rows", db => $db);
		$c->sql_is("SELECT nextval('s') > 1", 't', "$db: its sequence continues", db => $db);
	}
}

# ---- a file copy has hidden the stubs ----

# The store does not have the newest rows, and so does not know the length of the table.
my @sessions = map { copy(@$_) } [ 'f1', 'file_copy' ], [ 'w1', 'wal_log' ], [ 'f2', 'file_copy' ], [ 'w2', 'wal_log' ];
my ($f1, $w1, $f2, $w2) = @sessions;
$c->sql('SELECT count(*) FROM a', db => 't');
$observer->ask("SELECT wait_event FROM pg_stat_get_activity(1); SELECT count(*) FROM pg_locks");
stop_wal($observer);
$c->sql("SET synchronous_commit = local; INSERT INTO a SELECT i, repeat('b', 500) FROM generate_series(1001, 3000) i", db => 't');
# It begins with a checkpoint, then hides the stubs.
my $checkpointer = $observer->ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
stop_process($checkpointer);
$f1->send($f1->{create});
waits_for($f1, 'CheckpointStart');
isnt(join('', glob "$c->{dir}/base/*/pageserver_smgr.stubs/*"), '', 'a file copy hides the stubs of the template');
$_->send($_->{create}) for $w1, $f2, $w2;
is_kept_out($w1, 'a page copy waits for a file copy');
is_kept_out($f2, 'another file copy waits');
is_kept_out($w2, 'another page copy waits');
go_on_process($checkpointer);
go_on_wal();
made(@sessions);
has_all();
is(join('', glob "$c->{dir}/base/*/pageserver_smgr.stubs"), '', 'no hidden stubs are left');

# ---- page copies run side by side ----
@sessions = map { copy(@$_) } [ 'w3', 'wal_log' ], [ 'w4', 'wal_log' ], [ 'f3', 'file_copy' ], [ 'w5', 'wal_log' ];
my ($w3, $w4, $f3, $w5) = @sessions;
stop_wal($observer);
$_->send($_->{create}) for $w3, $w4;
# They have copied, and hold their locks until they have committed.
waits_for($_, 'SyncRep') for $w3, $w4;
pass('two page copies do not wait for one another');
$f3->send($f3->{create});
is_kept_out($f3, 'a file copy waits for page copies');
# A copy that is canceled does not affect the others.
my $f4 = copy('f4', 'file_copy');
pop @copies;
$f4->send($f4->{create});
is_kept_out($f4, 'another file copy waits for page copies');
$observer->ask("SELECT pg_cancel_backend($f4->{pid})");
$f4->result;
like($f4->errors, qr/canceling statement due to user request/, 'the wait can be canceled');
$f4->close;
go_on_wal();
$w5->send($w5->{create});
made(@sessions);
has_all();

# ---- all at the same time ----
$c->sql("INSERT INTO a SELECT i, repeat('c', 500) FROM generate_series(3001, 9000) i", db => 't');
my @more = map { copy("x$_", $_ % 2 ? 'wal_log' : 'file_copy') } 1 .. 6;
$_->send($_->{create}) for @more;
made(@more);
@copies = grep { /^x/ } @copies;
has_all();

# The next compute has no stub of the template.
$observer->close;
$c->kill9;
$c = $store->start_compute('main', conf => "autovacuum = off\n");
@more = map { copy("y$_", $_ % 2 ? 'wal_log' : 'file_copy') } 1 .. 4;
$_->send($_->{create}) for @more;
made(@more);
@copies = grep { /^[xy]/ } @copies;
has_all();
$c->stop;
$store->stop;
done_testing();
