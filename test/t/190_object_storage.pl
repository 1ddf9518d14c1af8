# The object storage of a store: it is checked at the start, and refused if it cannot be used.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $dir = PageserverTest::test_dir();
my $store = PageserverTest->new_store('main');
$store->ctl_ok('a branch', 'branch', 'create', 'main');

# ---- a directory ----
my $bucket = "$dir/bucket";
my $conf = "$store->{dir}/pageserver.conf";
my $basic = PostgreSQL::Test::Utils::slurp_file($conf);

sub write_conf
{
	my ($text) = @_;
	open my $f, '>', $conf or die "$conf: $!";
	print $f $basic . $text;
	close $f;
}

sub bucket_id
{
	my ($id) = PostgreSQL::Test::Utils::slurp_file("$bucket/format") =~ /"id":\s*"([0-9a-f]{32})"/;
	return $id;
}

$store->stop;
write_conf("remote_storage = 'file://$bucket'\n");
$store->ctl_fails_like(qr/\Q$bucket\E/, 'a directory that does not exist', 'start', '-D', $store->dir, '-l', $store->{log});
mkdir $bucket or die "mkdir: $!";
mkdir "$bucket/folder" or die "mkdir: $!";
open my $f, '>', "$bucket/folder/file" or die "open: $!";
close $f;
$store->ctl_fails_like(qr/has an object "folder\/", but no object "format"/, 'a directory with other files', 'start', '-D', $store->dir, '-l', $store->{log});
ok(!-e "$bucket/format", 'nothing is written there');
unlink "$bucket/folder/file";
rmdir "$bucket/folder";
$store->start;
my $id = bucket_id();
ok(defined $id, 'the format is written');
like($store->log_content, qr/object storage is "file:\/\/\Q$bucket\E" \($id\)/, 'and logged');
is_deeply([ glob "$bucket/probe/*" ], [], 'nothing else is left there');
$store->stop;
$store->start;
is(bucket_id(), $id, 'it is the same after a restart');
$store->stop;

# ---- at the creation of a store ----
my $remote = PageserverTest::test_dir() . '/store_remote';
my ($rc, $out, $err) = $store->ctl('init', '-D', $remote, '--remote', "file://$bucket");
is($rc, 0, 'init --remote') or diag($err);
like(PostgreSQL::Test::Utils::slurp_file("$remote/pageserver.conf"), qr{^remote_storage = 'file://\Q$bucket\E'$}m, 'it becomes a setting');
($rc, $out, $err) = $store->ctl('init', '-D', "$remote.2", '--remote', "ftp://$bucket");
isnt($rc, 0, 'init --remote with an invalid URL');
like($err, qr/remote_storage/, 'and the reason');
ok(!-e "$remote.2", 'nothing is left of it');

# ---- a service that does not answer ----
my $port = PageserverTest::free_port();
open $f, '>', "$dir/keys" or die "open: $!";
print $f "aws_access_key_id = a\naws_secret_access_key = b\n";
close $f;
chmod 0600, "$dir/keys";
write_conf("remote_storage = 's3://bucket/prefix'\nremote_endpoint = 'http://127.0.0.1:$port'\nremote_key_file = '$dir/keys'\nremote_require_ownership = off\n");
$store->start;
like($store->log_content, qr/object storage cannot be reached/, 'the store starts without it');
$store->ctl_ok('branches are served', 'branch', 'create', 'b', '--from', 'main');
$store->stop;

# ---- settings that the service's part refuses ----
write_conf("remote_storage = 's3://bucket'\nremote_sse = 'nonsense'\n");
$store->ctl_fails_like(qr/invalid server-side encryption "nonsense"/, 'an encryption that there is not', 'start', '-D', $store->dir, '-l', $store->{log});

write_conf('');
$store->start;
done_testing();
