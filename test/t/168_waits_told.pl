# Sessions that wait are told what they wait for: in the view, once in the logs of store and compute, in
# status, branch list and compute status. This also holds while the store is down.
use strict;
use warnings;
use JSON::PP;
use PageserverTest;
use TrapTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $store = PageserverTest->new_store('main');
$store->ctl_ok('a branch', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "autovacuum = off\nshared_buffers = 1MB\nmax_parallel_workers_per_gather = 0\n");
$c->sql('CREATE EXTENSION pageserver_smgr; CREATE TABLE t (i int)');
my $observer = session($c);
my $view = 'SELECT waits_for, waits_since <= now() FROM pageserver_smgr_store';
my $writer = session($c);
is($observer->ask($view), '|', 'the view is empty when nothing waits');
$writer->ask('INSERT INTO t VALUES (0)');

my $file = "$c->{dir}/pageserver_smgr.status";
sub told { return decode_json(PostgreSQL::Test::Utils::slurp_file($file)); }
sub compute_status { return $store->ctl('compute', 'status', '-D', $c->dir, @_); }

# Compares with the documentation: exit code, and what is printed.
sub status_is
{
	my ($code, $pattern, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($rc, $out) = compute_status();
	is($rc, $code, "$what: exit code of compute status");
	like($out, $pattern, "$what: what it prints");
	($rc, $out) = compute_status('--json');
	is($rc, $code, "$what: exit code with --json");
	return decode_json($out);
}

PageserverTest::wait_until(sub { -e $file && told()->{state} eq 'streaming' }, 'the status file');
my $json = status_is(0, qr/, ready\)\.$/m, 'compute is ready');
is($json->{state}, 'ready', 'as JSON');
is($json->{worker}{generation}, '1', 'status as JSON has the generation from the WAL worker');
is($json->{worker}{pid}, $c->{pid}, 'status as JSON has the PID of this compute');
my $flushed = $c->sql('INSERT INTO t VALUES (0); SELECT pg_current_wal_flush_lsn()');
PageserverTest::wait_until(sub { (told()->{flushed_lsn} // '') ge $flushed }, 'the status file to show the progress');
is((stat $file)[2] & 0777, 0600, 'permissions of the status file');

sub count_in { my ($text, $pattern) = @_; return scalar(() = $text =~ /$pattern/g); }

# ---- no space on the store's disk ----
my $conf = "$store->{dir}/pageserver.conf";
my $basic = PostgreSQL::Test::Utils::slurp_file($conf);
sub set_conf
{
	my ($text) = @_;
	open my $f, '>', $conf or die "$conf: $!";
	print $f $basic . $text;
	close $f;
	$store->ctl_ok('reload', 'reload', '-D', $store->dir);
}
for my $round (1 .. 2)
{
	set_conf("min_free_space = 1TB\n");
	PageserverTest::wait_until(sub { count_in($store->log_content, qr/setting "min_free_space" changed to "1048576MB"/) == $round }, 'the store to have no space');
	$writer->send("INSERT INTO t VALUES ($round) RETURNING i");
	PageserverTest::wait_until(sub { $observer->ask('SELECT waits_for IS NOT NULL FROM pageserver_smgr_store') eq 't' }, 'the view to show the wait');
	like($observer->ask($view), qr/^the page store does not accept WAL: less than 1048576 MB are free in ".*": no WAL is accepted\|t$/, "no space, round $round: the view");
	PageserverTest::wait_until(sub { told()->{state} eq 'waiting' }, 'the status file to show the wait');
	$json = status_is(5, qr/but is waiting: the page store does not accept WAL: less than 1048576 MB are free in .*, since \d+-/, 'no space');
	is($json->{state}, 'waiting', 'no space: state as JSON');
	my $list = decode_json(($store->ctl('branch', 'list', '--json'))[1]);
	like($list->[0]{waits_for}, qr/less than 1048576 MB are free.*, since \d+-/, 'no space: branch list as JSON');
	like(($store->ctl('branch', 'list'))[1], qr/less than 1048576 MB are free/, 'no space: branch list');
	like(($store->ctl('status', '-D', $store->dir))[1], qr/WAL of a compute is waiting: branch "main": less than 1048576 MB are free/, 'no space: status of the store');
	# reads continue
	is($observer->ask('SELECT count(*) >= 2 FROM t'), 't', 'no space: reads continue');
	# It waits for more than one attempt, and logs that once.
	usleep(2_500_000) if $round == 1;
	is(count_in($store->log_content, qr/WARNING:  branch "main": WAL of its compute is waiting: less than/), $round, "no space: once in the store's log");
	is(count_in($c->log_content, qr/LOG:  the page store does not accept WAL: less than/), $round, "no space: once in the compute's log");
	set_conf('');
	is($writer->result, $round, 'space again: the commit succeeds');
	PageserverTest::wait_until(sub { $observer->ask($view) eq '|' }, 'the view to show no wait');
	PageserverTest::wait_until(sub { told()->{state} eq 'streaming' }, 'the status file to show no wait');
	status_is(0, qr/, ready\)\.$/m, 'space again');
	is(count_in($store->log_content, qr/LOG:  branch "main": WAL of its compute is no longer waiting, after \d+ s/), $round, "space again: the store's log");
	PageserverTest::wait_until(sub { count_in($c->log_content, qr/LOG:  page store accepts WAL again after \d+ ms/) == $round }, "the compute's log");
	unlike(($store->ctl('status', '-D', $store->dir))[1], qr/WAL of a compute is waiting/, 'space again: status of the store');
}

# ---- the store is down ----
my $outages = count_in($c->log_content, qr/could not stream WAL to the page store/);
$store->stop;
$writer->send('INSERT INTO t VALUES (3) RETURNING i');
PageserverTest::wait_until(sub { told()->{state} eq 'waiting' }, 'the status file to show that the store is down');
$json = status_is(5, qr/but is waiting: no connection to the page store: .*, since \d+-/, 'store down');
like($json->{worker}{waits_since}, qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00$/, 'store down: since when');
like($observer->ask($view), qr/^no connection to the page store: .*\|t$/, 'store down: the view');
$store->start;
is($writer->result, '3', 'store back: the commit succeeds');
PageserverTest::wait_until(sub { told()->{state} eq 'streaming' }, 'the status file to show no wait');
status_is(0, qr/, ready\)\.$/m, 'store back');
# The log has another line if the reason changes: the store closes the connection; it is not there.
cmp_ok(count_in($c->log_content, qr/could not stream WAL to the page store/), '<=', $outages + 2, "store down: once for each reason in the compute's log");

# ---- the WAL worker no longer updates its status ----
my $worker = $c->sql('SELECT worker_pid FROM pageserver_smgr_store');
stop_process($worker);
utime time - 120, time - 120, $file or die "utime: $!";
status_is(5, qr/but is waiting: its WAL worker has not updated ".*" for 1\d\d s/, 'WAL worker stopped');
go_on_process($worker);
PageserverTest::wait_until(sub { (compute_status())[0] == 0 }, 'the WAL worker to update its status');

# ---- all connections are in use ----
my ($row) = grep { /^main\|/ } split /\n/, ($store->command('branch_list'))[1];
my @id = (split /\|/, $row)[ 1, 2 ];
my $lsn = $c->sql('SELECT pg_current_wal_flush_lsn()');
$c->sql("CREATE TABLE far AS SELECT i, repeat('x', 500) FROM generate_series(1, 5000) i; VACUUM (FREEZE) far; CHECKPOINT");
my $reader = session($c);
# Both sessions have read the catalog pages that they need.
$reader->ask('SELECT pageserver_smgr_clear_cache()');
$_->ask("SELECT count(*) FROM far WHERE false; $view") for $reader, $observer;
{
	use IO::Socket::UNIX;
	set_conf("max_connections = 1\n");
	PageserverTest::wait_until(sub { $store->log_content =~ /setting "max_connections" changed to "1"/ }, 'one connection');
	# A lease is not revoked; those of the backends are.
	my $s = IO::Socket::UNIX->new(Peer => $store->dir . '/.s.PGSQL.' . $store->port) || die "connect: $!";
	my $params = "user\0postgres\0database\0store\0\0";
	my $query = "pagestream @id 0 $lsn\0";
	syswrite $s, pack('NN', 8 + length($params), 196608) . $params . 'Q' . pack('N', 4 + length $query) . $query;
	my $answer = '';
	while ($answer !~ /W\0\0\0\x07/) { sysread $s, $answer, 4096, length $answer or die "no lease: $answer"; }
	$reader->send('SELECT count(*) FROM far');
	$reader->result;
	like($reader->errors, qr/no free connection for this backend/, 'no connection: the error of a reader');
	like($observer->ask($view), qr/^all 1 page streams of the store are in use\|t$/, 'no connection: the view');
	PageserverTest::wait_until(sub { told()->{state} eq 'waiting' }, 'the status file to show that all connections are in use');
	status_is(5, qr/but is waiting: all 1 page streams/, 'no connection');
	close $s;
}
is($reader->ask('SELECT count(*) FROM far'), '5000', 'the reader continues when there is a connection');

# ---- the previous version of the extension ----
$c->sql('CREATE DATABASE old');
$c->sql("CREATE EXTENSION pageserver_smgr VERSION '1.0'", db => 'old');
$c->sql_is('SELECT connected FROM pageserver_smgr_store', 't', 'the view of version 1.0', db => 'old');
$c->sql("ALTER EXTENSION pageserver_smgr UPDATE", db => 'old');
$c->sql_is('SELECT connected, coalesce(waits_for, $$nothing$$) LIKE $$%$$ FROM pageserver_smgr_store', 't|t', 'the view after an update', db => 'old');
$c->sql('CREATE ROLE mon IN ROLE pg_monitor');
$c->sql_is('SET ROLE mon; SELECT connected FROM pageserver_smgr_store', 't', 'the view is readable for pg_monitor', db => 'old');

$c->stop;
ok(!-e $file, 'a compute that is stopped leaves no status file');
$store->stop;
done_testing();
