# A compute whose address has several hosts finds the store that has its tenant, wherever that moves.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use TrapTest;

my $first = PageserverTest->new_store('first');
my $second = PageserverTest->new_store('second');
my $address = "host=$first->{dir},$second->{dir} port=$first->{port},$second->{port} user=postgres dbname=store";
$first->ctl_ok('a branch of the first store', 'branch', 'create', 'one');
$second->ctl_ok('a branch of the second store', 'branch', 'create', 'two');

# ---- the right one of two stores that run ----
my $c = $second->start_compute('two', conf => "shared_buffers = 1MB\n", args => [ '--store', $address ]);
$c->sql('CREATE EXTENSION pageserver_smgr');
$c->sql("CREATE TABLE t AS SELECT generate_series(1, 20000) AS i");
like($c->sql('SELECT store FROM pageserver_smgr_store'), qr/host=\Q$first->{dir},$second->{dir}\E/, 'both hosts are in its address');
$c->sql('SELECT pageserver_smgr_clear_cache()');
$c->sql_is('SELECT count(*) FROM t', '20000', 'pages are read from the second host');
my $id = $c->sql('SELECT tenant FROM pageserver_smgr_store');

# ---- hosts that are down ----
$first->stop;
$c->sql('SELECT pageserver_smgr_clear_cache()');
$c->sql('INSERT INTO t VALUES (0)');
$c->sql_is('SELECT count(*) FROM t', '20001', 'the other host is down');
my $session = TrapTest::session($c);
$second->kill9;
$first->start;
PageserverTest::wait_until(
	sub { $c->log_content =~ /could not stream WAL.*"\Q$second->{dir}\E" port $second->{port}: .*; "\Q$first->{dir}\E" port $first->{port}: the store has no timeline/ },
	'the compute to be refused by both');
ok($c->is_running, 'one that does not have the tenant, and one that is down, do not stop the compute');
$session->send('INSERT INTO t VALUES (-1)');
$second->start;
$session->result;
$c->sql_is('SELECT count(*) FROM t', '20002', 'it continues when its host is up again');

# ---- the tenant moves, the compute follows ----
$second->ctl_ok('detach', 'tenant', 'detach', $id);
$session->send('INSERT INTO t VALUES (-2)');
system('cp', '-a', "$second->{dir}/tenants/$id", "$first->{dir}/tenants/$id") == 0 or die "cp failed";
$first->ctl_ok('attach to the first store', 'tenant', 'attach', $id);
$session->result;
$c->sql('SELECT pageserver_smgr_clear_cache()');
$c->sql_is('SELECT count(*) FROM t', '20003', 'the compute has followed the tenant');
is($session->ask('SELECT count(*) FROM t WHERE i < 0'), '2', 'in the session that waited, too');
$session->close;
$second->stop;
$c->sql('INSERT INTO t VALUES (-3)');

# ---- commands ----
$c->stop;
like($c->log_content, qr/database system is shut down/, 'it stops');
unlike($c->log_content, qr/could not preserve statistics/, 'its statistics are sent to the host that has the tenant');
$c = $first->start_compute('two', args => [ '--store', "host=$second->{dir},$first->{dir} port=$second->{port},$first->{port} user=postgres dbname=store" ]);
$c->sql_is('SELECT count(*) FROM t', '20004', 'a compute is started with hosts of which one is down');

# ---- the branch is deleted: all hosts agree ----
$second->start;
my $pid = $c->{pid};
$second->ctl_ok('the copy is deleted', 'tenant', 'delete', $id, '--force');
$first->ctl_ok('delete', 'branch', 'delete', 'two', '--force');
PageserverTest::wait_gone($pid);
like($c->log_content, qr/shutting down immediately because the page store no longer has timeline/, 'a compute stops if no host has its branch');
$c->kill9;
$_->stop for $first, $second;
done_testing();
