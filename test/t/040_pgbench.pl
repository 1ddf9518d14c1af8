# pgbench with small caches, so that most reads are answered by the store. The sums of TPC-B must agree
# afterwards, in this compute and in the next one.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $conf = "shared_buffers = 16MB\npageserver_smgr.cache_size = 32MB\nmax_wal_size = 256MB\n";
my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 64MB\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => $conf);

$c->program_ok('pgbench -i', 'pgbench', '-i', '-q', '-s', 20, 'postgres');
my $out = $c->program_ok('pgbench', 'pgbench', '-c', 8, '-j', 2, '-T', 30, '-n', 'postgres');
like($out, qr/number of failed transactions: 0 /, 'no transaction failed');
note($out);

my $sums = 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history), '
  . '(SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history), '
  . '(SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history), '
  . '(SELECT count(*) FROM pgbench_accounts)';
$c->sql_is($sums, 't|t|t|2000000', 'TPC-B sums agree');
$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--install-missing', '--heapallindexed');
my $tables = $c->sql("SELECT string_agg(format('SELECT count(*) FROM %s;', oid::regclass), ' ') FROM pg_class WHERE relkind IN ('r', 't', 'm')");
$c->sql($tables);
pass('a full scan of every table succeeds');
my $history = $c->sql('SELECT count(*), sum(delta) FROM pgbench_history');
$c->kill9;
$c = $store->start_compute('main', conf => $conf);
$c->sql_is('SELECT count(*), sum(delta) FROM pgbench_history', $history, 'a new compute has the same history');
$c->sql_is($sums, 't|t|t|2000000', 'TPC-B sums agree on a new compute');
$c->stop;
$store->stop;
done_testing();
