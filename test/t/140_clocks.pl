# Wrong clocks: a compute's clock that is ahead, the store's clock that jumps while the store is down and
# while it runs, and points in time that are in the future. Branches at a time have the right rows, and no
# history is removed too early.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use Time::HiRes;

my ($faketime) = glob '/usr/lib/*/faketime/libfaketime.so.1';
BAIL_OUT('package faketime is missing') unless $faketime;

# Environment for a program, and what it starts, with another clock; only the time of day changes, waits
# do not.
sub clock
{
	my ($offset) = @_;
	return (LD_PRELOAD => $faketime, FAKETIME => $offset, FAKETIME_DONT_FAKE_MONOTONIC => 1, FAKETIME_NO_CACHE => 1);
}

my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 1MB\ngc_horizon = 0\npitr_interval = 7d\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');

# Runs a compute for one row; returns a time on this machine's clock after it, and the time in the commit
# record of the row.
sub write_row
{
	my ($row, %env) = @_;
	my ($c, $commit);
	{
		local %ENV = (%ENV, %env);
		$c = $store->start_compute('main', name => 'writer');
	}
	$c->sql('CREATE TABLE IF NOT EXISTS t (row text)');
	$c->sql("INSERT INTO t VALUES ('$row')");
	$commit = $c->sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')");
	$c->stop;
	my $after = moment();
	# Arrival times are recorded a few times per second, and the next one must be later than this.
	PageserverTest::wait_until(sub { moment() - $after > 0.5 }, 'the clock');
	return ($after, $commit);
}
sub moment { return Time::HiRes::time(); }
sub text { my ($moment) = @_; my @t = gmtime $moment; return sprintf '%04d-%02d-%02d %02d:%02d:%09.6f+00', $t[5] + 1900, $t[4] + 1, @t[ 3, 2, 1 ], $t[0] + $moment - int $moment; }

my $n = 0;
sub rows_at
{
	my ($moment, $expected, $what) = @_;
	my $name = 'b' . ++$n;
	my $out = $store->ctl_ok("$what: branch", 'branch', 'create', $name, '--from', 'main@' . text($moment));
	my $c = $store->start_compute($name, name => "reader$n");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$c->sql_is('SELECT string_agg(row, \' \' ORDER BY row) FROM t', $expected, $what);
	$c->stop;
	return $out;
}

# ---- a compute's clock is ahead by a day, once ----
my ($first, $commit1) = write_row('1');
my $second = (write_row('2 ahead', clock('+1d')))[0];
my ($third, $commit3) = write_row('3');
my $out = rows_at($first, '1', 'before the commit of the clock that was ahead');
like($out, qr/^Its last commit is from \Q$commit1\E:\d\d\.\d+ UTC\.$/m, 'the last commit of the branch is named');
like($out, qr/^The next commit of the parent, from \d{4}-\d\d-\d\d .*, is not included\.$/m, 'the next commit of the parent is named');
rows_at($second, '1 2 ahead', 'after the commit of the clock that was ahead');
$out = rows_at($third, '1 2 ahead 3', 'after the next commit, of a clock that is right');
like($out, qr/^Its last commit is from \Q$commit3\E/m, 'the time of that commit is named');
$store->stop;
$store->start;
rows_at($third, '1 2 ahead 3', 'after that commit, when the store was restarted');

# ---- times that are in the future or invalid ----
for my $word ('10 minutes', 'tomorrow', 'monday', '12', 'a', 'now', 'tomorrow 12:00', 'next year', '20300101')
{
	$store->ctl_fails_like(qr/"\Q$word\E": must be an LSN or a time/, "\"$word\"", 'branch', 'create', 'no', '--from', "main\@$word");
}
$store->ctl_fails_like(qr/the time 2999-01-01 12:00:00\.000000 UTC is in the future: the store's clock says 2/, 'a time in the future',
	'branch', 'create', 'no', '--from', 'main@2999-01-01 12:00+00');
$store->ctl_fails_like(qr/is in the future/, 'an hour from now', 'branch', 'create', 'no', '--from', 'main@' . text(moment() + 3600));
$store->ctl_fails_like(qr/is in the future/, 'restore', 'branch', 'restore', 'main@2999-01-01', '--force');
$store->ctl_fails_like(qr/is in the future/, 'export', 'export', 'main@2999-01-01', '-D', PageserverTest::test_dir() . '/no');
$store->ctl_fails_like(qr/LSN FFFFFFFF\/FFFFFFFF is in the future/, 'the greatest LSN', $_->@*)
  for ([ 'branch', 'create', 'no', '--from', 'main@FFFFFFFF/FFFFFFFF' ], [ 'branch', 'restore', 'main@FFFFFFFF/FFFFFFFF', '--force' ]);
is(($store->command('branch_list'))[1] =~ /^no\|/m ? 1 : 0, 0, 'no branch was created');

# An export says which point in time it contains.
my (undef, undef, $err) = $store->ctl('export', 'main@' . text($first), '-D', PageserverTest::test_dir() . '/export', '--no-sync');
like($err, qr/branch "main" at [0-9A-F\/]+: last commit at \Q$commit1\E.*, next commit at \d/, 'an export names the last and the next commit');

# ---- no history is removed because the store's clock is wrong ----
sub oldest { return (split /\|/, (grep { /^main\|/ } split /\n/, ($store->command('branch_list'))[1])[0])[17]; }
SKIP:
{
	skip 'a sanitizer does not see the waits of a program with such a clock', 1 if $ENV{SANITIZE_LOGS};
	my $oldest = oldest();
	$store->stop;
	{
		local %ENV = (%ENV, clock('+30d'));
		$store->start;
		$store->ctl_ok('upkeep while the clock is a month ahead', 'branch', 'compact', 'main');
		is(oldest(), $oldest, 'upkeep removes no history');
		$store->stop;
	}
	$store->start;
	like($store->log_content, qr/according to the clock of this machine the store has not run since .*does not count for pitr_interval/, 'the log reports how long the store was down');
	like($store->log_content, qr/WARNING:  the clock of this machine is \d+ s behind .*, when the store last ran/, 'the log reports that the clock went back');
	$store->ctl_ok('upkeep', 'branch', 'compact', 'main');
	is(oldest(), $oldest, 'no history is removed when the clock went back');
	rows_at($first, '1', 'the state before the commit is still readable');
}

# ---- tar does not warn because the compute's clock is behind ----
{
	local %ENV = (%ENV, clock('-1h'));
	my ($rc, $stdout, $stderr) = $store->ctl('export', 'main', '-D', PageserverTest::test_dir() . '/export2', '--no-sync');
	is($rc, 0, 'export with a clock that is behind');
	unlike($stderr, qr/in the future/, 'the export with a clock that is behind prints no warnings');
}
$store->stop;
done_testing();
