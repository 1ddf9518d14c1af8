# A copy of a store's directory is either correct or refused: a copy that was taken while the store
# ran does not start, and the error says how to take one.
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
	is(system('cp', '-a', $store->{dir}, $dir), 0, 'a copy of the directory');
	unlink "$dir/pageserver.pid";
	PostgreSQL::Test::Utils::append_to_file("$dir/pageserver.conf", "port = $port\n");
}

# in another place with the same settings, for the helpers
my $copied = bless { %$store, name => 'copy', dir => $dir, port => $port, computes => [], log => "$dir.log", pid => undef }, 'PageserverTest';
push @PageserverTest::stores, $copied;

copy();
$copied->ctl_fails_like(qr/is a copy of a store that was not shut down/, 'one that runs', 'start', '-D', $dir, '-l', $copied->{log});
like($copied->log_content, qr/Stop the store before you copy it, take a snapshot of its file system, or detach its tenants/, 'the hint says how');
$copied->ctl_fails_like(qr/is a copy of a store/, 'and again', 'start', '-D', $dir, '-l', $copied->{log});
$c->sql_is('SELECT count(*) FROM t', 1000, 'the original is not disturbed');

# killed, and started where it was
$c->sql('INSERT INTO t SELECT generate_series(1001, 2000)');
$store->kill9;
$store->start;
$c->sql_is('SELECT count(*) FROM t', 2000, 'a store that was killed starts where it was');

# killed, and copied while nothing ran
$store->kill9;
copy();
$copied->ctl_fails_like(qr{remove "\Q$dir\E/pageserver.running"}, 'one that was killed', 'start', '-D', $dir, '-l', $copied->{log});
unlink "$dir/pageserver.running" or die;
$copied->start;
$copied->ctl_ok('what is in it', 'export', 'main', '-D', "$dir.exported");
$copied->stop;

# shut down
$store->start;
$c->stop;
$store->stop;
ok(!-e "$store->{dir}/pageserver.running", 'a clean stop leaves no sign');
copy();
$copied->start;
my $other = $copied->start_compute('main');
$other->sql_is('SELECT count(*) FROM t', 2000, 'a copy of a store that was shut down is one');
$other->stop;
$copied->stop;
done_testing();
