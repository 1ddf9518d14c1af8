# One branch's manifest is damaged. The list shows what is known of the branch; the other branches
# of its cluster are served, cleaned up and deleted as before; the branch can be deleted by the name
# or id that the list shows. If nobody knows where it starts, the list, the log and the status say
# what that means.
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

# what can be read of main moves on as it is written
sub garbage_goes
{
	my ($c) = @_;
	my $oldest = sub { (split /\|/, (grep { /^main\|/ } split /\n/, ($store->command('branch_list'))[1])[0])[17] };
	my $before = $oldest->();
	my $i = 0;
	PageserverTest::wait_until(sub {
		$c->sql('UPDATE t SET v = v || $$x$$') if $i++ % 20 == 0;
		return $oldest->() ne $before;
	}, 'history that nobody needs goes');
	pass('history that nobody needs goes');
}

my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t AS SELECT i, md5(i::text) v FROM generate_series(1, 2000) i');
$c->stop;
$store->stop;
damage("$timelines/$id{named}/timeline.log");
$store->start;
like($store->ctl_ok('branch list', 'branch', 'list'), qr/^  named .*manifest .*\Q$id{named}\E.*checksum/m, 'a damaged manifest is named, with the branch under its parent');
is(status_of('branches_not_served'), '1', 'the status counts it');
is(status_of('branches_keeping_garbage'), '0', 'it keeps nobody from being cleaned up');
$c = $store->start_compute('main');
garbage_goes($c);
$store->ctl_fails_like(qr/"named" is not served.*checksum/s, 'its branch is not served', 'export', 'named', '-D', PageserverTest::test_dir() . '/none');
$store->ctl_fails_like(qr/other branches begin in branch "main".*"named"/s, 'what it begins in cannot be deleted', 'branch', 'delete', '--force', 'main');
$store->ctl_ok('another can be', 'branch', 'delete', 'unrelated');
$store->ctl_ok('and it itself, by its name', 'branch', 'delete', 'named');
is(status_of('branches_not_served'), '0', 'the status counts none then');
$c->stop;
$store->stop;

# neither of two
damage("$timelines/$id{nameless}/$_") for qw(timeline.log timeline.log.old);
$store->start;
my $list = $store->ctl_ok('branch list', 'branch', 'list');
like($list, qr/manifest .*\Q$id{nameless}\E.*garbage of the other branches of its tenant is kept; it can be deleted for good by its id \(--purge\), $id{nameless}/, 'the list says what it means');
like($store->log_content, qr/WARNING.*it is unknown where 1 branches in .* begin/, 'the log, too');
is(status_of('branches_keeping_garbage'), '1', 'and the status');
$store->ctl_fails_like(qr/perhaps $id{nameless}/, 'no other branch can be deleted', 'branch', 'delete', 'other');
$c = $store->start_compute('main');
$store->ctl_ok('it can be, by its id', 'branch', 'delete', $id{nameless});
is(status_of('branches_not_served'), '0', 'it is in the trash');
is(status_of('branches_keeping_garbage'), '1', 'what it may need stays, for it can come back');
$store->ctl_ok('another can follow it there', 'branch', 'delete', 'other');
$store->ctl_fails_like(qr/perhaps $id{nameless}.*Purge these first/s, 'but not go before it', 'branch', 'delete', '--purge', 'other');
$store->ctl_ok('nor is that lost', 'branch', 'undelete', 'other');
$store->ctl_ok('for good', 'branch', 'delete', '--purge', $id{nameless});
is(status_of('branches_keeping_garbage'), '0', 'nothing is kept for it then');
garbage_goes($c);
$store->ctl_ok('the other, by its id', 'branch', 'delete', $id{other});
unlike($store->ctl_ok('branch list', 'branch', 'list'), qr/other|$id{nameless}/, 'both are gone');
$c->sql_is('SELECT count(*) FROM t', '2000', 'main is served');
$c->stop;
$store->stop;
done_testing();
