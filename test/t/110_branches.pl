# Branches of branches: created at an LSN, at a time and at the head; written to; deleted, renamed, reset
# and restored. All of it must work across restarts of the store, while layer files are merged and garbage
# is collected.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 1MB\ncompaction_threshold = 2\ncompaction_fanout = 2\ntarget_file_size = 1MB\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->sql("INSERT INTO t SELECT i, repeat('x', 300) FROM generate_series(1, 5000) i");

# LSNs and times of the main branch, and the data that must be visible there.
my @moments;
my $digest = 'SELECT count(*), coalesce(sum(id), 0), md5(string_agg(v, \',\' ORDER BY id)) FROM t';
for my $i (1 .. 4)
{
	$c->sql("UPDATE t SET v = repeat(chr(64 + $i), 300) WHERE id % 4 = $i % 4");
	$c->sql("INSERT INTO t SELECT i, 'new' FROM generate_series($i * 10000, $i * 10000 + 100) i");
	push @moments, {
		lsn => $c->sql('SELECT pg_current_wal_flush_lsn()'),
		time => $c->sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'"),
		seen => $c->sql($digest)
	};
	# The next commit must have a later time.
	PageserverTest::wait_until(sub { $c->sql("SELECT clock_timestamp() > '$moments[-1]{time}'::timestamptz + interval '2 ms'") eq 't' }, 'the clock');
}
my %computes;
sub branch_shows
{
	my ($branch, $expected, $what) = @_;
	$computes{$branch} //= $store->start_compute($branch);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$computes{$branch}->sql_is($digest, $expected, $what);
}

for my $i (0 .. 3)
{
	$store->ctl_ok("branch at LSN $i", 'branch', 'create', "lsn$i", '--from', "main\@$moments[$i]{lsn}");
	$store->ctl_ok("branch at time $i", 'branch', 'create', "time$i", '--from', "main\@$moments[$i]{time}");
}
$store->ctl_ok('branch at the head', 'branch', 'create', 'head', '--from', 'main');
branch_shows("lsn$_", $moments[$_]{seen}, "the state at LSN $_") for (0, 3);
branch_shows("time$_", $moments[$_]{seen}, "the state at time $_") for (1, 2);
branch_shows('head', $moments[3]{seen}, 'the state at the head');

# Each branch is written to.
$computes{$_}->sql("DELETE FROM t WHERE id > 100; INSERT INTO t VALUES (-1, '$_'); CREATE TABLE own AS SELECT '$_'::text AS b") for qw(lsn0 time1);
branch_shows('head', $moments[3]{seen}, 'another branch does not see what a branch wrote');
$c->sql_is($digest, $moments[3]{seen}, 'the parent does not see what a branch wrote');
$c->sql("UPDATE t SET v = 'later'");
$computes{lsn0}->sql_is('SELECT count(*), min(v) FROM t WHERE id < 1', '1|lsn0', 'a branch has what was written on it');

# A branch of a branch; a branch at a time before its parent began starts in the grandparent.
$store->ctl_ok('branch of a branch', 'branch', 'create', 'leaf', '--from', 'lsn0');
$store->ctl_ok('a branch at a time before its parent began', 'branch', 'create', 'early', '--from', "lsn3\@$moments[1]{time}");
$computes{leaf} = $store->start_compute('leaf');
$computes{leaf}->sql_is('SELECT b FROM own', 'lsn0', 'a branch of a branch has what its parent wrote');
branch_shows('early', $moments[1]{seen}, 'a branch at a time before its parent began has that state');
my ($rc, $list) = $store->ctl('branch', 'list');
like($list, qr/^main .*^  lsn0 .*^    leaf /ms, 'the list is a tree');
like($list, qr/^  early /m, 'the list shows a branch below the branch in which it really begins');

# what is refused
$store->ctl_fails_like(qr/exists already/, 'a name that is taken', 'branch', 'create', 'head', '--from', 'main');
$store->ctl_fails_like(qr/does not exist/, 'a parent that does not exist', 'branch', 'create', 'z', '--from', 'nobody');
$store->ctl_fails_like(qr/can be read from .* on/, 'a time before the beginning', 'branch', 'create', 'z', '--from', 'main@2001-01-01');
$store->ctl_fails_like(qr/can be read from .* on/, 'an LSN before the beginning', 'branch', 'create', 'z', '--from', 'main@0/100');
$store->ctl_fails_like(qr/there is no .* yet/, 'an LSN after the end', 'branch', 'create', 'z', '--from', 'main@FF/100');
$store->ctl_fails_like(qr/must be an LSN or a time/, 'nonsense', 'branch', 'create', 'z', '--from', 'main@when it was nice');
$store->ctl_fails_like(qr/begin in branch "lsn0": "leaf"/, 'deletion of a branch with children', 'branch', 'delete', '--force', 'lsn0');
$store->ctl_fails_like(qr/in use by a compute/, 'deletion of a branch with a compute', 'branch', 'delete', 'leaf');

# An LSN inside a record means the start of the record.
my $lsn = $c->sql('SELECT pg_current_wal_insert_lsn()');
$c->sql("INSERT INTO t VALUES (77777, repeat('z', 1000))");
my ($hi, $lo) = map { hex } split m{/}, $lsn;
$store->ctl_ok('a branch at an LSN inside a record', 'branch', 'create', 'inside', '--from', sprintf('main@%X/%X', $hi, $lo + 20));
$computes{inside} = $store->start_compute('inside');
$computes{inside}->sql_is('SELECT count(*) FROM t WHERE id = 77777', '0', 'a branch at an LSN inside a record does not have the record');

# Files are merged and rewritten below the branches, then the store is restarted.
$store->ctl_ok("compact $_", 'branch', 'compact', $_) for qw(main lsn0 time1 head leaf);
$_->sql("SELECT count(*) FROM pg_class") for values %computes;
$store->stop;
$store->start;
$store->ctl_ok('a branch at an LSN before the merges', 'branch', 'create', 'again', '--from', "main\@$moments[0]{lsn}");
branch_shows('again', $moments[0]{seen}, 'a branch at an LSN before the merges has that state');
branch_shows('lsn3', $moments[3]{seen}, 'a branch on a restarted store');
$computes{leaf}->sql_is('SELECT b FROM own', 'lsn0', 'a branch two levels down on a restarted store');
for my $name (qw(leaf lsn0 time2))
{
	$computes{$name}->stop;
	$computes{$name} = $store->start_compute($name);
}
branch_shows('time2', $moments[2]{seen}, 'a new compute on a branch');
$computes{leaf}->program_ok('pg_amcheck of a leaf', 'pg_amcheck', '--all', '--install-missing', '--heapallindexed');

# rename; reset; restore
$store->ctl_ok('rename', 'branch', 'rename', 'time2', 'renamed');
$computes{time2}->sql('INSERT INTO t VALUES (-9, \'renamed\')');
$store->ctl_fails_like(qr/does not exist/, 'the old name of a renamed branch does not exist', 'branch', 'delete', 'time2');
$computes{time2}->stop;
$store->ctl_ok('reset', 'branch', 'reset', 'renamed');
delete $computes{time2};
branch_shows('renamed', $c->sql($digest), 'a branch that was reset has the state of its parent');
$computes{head}->sql('DELETE FROM t');
my $before = $computes{head}->sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'");
PageserverTest::wait_until(sub { $computes{head}->sql("SELECT clock_timestamp() > '$before'::timestamptz + interval '2 ms'") eq 't' }, 'the clock');
$computes{head}->sql("INSERT INTO t VALUES (5, 'wrong')");
$store->ctl_fails_like(qr/in use by a compute/, 'restore with a compute', 'branch', 'restore', "head\@$before");
$computes{head}->stop;
$store->ctl_ok('restore', 'branch', 'restore', "head\@$before");
delete $computes{head};
$computes{head} = $store->start_compute('head');
$computes{head}->sql_is('SELECT count(*) FROM t', '0', 'a restored branch has the earlier state');
$computes{'head.1'} = $store->start_compute('head.1');
$computes{'head.1'}->sql_is('SELECT v FROM t', 'wrong', 'its state before the restore exists under another name');

# A branch is deleted while it has a compute, which notices.
my $victim = $computes{again};
$store->ctl_ok('delete', 'branch', 'delete', '--force', 'again');
isnt(($victim->psql('SELECT pageserver_smgr_clear_cache(); INSERT INTO t SELECT generate_series(-100, -50)'))[0], 0, 'the compute of a deleted branch cannot read any more');
PageserverTest::wait_gone($victim->{pid});
delete $victim->{pid};
delete $computes{again};
unlike(($store->ctl('branch', 'list'))[1], qr/\bagain\b/, 'a deleted branch is not listed');
$store->stop;
$store->start;
unlike(($store->ctl('branch', 'list'))[1], qr/\bagain\b/, 'a deleted branch is not listed after a restart');
my @left = glob("$store->{dir}/tmp/deleted-*");
is(scalar @left, 0, 'no files of a purged branch are left');

# export at a point in time
my $dir = PageserverTest::test_dir() . '/export';
$store->ctl_ok('export at a time', 'export', "main\@$moments[2]{time}", '-D', $dir);
ok(-e "$dir/global/pg_control", 'the export is a data directory');
$_->stop('immediate') for values %computes;
$c->stop;
$store->stop;
unlike($store->log_content, qr/PANIC|upkeep of layer files failed/, 'no PANIC and no failed upkeep in the log of the store');
like($store->log_content, qr/merged \d+ files of level 0/, 'files were merged meanwhile');
done_testing();
