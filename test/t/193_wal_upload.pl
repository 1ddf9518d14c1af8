# WAL in object storage: what was acknowledged there survives the loss of the store's WAL; a compute that lives keeps what
# is not there yet and sends it again; commits wait when too much is not there.
use strict;
use warnings;
use JSON::PP;
use PageserverTest;
use POSIX ();
use Test::More;
use TrapTest;

my $dir = PageserverTest::test_dir();
my $bucket = "$dir/bucket";
mkdir $bucket or die "mkdir: $!";
my $store = PageserverTest->new_store('main', conf => "remote_storage = 'file://$bucket'\nwal_acknowledge = bucket\nwal_upload_interval = 100ms\nwal_upload_max_lag = 3s\n");
my $conf = "$store->{dir}/pageserver.conf";

sub set_conf
{
	my ($name, $value) = @_;
	my $text = PostgreSQL::Test::Utils::slurp_file($conf);
	$text =~ s/^\Q$name\E = .*\n//mg;
	open my $f, '>', $conf or die "$conf: $!";
	print $f $text . "$name = $value\n";
	close $f;
	$store->ctl_ok("reload of $name", 'reload', '-D', $store->dir);
}

sub branch { return decode_json(($store->ctl('branch', 'list', '--json'))[1])->[0]; }

# The store's process is killed, and its disk loses the WAL of the branch.
sub lose_wal
{
	$store->kill9;
	my ($timeline) = glob "$store->{dir}/tenants/*/timelines/*";
	system('rm', '-r', "$timeline/wal", "$timeline/flushed") == 0 or die "rm failed";
}

# ---- mode bucket: the store's WAL is lost under load, the computes, too ----
$store->ctl_ok('a branch', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "autovacuum = off\n");
$c->sql('CREATE EXTENSION pageserver_smgr; CREATE TABLE t (client int, i int)');
my $row = branch();
is($row->{bucket_lsn}, $row->{flushed_lsn}, 'all WAL is in the bucket');
is($row->{bucket_lag_bytes}, 0, 'no lag in bytes');
like(($store->ctl('branch', 'list'))[1], qr/bucket_lsn.*bucket_lag_seconds/, 'branch list has the columns');

for my $round (1 .. 3)
{
	my @pids;
	# each client notes what was acknowledged, in a file of its own
	for my $i (0 .. 3)
	{
		my $log = "$dir/acknowledged_${round}_$i";
		my $pid = fork // die "fork: $!";
		if ($pid == 0)
		{
			open my $out, '>', $log or die "$log: $!";
			$out->autoflush(1);
			for (my $n = 1; ; $n++)
			{
				my ($rc) = $c->psql("INSERT INTO t VALUES ($round * 10 + $i, $n)");
				POSIX::_exit(0) if $rc != 0;
				print $out "$n\n";
			}
		}
		push @pids, $pid;
	}
	PageserverTest::wait_until(sub { !grep { !-e || -s $_ < 20 } map { "$dir/acknowledged_${round}_$_" } 0 .. 3 }, 'commits');
	lose_wal();
	$c->kill9;
	waitpid $_, 0 for @pids;
	$store->start;
	$c = $store->start_compute('main', name => "after_$round", conf => "autovacuum = off\n");
	for my $i (0 .. 3)
	{
		my @n = split /\n/, PostgreSQL::Test::Utils::slurp_file("$dir/acknowledged_${round}_$i");
		my $missing = $c->sql("SELECT count(*) FROM generate_series(1, $n[-1]) n WHERE NOT EXISTS (SELECT FROM t WHERE client = $round * 10 + $i AND i = n)");
		is($missing, 0, "round $round, client $i: all of $n[-1] acknowledged commits are there");
	}
}
like($store->log_content, qr/restored WAL of ".*" from object storage/, 'WAL was restored');
is(scalar(my @left = glob "$store->{dir}/tenants/*/timelines/*/wal.restored"), 0, 'nothing is left behind');

# ---- the bucket does not answer: commits wait, and that is shown ----
my $session = session($c);
$session->ask('INSERT INTO t VALUES (100, 0)');
rename $bucket, "$bucket.away" or die "rename: $!";
$session->send('INSERT INTO t VALUES (100, 1)');
PageserverTest::wait_until(sub { (branch()->{waits_for} // '') =~ /WAL is not in object storage yet \(wal_acknowledge is bucket\): .+, since/ }, 'branch list to show the wait');
like(($store->ctl('compute', 'status', '-D', $c->dir))[1], qr/WAL is not in object storage yet/, 'compute status shows it');
like(($store->ctl('status', '-D', $store->dir))[1], qr/WAL is not in object storage yet/, 'status shows it');
cmp_ok(branch()->{bucket_lag_bytes}, '>', 0, 'there is a lag');
# what commits wait for is a setting that can be changed
set_conf('wal_acknowledge', 'local');
$session->result;
ok(1, 'in mode local the commit is acknowledged');
PageserverTest::wait_until(sub { (branch()->{waits_for} // '') eq '' }, 'branch list to show no wait');
unlike(($store->ctl('compute', 'status', '-D', $c->dir))[1], qr/object storage/, 'compute status does not show it any more');

# ---- mode local: a compute that lives loses nothing, whatever the store's disk loses ----
set_conf('wal_upload_max_lag', '1h');
$c->sql("INSERT INTO t SELECT 200, i FROM generate_series(1, 300000) i");
$c->sql('CHECKPOINT; SELECT pg_switch_wal(); INSERT INTO t VALUES (201, 0); CHECKPOINT');
my $keep = branch()->{bucket_lsn};
is($c->sql("SELECT restart_lsn <= '$keep' FROM pg_replication_slots WHERE slot_name = 'pageserver'"), 't', 'the compute keeps WAL that is not in the bucket');
cmp_ok($c->sql("SELECT pg_current_wal_lsn() - '$keep'"), '>', 16 * 1024 * 1024, 'which is more than a segment');
rename "$bucket.away", $bucket or die "rename: $!";
lose_wal();
$store->start;
$c->sql('INSERT INTO t VALUES (202, 0)');
$c->sql('SELECT pageserver_smgr_clear_cache()');
$c->sql_is('SELECT count(*) FROM t WHERE client >= 200', 300002, 'all is there again');
like($c->log_content, qr/page store does not have all WAL that was acknowledged; sending it again/, 'the compute says so');
PageserverTest::wait_until(sub { my $b = branch(); $b->{bucket_lsn} eq $b->{flushed_lsn} }, 'all WAL to be uploaded');
PageserverTest::wait_until(sub { $c->sql("SELECT restart_lsn > '$keep' FROM pg_replication_slots WHERE slot_name = 'pageserver'") eq 't' }, 'the compute to keep it no longer');

# ---- mode local has a bound ----
set_conf('wal_upload_max_lag', '2s');
rename $bucket, "$bucket.away" or die "rename: $!";
$session->close;
$session = session($c);
my $n = 0;
PageserverTest::wait_until(
	sub {
		return 1 if (branch()->{waits_for} // '') =~ /object storage, which has no WAL of the last \d+ s \(wal_upload_max_lag is 2 s\): .+/;
		$session->send('INSERT INTO t VALUES (300, ' . ++$n . ')') if $n == 0 || $session->done;
		return 0;
	},
	'commits to wait');
$c->sql_is('SELECT count(*) > 300000 FROM t', 't', 'reads go on');
rename "$bucket.away", $bucket or die "rename: $!";
$session->result;
$c->sql_is('SELECT count(*) FROM t WHERE client = 300', $n, 'they go on when WAL is uploaded');
like($store->log_content, qr/could not upload WAL after .*trying again/, 'the log says that it was not uploaded');
like($store->log_content, qr/WAL is uploaded again/, 'and that it is');

# ---- a compute is not started while its checkpoint is not in the bucket ----
$session->close;
$c->stop;
$store->stop;
$store->start;
set_conf('wait_timeout', '1s');
$c = $store->start_compute('main', name => 'last');
$c->sql('INSERT INTO t VALUES (400, 0)');
rename $bucket, "$bucket.away" or die "rename: $!";
$c->kill9;
my ($none, $err) = $store->start_compute('main', name => 'refused', may_fail => 1);
like($err, qr/object storage has WAL up to .* only, after waiting 1000 ms|the change is not in object storage yet/, 'a compute is not started during an outage');
rename "$bucket.away", $bucket or die "rename: $!";
set_conf('wait_timeout', '60s');
$c = $store->start_compute('main', name => 'started');
$c->sql_is('SELECT count(*) FROM t WHERE client = 400', 1, 'and afterwards it is');

# ---- a store that is started during an outage, without remote_require_ownership, uploads when it has claimed its tenant ----
set_conf('remote_require_ownership', 'off');
$store->stop;
chmod 0500, $bucket;
$store->start;
$c->sql('INSERT INTO t VALUES (401, 0)');
isnt(branch()->{bucket_lsn}, branch()->{flushed_lsn}, 'WAL is not uploaded without a claim');
chmod 0700, $bucket;
PageserverTest::wait_until(sub { my $b = branch(); ($b->{bucket_lsn} // '') eq $b->{flushed_lsn} }, 'WAL to be uploaded after the claim');
$c->sql('INSERT INTO t VALUES (402, 0)');
PageserverTest::wait_until(sub { my $b = branch(); $b->{bucket_lsn} eq $b->{flushed_lsn} }, 'the next WAL to be uploaded');
lose_wal();
$store->start;
$c->sql_is('SELECT count(*) FROM t WHERE client >= 400', 3, 'and it comes back');
$c->stop;

done_testing();
