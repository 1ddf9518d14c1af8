# A tenant in object storage is attached to a store that has nothing of it: its machine is lost, or it was moved.
use strict;
use warnings;
use Bucket;
use Manifest;
use PageserverTest;
use Test::More;
use TrapTest;

my $dir = PageserverTest::test_dir();
my $bucket = "$dir/bucket";
mkdir $bucket or die "mkdir: $!";
my $conf = "remote_storage = 'file://$bucket'\nremote_check_interval = 1s\ncheckpoint_distance = 1MB\nwal_acknowledge = bucket\n";
my $a = PageserverTest->new_store('a', conf => $conf);

sub tenants
{
	my ($store) = @_;
	my %rows;
	for my $line (split /\n/, ($store->command('tenant_list'))[1])
	{
		my %row;
		@row{qw(id sysid state branches name deleted left by generation error)} = split /\|/, $line, -1;
		$rows{ $row{id} } = \%row;
	}
	return \%rows;
}
sub state_of { my ($store, $id) = @_; return (tenants($store)->{$id} // {})->{state} // ''; }
sub status { my ($store, $name) = @_; return ($store->command('status'))[1] =~ /^\Q$name\E\|(.*)$/m ? $1 : undef; }
sub uploaded
{
	my ($store) = @_;
	PageserverTest::wait_until(sub { status($store, 'upload_files') eq '0' && status($store, 'object_storage_error') eq '' }, 'the upload');
}
sub sum { return $_[0]->sql('SELECT md5(string_agg(m, NULL ORDER BY i)) FROM t'); }

# ---- the first store: branches, one of them deleted, and a tenant of another store with the same name ----
$a->ctl_ok('a branch', 'branch', 'create', 'main');
my ($id) = keys %{ tenants($a) };
my $c = $a->start_compute('main');
$c->sql('CREATE TABLE t AS SELECT i, md5(i::text) m FROM generate_series(1, 20000) i');
my $old = sum($c);
$a->ctl_ok('a child', 'branch', 'create', 'child', '--from', 'main');
$a->ctl_ok('is protected', 'branch', 'protect', 'child');
$a->ctl_ok('another', 'branch', 'create', 'trash', '--from', 'main');
$a->ctl_ok('is deleted', 'branch', 'delete', 'trash');
my $child = $a->start_compute('child');
$child->sql('DELETE FROM t WHERE i > 100');
my $child_sum = sum($child);
$c->sql('UPDATE t SET m = md5(m)') for 1 .. 2;
$c->sql('INSERT INTO t VALUES (0, $$last$$)');
my $sum = sum($c);
my $b = PageserverTest->new_store('b', conf => $conf);
$b->ctl_ok('a branch of the same name', 'branch', 'create', 'child');
$b->ctl_fails_like(qr/belongs to store "\Q$a->{dir}\E" on host "[^"]+".*has the tenant since .* UTC; the last change .* UTC.*tenant attach --force $id/s,
	'a tenant that another store serves is not attached', 'tenant', 'attach', $id);
is(state_of($a, $id), 'attached', 'the other store keeps it');

# ---- its machine is lost ----
my @claims = glob "$bucket/t/$id/own/*";
$a->kill9;
$c->kill9;
$child->kill9;
rename $a->dir, "$dir/lost" or die "rename: $!";
$b->ctl_fails_like(qr/tenant $id has a branch "child", as tenant [0-9a-f]+ has.*branch rename child/s, 'a name that is in use here', 'tenant', 'attach', $id, '--force');
is(scalar(my @now = glob "$bucket/t/$id/own/*"), scalar(@claims), 'is refused before the claim');
$b->ctl_ok('rename', 'branch', 'rename', 'child', 'own');
$b->ctl_fails_like(qr/there is no tenant 0{32}, neither in .* nor in "file:/s, 'an unknown tenant', 'tenant', 'attach', '0' x 32, '--force');
is(scalar(@now = glob "$b->{dir}/tmp/attach*"), 0, 'nothing is left behind');
$b->ctl_ok('by force it is attached', 'tenant', 'attach', $id, '--force');
is(state_of($b, $id), 'attached', 'the list shows it');
$b->ctl_fails_like(qr/is attached already/, 'a second attach is refused', 'tenant', 'attach', $id, '--force');
is(scalar(@now = glob "$b->{dir}/tenants/$id/timelines/*/layers/*"), 0, 'no layer file is here');
like($b->ctl_ok('branch list', 'branch', 'list'), qr/^main .*\n^ *child /m, 'all branches are there');
$b->ctl_fails_like(qr/protected/, 'one is protected', 'branch', 'delete', 'child');
like($b->ctl_ok('deleted ones', 'branch', 'list', '--deleted'), qr/^trash /m, 'one is in the trash');
$c = $b->start_compute('main');
is(sum($c), $sum, 'all rows are there');
my $lsn = $c->sql('SELECT pg_current_wal_insert_lsn()');
$c->sql('INSERT INTO t VALUES (-1, $$new$$)');
$b->ctl_ok('a branch at an LSN after the attach', 'branch', 'create', 'past', '--from', "main\@$lsn");
my $past = $b->start_compute('past');
is(sum($past), $sum, 'has the rows of that time');
$past->stop;
$child = $b->start_compute('child');
is(sum($child), $child_sum, 'so has the child');
$child->stop;
$b->ctl_ok('undelete', 'branch', 'undelete', 'trash');
my $trash = $b->start_compute('trash');
is(sum($trash), $old, 'and the one from the trash');
$trash->stop;
uploaded($b);
$b->ctl_ok('verify', 'verify', '--all');
$b->ctl_ok('remote check', 'remote', 'check', '--read');

# the lost machine comes back
rename "$dir/lost", $a->dir or die "rename: $!";
$a->start;
is(state_of($a, $id), 'fenced', 'the first store comes back, and does not serve it');
$a->ctl_ok('detach there', 'tenant', 'detach', $id);
$a->ctl_fails_like(qr/has taken over tenant/, 'attach does not bring back the old state', 'tenant', 'attach', $id, '--force');
$a->stop;

# ---- an attach that fails on its way leaves nothing ----
$c->stop;
uploaded($b);
$b->kill9;
my $d = PageserverTest->new_store('d', conf => $conf);
for my $part ([ 'm', 'at its entry of the log' ], [ 'own', 'at its claim' ])
{
	my ($sub, $when) = @$part;
	chmod 0500, "$bucket/t/$id/$sub";
	$d->ctl_fails_like(qr/Permission denied/, "an attach that fails $when", 'tenant', 'attach', $id, '--force');
	chmod 0700, "$bucket/t/$id/$sub";
	ok(!-e "$d->{dir}/tmp/attach-$id" && !-e "$d->{dir}/tenants/$id", 'the store has nothing of the tenant');
}
$d->ctl_ok('then it can be attached', 'tenant', 'attach', $id, '--force');
$c = $d->start_compute('main');
$c->sql_is('SELECT count(*) FROM t', 20002, 'with all rows');
$c->stop;

# ---- a branch that was never opened here is not opened without object storage ----
uploaded($d);
$d->append_conf("remote_require_ownership = off\nwait_timeout = 2s\n");
$d->stop;
chmod 0500, $bucket;
$d->start;
my ($rc, $out, $err) = $d->start_compute('past', ok => 0);
like($err, qr/waits for object storage/, 'a branch whose WAL is not here waits');
chmod 0700, $bucket;
PageserverTest::wait_until(sub { tenants($d)->{$id}{error} eq '' }, 'the claim');
$past = $d->start_compute('past', name => 'later');
is(sum($past), $sum, 'and is opened later');
$past->stop;
$d->stop;
unlike($_->log_content, qr/PANIC|upkeep of layer files failed|layer files are missing/, "log of $_->{name}") for $a, $b, $d;
done_testing();
