# Changes without a restart. On SIGHUP the store reopens its log and reads its settings again; a restart
# or reload with invalid settings is refused; backends that wait for a store that has moved find it again.
use strict;
use warnings;
use JSON::PP;
use PageserverTest;
use TrapTest;
use Test::More;
use Time::HiRes qw(usleep);

my $dir = PageserverTest::test_dir();
my $store = PageserverTest->new_store('main');
$store->ctl_ok('a branch', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "autovacuum = off\nshared_buffers = 1MB\npageserver_smgr.cache_size = 1MB\nmax_parallel_workers_per_gather = 0\n");
$c->sql("CREATE TABLE t AS SELECT i, repeat('x', 500) pad FROM generate_series(1, 5000) i; VACUUM (FREEZE) t");

sub status
{
	my ($name) = @_;
	my ($row) = grep { /^\Q$name\E\|/ } split /\n/, ($store->command('status'))[1];
	return (split /\|/, $row, -1)[1];
}

# Writes the settings; the port is that of new_store().
my $conf = "$store->{dir}/pageserver.conf";
my $basic = PostgreSQL::Test::Utils::slurp_file($conf);
sub write_conf
{
	my ($text) = @_;
	open my $f, '>', $conf or die "$conf: $!";
	print $f $basic . $text;
	close $f;
}
sub reload
{
	my ($what) = @_;
	my $said = () = $store->log_content =~ /SIGHUP/g;
	$store->ctl_ok("$what: reload", 'reload', '-D', $store->dir);
	PageserverTest::wait_until(sub { (() = $store->log_content =~ /SIGHUP/g) > $said }, 'the signal');
}

# ---- the log ----
my $old = $store->log_content;
rename $store->{log}, "$store->{log}.1" or die "rename: $!";
reload('log moved away');
like(PostgreSQL::Test::Utils::slurp_file("$store->{log}.1"), qr/\Q$old\E/, 'the old log is unchanged');
$store->ctl_ok('something to log', 'branch', 'create', 'b', '--from', 'main');
my $c2 = $store->start_compute('b');
PageserverTest::wait_until(sub { $store->log_content =~ /branch "b": receiving WAL/ }, 'the log to continue under its name');
unlike(PostgreSQL::Test::Utils::slurp_file("$store->{log}.1"), qr/branch "b"/, 'the old log gets no new lines');
is((stat $store->{log})[2] & 0777, 0600, 'permissions of the new log');
# Helpers do not hold a file open that logrotate would compress.
$c2->sql('SELECT count(*) FROM t');
my @holders = grep { (readlink $_ // '') eq "$store->{log}.1" } glob "/proc/[0-9]*/fd/*";
is("@holders", '', 'no process has the old log open');
$c2->stop;

# ---- settings ----
write_conf("min_free_space = 1TB\n");
reload('min_free_space');
my $writer = session($c);
$writer->send('CREATE TABLE w (i int); INSERT INTO w VALUES (1) RETURNING i');
PageserverTest::wait_until(sub { $store->log_content =~ /WARNING:  branch "main": WAL of its compute is waiting: less than 1048576 MB are free/ }, 'a commit to wait');
write_conf("gc_horizon = 1GB\nlog_level = warning\nport = 1\npage_cache_size = 1MB\n");
reload('settings that need a restart');
is($writer->result, '1', 'a commit that waited because of a setting continues when that is reverted');
is(status('restart_needed'), 'port, page_cache_size', 'the status names settings that need a restart');
like($store->log_content, qr/LOG:  setting "min_free_space" changed to "512MB"/, 'the log names the changed settings');
like($store->log_content, qr/WARNING:  setting "port" cannot be changed to "1" without a restart/, 'the log names settings that need a restart');
like($store->ctl_ok('status', 'status', '-D', $store->dir), qr/Changed settings that require a restart: port, page_cache_size\./, 'pageserver_ctl status names settings that need a restart');
is(decode_json($store->ctl_ok('status', 'status', '-D', $store->dir, '--json'))->{restart_needed}, 'port, page_cache_size', 'pageserver_ctl status --json names settings that need a restart');

# ---- bad settings ----
write_conf("checkpoint_distance = nonsense\n");
my $pid = $store->{pid};
for my $command ('reload', 'restart')
{
	$store->ctl_fails_like(qr/checkpoint_distance.*No changes were made/s, "$command with bad settings", $command, '-D', $store->dir);
	ok(kill(0, $pid), "$command with bad settings: the store is still running");
}
$c->sql_is('INSERT INTO w VALUES (2) RETURNING i', '2', 'the store accepts WAL after a refused reload');
# SIGHUP alone, as other programs may send it
kill 'HUP', $pid;
PageserverTest::wait_until(sub { $store->log_content =~ /WARNING:  settings were not reloaded: .*checkpoint_distance/ }, 'bad settings to be refused');
write_conf('');
$store->ctl_ok('restart with good settings', 'restart', '-D', $store->dir, '-l', $store->{log});
($store->{pid}) = split /\n/, PostgreSQL::Test::Utils::slurp_file("$store->{dir}/pageserver.pid");
isnt($store->{pid}, $pid, 'the restarted store is another process');
is(status('restart_needed'), '', 'no setting needs a restart after the restart');
$c->sql_is('SELECT count(*) FROM w', '2', 'the compute continues after the restart');

# ---- a store that moves ----
my $expected = $c->sql('SELECT count(*), sum(i) FROM t');
my @readers = map { session($c) } 1 .. 2;
$store->stop;
$_->send('SELECT count(*), sum(i) FROM t') for @readers;
PageserverTest::wait_until(sub { $c->log_content =~ /could not stream WAL to the page store/ }, 'the compute to notice');
rename $store->dir, "$dir/moved" or die "rename: $!";
$store->{dir} = "$dir/moved";
$store->start;
my $smgr_conf = "$c->{dir}/pageserver_smgr.conf";
my $text = PostgreSQL::Test::Utils::slurp_file($smgr_conf);
$text =~ s{store_main}{moved}g or die $text;
open my $f, '>', $smgr_conf or die;
print $f $text;
close $f;
kill 'HUP', $c->{pid};
is($_->result, $expected, 'a statement that waits at the old address continues at the new one') for @readers;
is($_->errors, '', 'the statement that waited had no error') for @readers;
$c->sql_is('INSERT INTO w VALUES (3) RETURNING i', '3', 'a commit succeeds over a new connection');

# A wrong address, that of a store with other branches, does not make a compute give up.
my $other = PageserverTest->new_store('other');
(my $wrong = $text) =~ s/moved/store_other/;
$wrong =~ s/port=$store->{port}/port=$other->{port}/;
sub set_store
{
	my ($new) = @_;
	open my $f, '>', $smgr_conf or die;
	print $f $new;
	close $f;
	kill 'HUP', $c->{pid};
}
set_store($wrong);
PageserverTest::wait_until(sub { $c->log_content =~ /could not stream WAL to the page store, retrying: the store has no timeline/ }, 'the compute to connect to the other store')
  or diag($c->log_tail . $wrong);
ok($c->is_running, 'the compute waits while the address is wrong');
set_store($text);
$c->sql_is('INSERT INTO w VALUES (4) RETURNING i', '4', 'the compute continues when the address is right');
$c->stop;
$_->stop for $store, $other;
done_testing();
