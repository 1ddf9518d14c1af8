# wal_acknowledge = directory: what was acknowledged is in a second directory until it is in object storage, and comes
# from there when the store has lost its WAL.
use strict;
use warnings;
use JSON::PP;
use PageserverTest;
use Test::More;

my $dir = PageserverTest::test_dir();
my ($bucket, $copies) = ("$dir/bucket", "$dir/copies");
mkdir $_ or die "mkdir: $!" for $bucket, $copies;
my $store = PageserverTest->new_store('main', conf => "remote_storage = 'file://$bucket'\nwal_acknowledge = directory\nwal_copy_directory = '$copies'\nwal_upload_interval = 1h\n");

sub branch { return decode_json(($store->ctl('branch', 'list', '--json'))[1])->[0]; }

$store->ctl_ok('a branch', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "autovacuum = off\n");
$c->sql('CREATE EXTENSION pageserver_smgr; CREATE TABLE t (i int)');
my $rows = 0;
for my $round (1 .. 3)
{
	$c->sql("INSERT INTO t SELECT generate_series(1, 1000)") for 1 .. 5;
	$rows += 5000;
	cmp_ok(branch()->{bucket_lag_bytes}, '>', 100000, "round $round: WAL is not in the bucket");
	$store->kill9;
	$c->kill9;
	my ($timeline) = glob "$store->{dir}/tenants/*/timelines/*";
	system('rm', '-r', "$timeline/wal", "$timeline/flushed") == 0 or die "rm failed";
	$store->start;
	$c = $store->start_compute('main', name => "after_$round", conf => "autovacuum = off\n");
	$c->sql_is('SELECT count(*) FROM t', $rows, "round $round: nothing that was acknowledged is missing");
}
like($store->log_content, qr/branch "main": restored WAL from .* from its copy/, 'WAL came from the copy');

# what is in the bucket is removed from the copy, except a segment
my $segments = sub { return scalar(my @list = glob "$copies/*/*/0*") };
for (1 .. 4)
{
	$c->sql('INSERT INTO t VALUES (0); SELECT pg_switch_wal()');
	$rows++;
}
cmp_ok($c->sql("SELECT pg_current_wal_lsn() - '0/0'"), '>', 64 * 1024 * 1024, 'several segments were written');
$c->stop;
$c = $store->start_compute('main', name => 'last'); # uploads all
for (1 .. 2)
{
	$c->sql('INSERT INTO t VALUES (0)');
	$rows++;
}
PageserverTest::wait_until(sub { $segments->() <= 3 }, 'segments to be removed from the copy');
$c->sql_is('SELECT count(*) FROM t', $rows, 'all rows are there');
$c->stop;

# settings that do not fit
$store->stop;
my $conf = "$store->{dir}/pageserver.conf";
my $text = PostgreSQL::Test::Utils::slurp_file($conf);
$text =~ s/^wal_copy_directory = .*\n//mg;
open my $f, '>', $conf or die "$conf: $!";
print $f $text;
close $f;
$store->ctl_fails_like(qr/"wal_acknowledge" is "directory", but "wal_copy_directory" is empty/, 'without wal_copy_directory', 'start', '-D', $store->dir);

done_testing();
