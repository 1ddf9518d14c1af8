# pageserver_ctl verify reads and checks all files of a running store, including those in the trash.
# Damage that it or a reader has found is shown in the list of branches until it is repaired.
use strict;
use warnings;
use JSON::PP;
use PageserverTest;
use Test::More;

my $settings = "checkpoint_distance = 1MB\ncompaction_threshold = 2\ncompaction_workers = 0\ntarget_file_size = 1MB\npage_cache_size = 0\nidle_timeline_timeout = 1s\ncheckpoint_timeout = 1s\n";
my $store = PageserverTest->new_store('main', conf => $settings);
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "shared_buffers = 512kB\npageserver_smgr.cache_size = 1MB\nautovacuum = off\n");
$c->sql("CREATE TABLE t AS SELECT i, md5(i::text) v FROM generate_series(1, 60000) i");
$store->ctl_ok('a branch', 'branch', 'create', 'child', '--from', 'main');
$c->stop;
$store->ctl_ok('compact', 'branch', 'compact', 'main');

sub error_of
{
	my ($branch) = @_;
	return (map { (split /\|/, $_, -1)[18] } grep { /^$branch\|/ } split /\n/, ($store->command('branch_list'))[1])[0];
}

my $out = $store->ctl_ok('verify', 'verify', 'main');
like($out, qr/^Branch "main": \d+ files \(\d+ MB\), no damage found\.$/, 'verify finds no damage');
$out = $store->ctl_ok('verify --all', 'verify', '--all', '--json', '--rate=1000');
like($out, qr/"branch": "$_",\s+"file": "timeline.log"/, "JSON has the manifest of $_") for qw(main child);
like($out, qr{"file": "layers/\w+-\w+__\w+},  'JSON has the layer files');
like($out, qr{"branch": "child",\s+"file": "wal",\s+"bytes": \d+,\s+"error": ""}, 'the WAL');
$store->ctl_fails_like(qr/no branch specified/, 'without a branch', 'verify');
$store->ctl_fails_like(qr/there is no branch "nobody"|branch "nobody"/, 'an unknown branch', 'verify', 'nobody');

# Changes bytes of values in the largest file, without the store's knowledge.
my ($id) = map { (split /\|/)[2] } grep { /^main\|/ } split /\n/, ($store->command('branch_list'))[1];
my ($dir) = glob "$store->{dir}/tenants/*/timelines/$id";
my ($file) = sort { -s $b <=> -s $a } glob "$dir/layers/*";

sub flip
{
	my ($name, @offsets) = @_;
	open my $f, '+<', $name or die "$name: $!";
	for my $offset (@offsets)
	{
		seek $f, $offset, 0;
		read $f, my $byte, 1;
		seek $f, $offset, 0;
		print $f chr(ord($byte) ^ 0xff);
	}
	close $f or die "$name: $!";
}
my @places = map { int((-s $file) / 4) + $_ * 4096 } 0 .. 20;
my ($name) = $file =~ m{([^/]+)$};
flip($file, @places);
is(error_of('main'), '', 'the list of branches shows no damage before it is found');
$store->ctl_fails_like(qr/branch "main": layer file "[^"]*\Q$name\E" is damaged at offset \d+/, 'verify names the file and the place', 'verify', 'main');
like(error_of('main'), qr/layer file "[^"]*\Q$name\E" is damaged/, 'the list of branches shows the damage');
PageserverTest::wait_until(sub { (map { (split /\|/, $_, -1)[19] } grep { /^main\|/ } split /\n/, ($store->command('branch_list'))[1])[0] eq 'f' }, 'the branch to be closed');
like(error_of('main'), qr/layer file "[^"]*\Q$name\E" is damaged/, 'the list of branches shows the damage when the branch is closed');
my (undef, $json) = $store->ctl('verify', 'main', '--json');
is(() = $json =~ /"error": "[^"]/g, 1, 'JSON has one damaged file');
flip($file, @places);
$store->ctl_ok('verify after the repair', 'verify', 'main');
is(error_of('main'), '', 'the list of branches shows no damage after the repair');

# damage that a reader finds, in any file that it needs
sub flip_all
{
	for my $large (grep { -s > 200_000 } glob "$dir/layers/*")
	{
		flip($large, map { 50_000 + $_ * 4096 } 0 .. 20);
	}
}
flip_all();
$store->kill9;
$store->start;
my ($rc, undef, $err) = $store->ctl('export', 'main', '-D', PageserverTest::test_dir() . '/exported');
isnt($rc, 0, 'a reader finds the damage');
like(error_of('main'), qr/layer file "[^"]+" (is|and others are) damaged/, 'the list of branches shows the damage that a reader found');
flip_all();
$store->ctl_ok('verify', 'verify', 'main');
is(error_of('main'), '', 'the list of branches shows no damage when that is repaired');

# a missing file
rename $file, "$file.away" or die;
$store->ctl_fails_like(qr/could not open .*\Q$name\E/, 'a file is missing', 'verify', 'main');
like(error_of('main'), qr/\Q$name\E" (is damaged|.*No such file)/, 'the list of branches shows the missing file');
rename "$file.away", $file or die;
$store->ctl_ok('verify', 'verify', 'main');

# WAL, all of which is in layer files; it may be compressed
my ($wal) = sort glob "$dir/wal/0*";
my @in_wal = $wal =~ /zst$/ ? (int((-s $wal) / 2)) : map { 0x520000 + $_ * 8192 } 0 .. 10;
flip($wal, @in_wal);
$store->ctl_fails_like(qr/branch "main": /, 'damaged WAL', 'verify', 'main');
isnt(error_of('main'), '', 'the list of branches shows the damaged WAL');
flip($wal, @in_wal);
$store->ctl_ok('verify', 'verify', 'main');
is(error_of('main'), '', 'the list of branches shows no damage when the WAL is repaired');

# Branches in the trash are read as well, without being opened; two with the same name can be told apart.
sub rows { my ($json) = @_; return @{ decode_json($json) }; }
for my $i (1, 2)
{
	$store->ctl_ok("twin $i", 'branch', 'create', 'twin', '--from', 'main');
	my $t = $store->start_compute('twin', name => "twin$i");
	$t->sql("CREATE TABLE mine AS SELECT i, md5((i * $i)::text) v FROM generate_series(1, 20000) i");
	$t->stop;
	$store->ctl_ok('compact', 'branch', 'compact', 'twin');
	$store->ctl_ok("delete twin $i", 'branch', 'delete', 'twin');
}
my @twins = map { (split /\|/)[1] } grep { /^twin\|/ } split /\n/, ($store->command('branch_list deleted'))[1];
sub files_of { my ($d) = @_; return { map { ($_ => join ',', (stat $_)[1, 7, 9]) } glob("$d/* $d/*/*") }; }
my ($twin_dir) = glob "$store->{dir}/tenants/*/timelines/$twins[0]";
my $files = files_of($twin_dir);
$out = $store->ctl_ok('verify --all', 'verify', '--all');
like($out, qr/^Deleted branch "twin" \($_\): \d+ files \(\d+ MB\), no damage found\.$/m, 'verify --all reads the trash') for @twins;
is_deeply(files_of($twin_dir), $files, 'verify --all changes nothing in the trash');
(undef, $json) = $store->ctl('verify', '--all', '--json');
is_deeply({ map { ($_->{deleted} => 1) } grep { $_->{branch} eq 'twin' && $_->{file} eq 'wal' && $_->{error} eq '' } rows($json) }, { map { ($_ => 1) } @twins }, 'JSON tells the deleted branches apart');
is_deeply([ grep { $_->{branch} ne 'twin' && defined $_->{deleted} } rows($json) ], [], 'JSON shows which branches are not deleted');
my ($rc0, $o0, $err0) = $store->ctl('verify', 'twin');
is($rc0, 0, 'verify of a deleted branch by its name');
like($err0, qr/the branch is in the trash/, 'verify says that the branch is in the trash');
my ($layer) = sort { -s $b <=> -s $a } glob "$twin_dir/layers/*";
my ($layer_name) = $layer =~ m{([^/]+)$};
my @in_layer = map { int((-s $layer) / 4) + $_ * 4096 } 0 .. 20;
flip($layer, @in_layer);
$store->ctl_fails_like(qr/deleted branch "twin" \($twins[0]\): layer file "[^"]*\Q$layer_name\E" is damaged at offset \d+/, 'a damaged layer file in the trash', 'verify', '--all');
is(($store->ctl('verify', $twins[0]))[0], 9, 'verify by id of a damaged deleted branch: exit code');
is(($store->ctl('verify', $twins[1]))[0], 0, 'verify finds no damage in the other deleted branch');
flip($layer, @in_layer);
rename $layer, "$layer.away" or die;
$store->ctl_fails_like(qr/could not open .*\Q$layer_name\E/, 'a missing layer file in the trash', 'verify', $twins[0]);
rename "$layer.away", $layer or die;
for my $segment (sort glob "$twin_dir/wal/0*")
{
	rename $segment, "$segment.away" or die;
	$store->ctl_fails_like(qr/branch "$twins[0]": .*/, 'missing WAL in the trash', 'verify', $twins[0]);
	rename "$segment.away", $segment or die;
}
# The last record, a shutdown checkpoint, claims to be longer than the WAL that was acknowledged.
my ($newest) = reverse sort glob "$twin_dir/wal/0*";
my $record = rindex(PostgreSQL::Test::Utils::slurp_file($newest), pack('V', 114));
flip($newest, $record + 1);
$store->ctl_fails_like(qr/branch "$twins[0]": WAL .* ends at \S+, but was acknowledged up to/, 'WAL that ends early', 'verify', $twins[0]);
flip($newest, $record + 1);
flip("$twin_dir/timeline.log", 300);
$store->ctl_fails_like(qr/branch "$twins[0]": .*timeline.log/, 'a damaged manifest in the trash', 'verify', $twins[0]);
flip("$twin_dir/timeline.log", 300);
$store->ctl_ok('verify finds no damage after all repairs', 'verify', '--all', '-q');
$store->ctl_ok('undelete', 'branch', 'undelete', $twins[0], 'back');
$store->ctl_ok('verify of the undeleted branch', 'verify', 'back');

# a manifest
flip("$dir/timeline.log", 300);
$store->ctl_fails_like(qr/branch "main": .*timeline.log/, 'a damaged manifest', 'verify', 'main');
flip("$dir/timeline.log", 300);
$store->ctl_ok('verify', 'verify', '--all');
$store->stop;
done_testing();
