# What a tenant has is uploaded: at the end of each part the newest entry of its log in the bucket, and the files that
# the entry names, are what the store has.
use strict;
use warnings;
use Bucket;
use JSON::PP ();
use Manifest;
use PageserverTest;
use Test::More;

my $dir = PageserverTest::test_dir();
my $bucket = "$dir/bucket";
mkdir $bucket or die "mkdir: $!";
my $settings = "checkpoint_distance = 1MB\ncompaction_threshold = 2\ntarget_file_size = 1MB\n";
my $store = PageserverTest->new_store('main', conf => $settings);

sub rows
{
	my ($command) = @_;
	my %rows = map { my @f = split /\|/, $_, -1; ($f[0] => \@f) } split /\n/, ($store->command($command))[1];
	return \%rows;
}
sub status { return rows('status')->{ $_[0] }[1]; }

# Waits until all is uploaded, and compares.
sub uploaded
{
	my ($tenant, $what) = @_;
	my $differ;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	# the store may change something just now
	eval {
		PageserverTest::wait_until(
			sub {
				return 0 unless status('upload_files') eq '0' && status('object_storage_error') eq '';
				$differ = eval { Bucket::compare($bucket, "$store->{dir}/tenants/$tenant") } // "$@";
				return $differ eq '';
			},
			'the upload');
	};
	is($differ, '', $what) or diag($store->log_tail);
}

# ---- a store that has had no object storage gets one ----
$store->ctl_ok('a branch', 'branch', 'create', 'main');
my ($tenant) = map { m{([^/]+)$} } glob "$store->{dir}/tenants/*";
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t AS SELECT i, md5(i::text) m FROM generate_series(1, 20000) i');
$store->ctl_ok('a child', 'branch', 'create', 'child', '--from', 'main');
$store->ctl_ok('another', 'branch', 'create', 'old', '--from', 'main');
$store->ctl_ok('is deleted', 'branch', 'delete', 'old');
$store->ctl_ok('protect', 'branch', 'protect', 'child');
$store->stop;
$store->append_conf("remote_storage = 'file://$bucket'\nremote_check_interval = 1s\nremote_delete_delay = 0\n");
$store->start;
uploaded($tenant, 'all that there was is uploaded');

# ---- changes: WAL, merges, branches, names ----
$c->sql('UPDATE t SET m = md5(m)') for 1 .. 3;
uploaded($tenant, 'changes are uploaded');
my $main = Manifest::directory($store, 'main');
my ($timeline) = $main =~ m{([^/]+)$};
is(status('object_storage'), "file://$bucket", 'status names the object storage');
my ($row) = grep { $_->{name} eq 'main' } @{ JSON::PP::decode_json($store->ctl_ok('branch list', 'branch', 'list', '--json')) };
is($row->{remote_consistent_lsn}, Manifest::state($main)->{disk_consistent_lsn}, 'branch list has the LSN up to which it is uploaded');

# The log says from where on WAL is needed besides these files.
my ($with_wal) = grep { $_->{name} eq 'main' } values %{ Bucket::state($bucket, $tenant) };
is($with_wal->{wal}{lsn}, $with_wal->{disk_consistent_lsn}, 'the log says from which LSN on WAL is needed');
cmp_ok($with_wal->{wal}{chain}, '>', 0, 'and from which object on');

# Branches are in the bucket when the command ends.
sub there { my ($name) = @_; return grep { $_->{name} eq $name } values %{ Bucket::state($bucket, $tenant) }; }
$store->ctl_ok('a new branch', 'branch', 'create', 'new', '--from', 'main');
is(scalar(there('new')), 1, 'is in the bucket');
my ($new_id) = Manifest::directory($store, 'new') =~ m{([^/]+)$};
$store->ctl_ok('is deleted', 'branch', 'delete', 'new');
ok((there('new'))[0]{deleted}[1], 'which the bucket knows');
$store->ctl_ok('undeleted', 'branch', 'undelete', 'new');
$store->ctl_ok('renamed', 'branch', 'rename', 'new', 'new2');
$store->ctl_ok('protected', 'branch', 'protect', 'new2');
uploaded($tenant, 'names and marks are uploaded');
$store->ctl_ok('unprotected', 'branch', 'unprotect', 'new2');
my $new_files = "$bucket/t/$tenant/l/$new_id";
ok(-d $new_files, 'the files of the branch are in the bucket');
$store->ctl_ok('and removed', 'branch', 'delete', 'new2', '--purge');
is(scalar(there('new2')), 0, 'it is not in the bucket any more');
PageserverTest::wait_until(sub { !-e $new_files }, 'its files to be deleted');
$c->sql('INSERT INTO t VALUES (0)');
$c->stop;
$c = $store->start_compute('main');
my ($generation) = $store->ctl_ok('branch list', 'branch', 'list', '--json') =~ /"name": "main".*?"generation": (\d+)/s;
is((there('main'))[0]{generation}, $generation, 'the generation of a compute is in the bucket when it starts');
$store->ctl_ok('reset', 'branch', 'reset', 'child', '--force');
uploaded($tenant, 'a branch that replaces another is uploaded');

# ---- kills beside uploads and merges ----
for my $round (1 .. 3)
{
	$c->sql("UPDATE t SET m = md5(m || $round)");
	$store->kill9;
	$store->start;
}
$c->sql_is('SELECT count(*) FROM t', 20001, 'all rows are there');
uploaded($tenant, 'all is uploaded after kills');

# ---- the bucket does not accept anything ----
my @all = ($bucket, glob("$bucket/t/*/l/*"), glob("$bucket/t/*/m"), "$bucket/.tmp");
chmod 0500, $_ for @all;
$c->sql('UPDATE t SET m = md5(m)') for 1 .. 3;
PageserverTest::wait_until(sub { status('upload_files') > 0 && status('object_storage_error') ne '' }, 'status to show it');
like(status('object_storage_error'), qr/\Q$bucket\E.*Permission denied/, 'the error is shown');
like($store->ctl_ok('tenant list', 'tenant', 'list'), qr/Permission denied/, 'also by tenant list');
$c->sql_is('SELECT count(*) FROM t', 20001, 'reads and writes go on');
$store->append_conf("wait_timeout = 2s\n");
$store->ctl_ok('reload', 'reload');
my ($rc, $out, $err) = $store->start_compute('child', ok => 0);
isnt($rc, 0, 'a compute does not start before its generation is in the bucket');
like($err, qr/(the change is not in object storage yet|object storage has WAL up to .* only).*Permission denied/s, 'it says so');
$store->append_conf("wait_timeout = 60s\n");
$store->ctl_ok('reload', 'reload');
chmod 0700, $_ for @all;
uploaded($tenant, 'all is uploaded later');
like($store->log_content, qr/could not upload, will try again.*uploading again/s, 'the log has both');

# ---- an older copy of the directory ----
$c->stop;
$store->stop;
system('cp', '-a', "$store->{dir}/tenants", "$dir/saved") == 0 or die "cp failed";
$store->start;
$c = $store->start_compute('main');
$c->sql('UPDATE t SET m = md5(m)') for 1 .. 2;
uploaded($tenant, 'the store goes on');
$c->stop;
$store->stop;
# only the claims are newer: as on a disk of which a snapshot was taken while the store ran
system('cp', '-a', "$store->{dir}/tenants/$tenant/remote.json", "$dir/saved/$tenant/remote.json") == 0 or die "cp failed";
rename "$store->{dir}/tenants", "$dir/newer" or die "rename: $!";
rename "$dir/saved", "$store->{dir}/tenants" or die "rename: $!";
$store->start;
like($store->ctl_ok('tenant list', 'tenant', 'list'), qr/refused .*has a newer state of tenant $tenant/, 'an old copy of the directory is refused');
($rc, $out, $err) = $store->start_compute('main', ok => 0);
like($err, qr/has a newer state.*restored from a copy/s, 'a compute is told');
$store->stop;
rename "$store->{dir}/tenants", "$dir/saved" or die "rename: $!";
rename "$dir/newer", "$store->{dir}/tenants" or die "rename: $!";
system('cp', '-a', "$dir/saved/$tenant/remote.json", "$store->{dir}/tenants/$tenant/remote.json") == 0 or die "cp failed";
$store->start;
uploaded($tenant, 'the newer one is accepted');

# ---- a timeline that was removed while the store was killed before it could tell ----
$store->ctl_ok('a branch', 'branch', 'create', 'gone', '--from', 'main');
my $gone = Manifest::directory($store, 'gone');
chmod 0500, "$bucket/t/$tenant/m";
my $pid = fork() // die "fork: $!";
if ($pid == 0) { $store->ctl('branch', 'delete', 'gone', '--purge'); require POSIX; POSIX::_exit(0); }
PageserverTest::wait_until(sub { !-e $gone }, 'the directory to be moved away');
$store->kill9;
waitpid $pid, 0;
chmod 0700, "$bucket/t/$tenant/m";
is(scalar(there('gone')), 1, 'the bucket does not know yet');
$store->start;
uploaded($tenant, 'a removed branch is removed from the bucket after a kill');
$store->stop;
unlike($store->log_content, qr/PANIC|upkeep of layer files failed|cannot be uploaded/, 'the log');
done_testing();
