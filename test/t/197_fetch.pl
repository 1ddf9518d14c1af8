# Layer files that are not on the store's disk are read from object storage, a real S3 service. Files that are neither here
# nor there are reported.
use strict;
use warnings;
use Bucket;
use Manifest;
use PageserverTest;
use S3Proxy;
use S3Server;
use Test::More;
use TrapTest;

my $s3 = S3Server->new;
$s3->create_bucket('bucket');
my $proxy = S3Proxy->new($s3);
my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 1MB\ncompaction_threshold = 2\ntarget_file_size = 1MB\n" . $proxy->conf('bucket'));
$store->ctl_ok('a branch', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "shared_buffers = 1MB\n");
$c->sql('CREATE EXTENSION pageserver_smgr');
$c->sql('CREATE TABLE t AS SELECT i, md5(i::text) m FROM generate_series(1, 50000) i');
$c->sql('CREATE INDEX ON t (m)');
$c->sql('UPDATE t SET m = md5(m)') for 1 .. 2;
my $sum = $c->sql('SELECT md5(string_agg(m, NULL ORDER BY i)) FROM t');
$store->ctl_ok('a child', 'branch', 'create', 'child', '--from', 'main');

sub status { return ($store->command('status'))[1] =~ /^$_[0]\|(.*)$/m ? $1 : undef; }
sub wait_uploaded
{
	PageserverTest::wait_until(sub { status('upload_files') eq '0' && status('object_storage_error') eq '' }, 'the upload');
}
$c->stop;
$store->ctl_ok('compact', 'branch', 'compact', 'main');
wait_uploaded();
$store->ctl_ok('check', 'remote', 'check', '--read');

# ---- all files are lost ----
my $dir = Manifest::directory($store, 'main');
$store->stop;
my @files = glob "$dir/layers/*";
cmp_ok(scalar(@files), '>', 5, 'there are files');
my %size = map { $_ => -s $_ } @files;
unlink @files;
$proxy->forget;
$store->start;
$c = $store->start_compute('main', conf => "shared_buffers = 1MB\n");
sub layer_requests { return scalar(grep { $_->{method} eq 'GET' && $_->{path} =~ m{/l/} } $proxy->requests); }
note('a compute has started with ' . layer_requests() . ' requests for layer files');
$c->sql_is('SELECT md5(string_agg(m, NULL ORDER BY i)) FROM t', $sum, 'all rows are read from object storage');
unlike($store->log_content, qr/layer files are missing/, 'no file counts as missing');
my @parts = glob "$dir/layers/*.part";
cmp_ok(scalar(@parts), '>', 0, 'what was fetched is in part files');
my $all = layer_requests();
$c->sql('SELECT pageserver_smgr_clear_cache()');
$proxy->forget;
$c->sql_is('SELECT md5(string_agg(m, NULL ORDER BY i)) FROM t', $sum, 'again');
# upkeep may read something just now
cmp_ok(layer_requests(), '<', $all / 3, 'what is here is not fetched again');
my $child = $store->start_compute('child');
$child->sql_is('SELECT md5(string_agg(m, NULL ORDER BY i)) FROM t', $sum, 'a child branch reads them, too');
$child->stop;
$store->ctl_ok('verify', 'verify', '--all');

# ---- an outage: queries wait, and continue ----
$c->stop;
$store->kill9;
unlink glob "$dir/layers/*";
$store->start;
$c = $store->start_compute('main', conf => "shared_buffers = 1MB\n");
my $session = TrapTest::session($c);
$proxy->set({ fault => 'status', code => 503 });
$session->send('SELECT count(*), max(m) IS NOT NULL FROM t');
PageserverTest::wait_until(sub { (grep { $_->{status} == 503 } $proxy->requests) > 3 }, 'requests to fail');
ok(!$session->done, 'a query waits during an outage');
$proxy->set;
is($session->result, '50000|t', 'and continues afterwards');
$session->close;

# ---- work goes on: merges of files that are not here ----
$c->sql('UPDATE t SET m = md5(m)') for 1 .. 2;
$sum = $c->sql('SELECT md5(string_agg(m, NULL ORDER BY i)) FROM t');
$store->ctl_ok('compact', 'branch', 'compact', 'main');
$c->sql('SELECT pageserver_smgr_clear_cache()');
$c->sql_is('SELECT md5(string_agg(m, NULL ORDER BY i)) FROM t', $sum, 'rows are right after merges');
wait_uploaded();
$store->ctl_ok('check', 'remote', 'check', '--read');

# ---- a file that is neither here nor there ----
$c->stop;
$proxy->set({ method => 'PUT', key => '/l/', fault => 'status', code => 503 });
$c = $store->start_compute('main');
$c->sql('CREATE TABLE u AS SELECT generate_series(1, 100000) i');
$c->stop;
PageserverTest::wait_until(sub { status('upload_files') > 0 }, 'a file that cannot be uploaded');
$store->stop('immediate');
my %named = map { ((split ' ')[0] => 1) } @{ Manifest::state($dir)->{layers} };
my ($lost) = sort { (stat $b)[9] <=> (stat $a)[9] } grep { !/part$/ && $named{ (m{([^/]+)$})[0] } && !$size{$_} } glob "$dir/layers/*";
unlink $lost or die "unlink: $!";
$store->start;
($store->command("branch_compact main"));
like($store->log_content, qr/layer files are missing, the first is/, 'a file that is neither here nor there is reported');
$store->stop;
done_testing();
