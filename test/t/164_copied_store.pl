# A copy of a store's directory is either correct or refused. A copy that was taken while the store ran
# does not start, and the error says how to take a correct one.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 4MB\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t AS SELECT generate_series(1, 1000) i');
my $dir = PageserverTest::test_dir() . '/copy';
my $port = PageserverTest::free_port();

sub copy
{
	PageserverTest::remove_tree($dir);
	is(system('cp', '-a', $store->{dir}, $dir), 0, 'the directory is copied');
	unlink "$dir/pageserver.pid";
	PostgreSQL::Test::Utils::append_to_file("$dir/pageserver.conf", "port = $port\n");
}

# In another place, with the same settings, for the helper functions.
my $copied = bless { %$store, name => 'copy', dir => $dir, port => $port, computes => [], log => "$dir.log", pid => undef }, 'PageserverTest';
push @PageserverTest::stores, $copied;

copy();
$copied->ctl_fails_like(qr/is a copy of a store that was not shut down/, 'a copy of a running store', 'start', '-D', $dir, '-l', $copied->{log});
like($copied->log_content, qr/Stop the store before you copy it, take a snapshot of its file system, or detach its tenants/, 'the hint says how');
$copied->ctl_fails_like(qr/is a copy of a store/, 'a copy of a running store, started again', 'start', '-D', $dir, '-l', $copied->{log});
$c->sql_is('SELECT count(*) FROM t', 1000, 'the original is not disturbed');

# killed, and started in its place
$c->sql('INSERT INTO t SELECT generate_series(1001, 2000)');
$store->kill9;
$store->start;
$c->sql_is('SELECT count(*) FROM t', 2000, 'a killed store starts in its place');

# killed, and copied while nothing was running
$store->kill9;
copy();
$copied->ctl_fails_like(qr{remove "\Q$dir\E/pageserver.running"}, 'a copy of a killed store', 'start', '-D', $dir, '-l', $copied->{log});
unlink "$dir/pageserver.running" or die;
$copied->start;
$copied->ctl_ok('an export of the copy when the marker file is removed', 'export', 'main', '-D', "$dir.exported");
$copied->stop;

# after a shutdown
$store->start;
$c->stop;
$store->stop;
ok(!-e "$store->{dir}/pageserver.running", 'a clean stop leaves no marker file');
copy();
$copied->start;
my $other = $copied->start_compute('main');
$other->sql_is('SELECT count(*) FROM t', 2000, 'a copy of a store that was shut down is usable');
$other->stop;
$copied->stop;
done_testing();
