# A store with many branches opens a branch when it is used, and closes it again. A start is fast, there
# are few threads, and the contents of a branch do not depend on whether it is open. WAL that is in no
# layer file is read at the first use.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use Time::HiRes qw(time);

my $n = 100;
my $store = PageserverTest->new_store('main', conf => "idle_timeline_timeout = 1s\ncheckpoint_timeout = 1s\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t AS SELECT i, repeat(\'x\', 100) FROM generate_series(1, 1000) i');
my $rc = 0;
for my $i (1 .. $n)
{
	$c->sql("INSERT INTO t VALUES (-$i)") if $i % 20 == 0;
	$rc |= ($store->ctl('branch', 'create', "b$i", '--from', $i % 10 == 0 ? 'b' . ($i - 1) : 'main'))[0];
}
is($rc, 0, "$n branches are created");

sub threads { return scalar(my @tasks = glob "/proc/$store->{pid}/task/*"); }
sub open_branches { return join(' ', sort map { $_->[0] } grep { $_->[19] eq 't' } map { [ split /\|/, $_, -1 ] } split /\n/, ($store->command('branch_list'))[1]); }

PageserverTest::wait_until(sub { open_branches() eq 'main' }, 'branches in which others begin to be closed');
my $before = threads();
cmp_ok($before, '<', 20, "the store has $before threads");

# A kill, with WAL of "main" and of another branch that is in no layer file.
$store->stop;
$store->append_conf("checkpoint_timeout = 1h\n");
$store->start;
my $b = $store->start_compute('b50');
$b->sql('INSERT INTO t VALUES (1050)');
$c->sql('INSERT INTO t VALUES (2000)');
$c->stop('immediate');
$b->stop('immediate');
$store->kill9;
my $begin = time;
$store->start;
my $ready = time - $begin;
is(open_branches(), '', 'a start opens no branch');
cmp_ok(threads(), '<', 10, 'a started store has few threads');
$begin = time;
$c = $store->start_compute('b50');
note sprintf 'ready after %.2f s, a compute after %.2f s more', $ready, time - $begin;
$c->sql_is('SELECT count(*) FROM t WHERE i = 1050', '1', 'WAL of a branch is read at its first use');
is(open_branches(), 'b49 b50 main', 'the branch and the branches in which it begins are open');
$c->sql_is('SELECT count(*) FROM t WHERE i < 0', '2', 'the branch has the rows of its parent');
$c->stop;
$c = $store->start_compute('main');
$c->sql_is('SELECT count(*) FROM t WHERE i = 2000', '1', 'WAL of another branch is read at its first use');
$c->stop;

# A branch with WAL that is only in memory stays open; otherwise it is closed after a while, and not
# earlier.
$store->stop;
$store->append_conf("checkpoint_timeout = 1s\n");
$store->start;
$c = $store->start_compute('b50');
PageserverTest::wait_until(sub { open_branches() =~ /\bb50\b/ }, 'the branch to be open');
my $d = $store->start_compute('b7');
$d->sql_is('SELECT count(*) > 900 FROM t', 't', 'another branch is used');
$d->stop;
PageserverTest::wait_until(sub { open_branches() eq 'b49 b50 main' }, 'the other branch to be closed');
$c->sql_is('SELECT count(*) FROM t WHERE i = 1050', '1', 'a branch with a compute stays open');
$c->sql('INSERT INTO t VALUES (1051)');
$c->stop;
PageserverTest::wait_until(sub { open_branches() eq '' }, 'all to be closed');
# A branch that is being closed is already listed as closed.
sub helpers
{
	return grep { -r "/proc/$_/status" && do { open my $f, '<', "/proc/$_/status"; local $/; (<$f> // '') =~ /^PPid:\s+$store->{pid}$/m } }
	  map { m{/(\d+)$} } glob '/proc/[0-9]*';
}
PageserverTest::wait_until(sub { threads() < 10 && !helpers() }, 'their threads and redo helpers to end');
like(($store->command('branch_list'))[1], qr{^b50\|(?:[^|]*\|){5}[^|]+\|([^|]+)\|\1\|\1\|\1\|}m, 'the list shows the last LSNs of a closed branch');

# closed branches are renamed, branched and deleted
$store->ctl_ok('rename', 'branch', 'rename', 'b50', 'fifty');
$store->ctl_ok('branch of a closed branch', 'branch', 'create', 'leaf', '--from', 'fifty');
$store->ctl_ok('delete', 'branch', 'delete', "b$_") for (1 .. 3);
$c = $store->start_compute('leaf');
$c->sql_is('SELECT count(*) FROM t WHERE i > 1000', '2', 'a branch of a closed branch has all rows');
$c->stop;
$store->stop;
$store->start;
unlike(($store->command('branch_list'))[1], qr/^b[123]\|/m, 'deleted branches are not listed');
like(($store->command('branch_list'))[1], qr/^fifty\|/m, 'a renamed branch is listed under its new name');
$store->stop;
unlike($store->log_content, qr/WARNING|PANIC/, 'no warning in the log of the store');
done_testing();
