# A copy of a compute's directory contains none of the data. Therefore every way to start a base
# backup of it is refused, before anything is copied, with a message that says what to use instead;
# physical replication is refused as well. Logical replication works.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $dir = PageserverTest::test_dir();
my $probe = "$ENV{PAGESERVER_TOP}/test/modules/direct_calls.so";
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "wal_level = logical\nmax_wal_senders = 4\nautovacuum = off\n");
$c->sql("CREATE TABLE t AS SELECT generate_series(1, 1000) i");

my $refused = qr/cannot take a base backup of a compute.*HINT: .*pageserver_ctl export.*pageserver_ctl branch create/s;
my $no_standby = qr/a compute does not accept physical replication connections.*HINT: .*pageserver_ctl export/s;

sub fails_like
{
	my ($sql, $pattern, $what, %opt) = @_;
	my ($rc, $out, $err) = $c->psql($sql, %opt);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	isnt($rc, 0, "$what: fails");
	like($err, $pattern, $what);
}

# ---- in SQL ----
fails_like("SELECT pg_backup_start('x', true)", $refused, 'pg_backup_start()');
fails_like("SELECT pg_backup_stop()", qr/backup is not in progress/, 'pg_backup_stop()');
fails_like("DO \$\$ BEGIN PERFORM pg_backup_start('x'); END \$\$", $refused, 'pg_backup_start() in a function');
$c->sql("CREATE FUNCTION my_start(text, boolean) RETURNS pg_lsn LANGUAGE internal AS 'pg_backup_start'");
fails_like("SELECT my_start('x', true)", $refused, 'pg_backup_start() under another name');
$c->sql("CREATE FUNCTION start_in_c(text, boolean) RETURNS pg_lsn AS '$probe' LANGUAGE C");
fails_like("SELECT start_in_c('x', true)", $refused, 'pg_backup_start() called in C');

# ---- replication connections of a database ----
my %walsender = (db => 'postgres replication=database');
fails_like("BASE_BACKUP (LABEL 'x')", $refused, 'BASE_BACKUP', %walsender);
fails_like("BASE_BACKUP (TARGET 'blackhole')", $refused, 'BASE_BACKUP to nowhere', %walsender);
fails_like("BASE_BACKUP (TARGET 'server', TARGET_DETAIL '$dir/backup')", $refused, 'BASE_BACKUP on the server', %walsender);
ok(!-e "$dir/backup/base", 'BASE_BACKUP on the server copies nothing');
my $lsn = $c->sql('SELECT pg_current_wal_flush_lsn()');
fails_like("START_REPLICATION $lsn", $no_standby, 'START_REPLICATION', %walsender);
fails_like("START_REPLICATION PHYSICAL 0/1000000", $no_standby, 'START_REPLICATION from elsewhere', %walsender);
$c->sql("SELECT pg_create_physical_replication_slot('standby', true)");
fails_like("START_REPLICATION SLOT standby PHYSICAL $lsn", $no_standby, 'START_REPLICATION with a slot', %walsender);
$c->sql_is("SELECT active FROM pg_replication_slots WHERE slot_name = 'standby'", 'f', 'the slot is not active');
$c->sql("SELECT pg_drop_replication_slot('standby')");
# the next commands of the connection work
my ($rc, $out, $err) = $c->psql("\\set ON_ERROR_STOP 0\nBASE_BACKUP;\nSTART_REPLICATION $lsn;\nIDENTIFY_SYSTEM;\nSHOW wal_level;\nSELECT count(*) FROM t;\nCOPY (SELECT max(i) FROM t) TO STDOUT;\n", %walsender);
like($out, qr/^\d+\|1\|[0-9A-F\/]+\|postgres\nlogical\n1000\n1000$/, 'other commands work, after errors too') or diag($err);
unlike($c->log_content, qr/PANIC|TRAP|was terminated/, 'no crash');

# ---- PostgreSQL's tools ----
my $run = sub { my ($what, $pattern, @command) = @_; my ($rc, $out) = $c->program(@command); isnt($rc, 0, "$what: fails"); like($out, $pattern, "$what: says why"); };
$run->('pg_basebackup', $no_standby, 'pg_basebackup', '-D', "$dir/basebackup");
$run->('pg_receivewal', qr/a compute does not accept physical replication connections/, 'pg_receivewal', '-D', $dir, '--no-loop');
my @recv = ('-d', 'postgres', '--slot', 'dec');
$c->program_ok('pg_recvlogical creates a slot', 'pg_recvlogical', @recv, '--create-slot', '-P', 'test_decoding');
$c->sql('INSERT INTO t VALUES (-1)');
my $end = $c->sql('SELECT pg_current_wal_flush_lsn()');
like($c->program_ok('pg_recvlogical streams', 'pg_recvlogical', @recv, '--start', '--endpos', $end, '-f', '-'), qr/INSERT: i\[integer\]:-1/, 'pg_recvlogical gets the row');
$c->program_ok('pg_recvlogical drops the slot', 'pg_recvlogical', @recv, '--drop-slot');

# ---- pgBackRest ----
open my $conf, '>', "$dir/pgbackrest.conf" or die;
print $conf "[global]\nrepo1-path=$dir/repo\nlog-path=$dir\nlock-path=$dir/lock\nlog-level-file=off\nlog-level-stderr=off\n",
  "[c]\npg1-path=$c->{dir}\npg1-port=$c->{port}\npg1-socket-path=$c->{host}\npg1-user=postgres\n";
close $conf;

sub pgbackrest
{
	my (@command) = @_;
	my $said = '';
	IPC::Run::run([ 'pgbackrest', "--config=$dir/pgbackrest.conf", '--stanza=c', @command ], '<', \undef, '>&', \$said);
	return ($? >> 8, $said);
}
($rc, $out) = pgbackrest('stanza-create');
is($rc, 0, 'pgbackrest stanza-create') or diag($out);
($rc, $out) = pgbackrest('backup', '--no-archive-check', '--start-fast');
isnt($rc, 0, 'pgbackrest backup: fails');
like($out, $refused, 'pgbackrest backup: says why');
($rc, $out) = pgbackrest('info');
like($out, qr/no valid backups/, 'pgbackrest has no backup');

# nothing of a backup is left that would get in the way
$c->stop;
$c = $store->start_compute('main');
$c->sql_is('SELECT count(*) FROM t', '1001', 'the data are unchanged');
$c->stop;
$store->stop;
done_testing();
