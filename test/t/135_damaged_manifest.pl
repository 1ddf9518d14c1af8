# One branch's manifest is damaged. The list shows what is known of the branch; the other branches of its
# cluster are served, cleaned up and deleted as before; the branch can be deleted by the name or id that
# the list shows. If it is not known where the branch begins, the list, the log and the status say what
# that means.
use strict;
use warnings;
use PageserverTest;
use PostgreSQL::Test::Utils ();
use Test::More;

my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 1MB\ncheckpoint_timeout = 2s\npitr_interval = 0\ngc_horizon = 0\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
$store->ctl_ok("branch create $_", 'branch', 'create', $_, '--from', 'main') for qw(named nameless other unrelated);
my %id = map { (split /\|/)[ 0, 2 ] } split /\n/, ($store->command('branch_list'))[1];
my ($timelines) = glob "$store->{dir}/tenants/*/timelines";

sub damage
{
	my ($file) = @_;
	open my $f, '+<:raw', $file or die "$file: $!";
	seek $f, 200, 0;
	read $f, my $byte, 1;
	seek $f, 200, 0;
	print $f chr(ord($byte) ^ 1);
	close $f;
}

sub status_of
{
	my ($what) = @_;
	my ($rc, $out) = $store->command('status');
	return $out =~ /^$what\|(.*)$/m ? $1 : undef;
}

# The oldest readable LSN of main advances as it is written to.
sub garbage_goes
{
	my ($c) = @_;
	my $oldest = sub { (split /\|/, (grep { /^main\|/ } split /\n/, ($store->command('branch_list'))[1])[0])[17] };
	my $before = $oldest->();
	my $i = 0;
	PageserverTest::wait_until(sub {
		$c->sql('UPDATE t SET v = v || $$x$$') if $i++ % 20 == 0;
		return $oldest->() ne $before;
	}, 'history that nobody needs to be removed');
	pass('history that nobody needs is removed');
}

my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t AS SELECT i, md5(i::text) v FROM generate_series(1, 2000) i');
$c->stop;
$store->stop;
damage("$timelines/$id{named}/timeline.log");
$store->start;
like($store->ctl_ok('branch list', 'branch', 'list'), qr/^  named .*manifest .*\Q$id{named}\E.*checksum/m, 'a damaged manifest is named, with the branch under its parent');
is(status_of('branches_not_served'), '1', 'the status counts a branch that is not served');
is(status_of('branches_keeping_garbage'), '0', 'the status counts no branch that keeps garbage');
$c = $store->start_compute('main');
garbage_goes($c);
$store->ctl_fails_like(qr/"named" is not served.*checksum/s, 'a branch with a damaged manifest is not served', 'export', 'named', '-D', PageserverTest::test_dir() . '/none');
$store->ctl_fails_like(qr/other branches begin in branch "main".*"named"/s, 'the branch in which it begins cannot be deleted', 'branch', 'delete', '--force', 'main');
$store->ctl_ok('another branch can be deleted', 'branch', 'delete', 'unrelated');
$store->ctl_ok('the branch itself can be deleted by its name', 'branch', 'delete', 'named');
is(status_of('branches_not_served'), '0', 'the status counts no branch that is not served');
$c->stop;
$store->stop;

# Both copies of the manifest are damaged.
damage("$timelines/$id{nameless}/$_") for qw(timeline.log timeline.log.old);
$store->start;
my $list = $store->ctl_ok('branch list', 'branch', 'list');
like($list, qr/manifest .*\Q$id{nameless}\E.*garbage of the other branches of its tenant is kept; it can be deleted for good by its id \(--purge\), $id{nameless}/, 'the list says what an unknown beginning means');
like($store->log_content, qr/WARNING.*it is unknown where 1 branches in .* begin/, 'the log says that the beginning is unknown');
is(status_of('branches_keeping_garbage'), '1', 'the status counts the branch that keeps garbage');
$store->ctl_fails_like(qr/perhaps $id{nameless}/, 'no other branch can be deleted', 'branch', 'delete', 'other');
$c = $store->start_compute('main');
$store->ctl_ok('the damaged branch can be deleted by its id', 'branch', 'delete', $id{nameless});
is(status_of('branches_not_served'), '0', 'the status does not count a branch in the trash');
is(status_of('branches_keeping_garbage'), '1', 'what a branch in the trash may need is kept');
$store->ctl_ok('another branch can be moved to the trash, too', 'branch', 'delete', 'other');
$store->ctl_fails_like(qr/perhaps $id{nameless}.*Purge these first/s, 'another branch cannot be purged before it', 'branch', 'delete', '--purge', 'other');
$store->ctl_ok('another branch can be restored from the trash', 'branch', 'undelete', 'other');
$store->ctl_ok('the damaged branch is purged', 'branch', 'delete', '--purge', $id{nameless});
is(status_of('branches_keeping_garbage'), '0', 'nothing is kept for a purged branch');
garbage_goes($c);
$store->ctl_ok('the other branch can be deleted by its id', 'branch', 'delete', $id{other});
unlike($store->ctl_ok('branch list', 'branch', 'list'), qr/other|$id{nameless}/, 'both branches are not listed any more');
$c->sql_is('SELECT count(*) FROM t', '2000', 'main is served');
$c->stop;
$store->stop;
done_testing();
