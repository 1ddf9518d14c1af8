# A store on a real S3 service: all operations on objects, also with a service that fails, and buckets that cannot
# be used.
use strict;
use warnings;
use PageserverTest;
use S3Proxy;
use S3Server;
use Test::More;

my $dir = PageserverTest::test_dir();
my $objectcheck = "$ENV{PAGESERVER_TOP}/test/unit/objectcheck";
die "$objectcheck is missing: run \"make -C test/unit\"" unless -x $objectcheck;

my $s3 = S3Server->new;
$s3->create_bucket('bucket');

# ---- operations ----
sub check_objects
{
	my ($what, @args) = @_;
	my $out = '';
	local $ENV{TMPDIR} = $dir;
	my $ok = IPC::Run::run([ $objectcheck, @args ], '<', \undef, '>&', \$out);
	ok($ok, $what) or diag($out);
}

check_objects('operations', 's3://bucket/check', $s3->endpoint, $s3->key_file);

my $proxy = S3Proxy->new($s3);
my @faults = (
	{ fault => 'lost', p => 0.05 },
	{ fault => 'reset', p => 0.05 },
	{ fault => 'late', p => 0.02, seconds => 0.3 },
	{ fault => 'dup', p => 0.05 },
	{ fault => 'cut', p => 0.05 },
	{ fault => 'cut_put', p => 0.05, method => 'PUT' },
	{ fault => 'status', p => 0.05 },
	{ fault => 'status', p => 0.05, code => 500, s3code => '' },
	{ fault => 'error200', p => 0.3, method => 'POST', s3code => 'InternalError' });
for my $fault ($ENV{PAGESERVER_LONG} ? map { [$_] } @faults : \@faults)
{
	my $what = join ', ', map { $_->{fault} . ($_->{code} ? " $_->{code}" : '') } @$fault;
	$proxy->set(map { { %$_, $ENV{PAGESERVER_LONG} ? () : (p => $_->{p} / 5) } } @$fault);
	check_objects("operations with faults: $what", 's3://bucket/' . ($what =~ s/\W+/-/gr), $proxy->endpoint, $s3->key_file);
}
# most come by chance, and some of them seldom
my %seen = map { $_->{fault} => 1 } $proxy->requests;
delete $seen{''};
cmp_ok(scalar(keys %seen), '>=', $ENV{PAGESERVER_LONG} ? 8 : 4, 'faults happened: ' . join(' ', sort keys %seen));

# ---- the start of a store ----
my $store = PageserverTest->new_store('main', start => 0);
my $conf = "$store->{dir}/pageserver.conf";
my $basic = PostgreSQL::Test::Utils::slurp_file($conf);

sub write_conf
{
	my ($text) = @_;
	open my $f, '>', $conf or die "$conf: $!";
	print $f $basic . $text;
	close $f;
}

sub start_fails_like
{
	my ($pattern, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$store->ctl_fails_like($pattern, $what, 'start', '-D', $store->dir, '-l', $store->{log});
}

write_conf($s3->conf('bucket', 'a/prefix'));
$store->start;
is_deeply([ $s3->keys('bucket', 'a/') ], ['a/prefix/format'], 'a start writes the format, and nothing else');
$store->ctl_ok('a branch', 'branch', 'create', 'main');
$store->stop;
$store->start;
$store->stop;

# ---- buckets that cannot be used ----
write_conf($s3->conf('no-such-bucket'));
start_fails_like(qr/no-such-bucket.*(NoSuchBucket|does not exist)/s, 'a bucket that does not exist');

$s3->create_bucket('versioned');
my ($status) = $s3->request('PUT', '/versioned', 'versioning=',
	'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>');
is($status, 200, 'versions are switched on');
write_conf($s3->conf('versioned'));
start_fails_like(qr/versioned.*If-None-Match/s, 'a bucket with versions');
is_deeply([ grep { !m{^probe/} } $s3->keys('versioned') ], [], 'nothing is written there but the probe');

$s3->create_bucket('foreign');
$s3->request('PUT', '/foreign/some/file', '', 'x');
write_conf($s3->conf('foreign'));
start_fails_like(qr/has an object .*some.*, but no object "format"/s, "a bucket with somebody else's objects");
is_deeply([ $s3->keys('foreign') ], ['some/file'], 'nothing is written there');

write_conf($s3->conf('bucket', 'a/prefix') =~ s/^remote_key_file.*\n//mr . "remote_key_file = '$dir/wrong'\n");
open my $f, '>', "$dir/wrong" or die "open: $!";
print $f "aws_access_key_id = test\naws_secret_access_key = wrong\n";
close $f;
chmod 0600, "$dir/wrong";
start_fails_like(qr/SignatureDoesNotMatch/, 'a wrong key');

write_conf('');
done_testing();
