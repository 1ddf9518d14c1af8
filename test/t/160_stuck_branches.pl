# Branches whose WAL was damaged before it was in layer files. They fail with an error that says so, and
# occupy no memory that others need.
use strict;
use warnings;
use PageserverTest;
use Test::More;

# in the proportions of the defaults
my $store = PageserverTest->new_store('main', conf => "layer_memory = 16MB\nopen_layer_memory = 4MB\ncheckpoint_distance = 4MB\nmax_ingest_lag = 2MB\nwait_timeout = 10s\n");
my %compute;
for my $branch (qw(a1 a2 b))
{
	$store->ctl_ok("branch $branch", 'branch', 'create', $branch);
	$compute{$branch} = $store->start_compute($branch);
	$compute{$branch}->sql('CREATE TABLE t (i int, v text)');
}

sub lsn { return hex(join '', map { sprintf '%08s', $_ } split m{/}, $_[0]); }

# Damages bytes in the middle of the WAL that a branch has accepted and not yet written to layer files.
sub damage
{
	my ($branch) = @_;
	my $from = lsn($compute{$branch}->sql('SELECT pg_current_wal_lsn()'));
	$compute{$branch}->sql('INSERT INTO t SELECT i FROM generate_series(1, 4000) i');
	my $to = lsn($compute{$branch}->sql('SELECT pg_current_wal_lsn()'));
	my $at = int(($from + $to) / 2);
	my $name = sprintf '%08X%08X%08X', 1, $at >> 32, ($at & 0xffffffff) >> 24;
	my ($id) = map { (split /\|/)[2] } grep { /^$branch\|/ } split /\n/, ($store->command('branch_list'))[1];
	my ($file) = glob "$store->{dir}/tenants/*/timelines/$id/wal/$name";
	open my $f, '+<', $file or die "$file: $!";
	seek $f, $at % (16 * 1024 * 1024), 0;
	print $f 'damage';
	close $f or die "$file: $!";
}

sub column
{
	my ($branch, $column) = @_;
	return (map { (split /\|/, $_, -1)[$column] } grep { /^$branch\|/ } split /\n/, ($store->command('branch_list'))[1])[0];
}

my @sessions;
for my $branch (qw(a1 a2))
{
	damage($branch);
	# until it no longer answers
	push @sessions, IPC::Run::start([ PageserverTest::bindir() . '/pgbench', '-n', '-T', '1000', '-f', PageserverTest::test_dir() . '/insert.sql', '-d', $compute{$branch}->connstr ],
		'<', \undef, '>', '/dev/null', '2>', '/dev/null', init => sub {
			open my $f, '>', PageserverTest::test_dir() . '/insert.sql';
			print $f "INSERT INTO t SELECT i FROM generate_series(1, 10000) i;\n";
			close $f;
		});
}
for my $branch (qw(a1 a2))
{
	PageserverTest::wait_until(sub { column($branch, 18) =~ /could not write a layer: WAL record at/ }, "the error of branch $branch");
	pass("branch $branch says that it has failed");
}
like($store->log_content, qr/branch "a1" accepts no more WAL: could not write a layer/, 'the log says that branch a1 has failed');

# five times layer_memory
$compute{b}->sql("INSERT INTO t SELECT i, repeat('y', 300) FROM generate_series(1, 10000) i; UPDATE t SET v = v || 'z'; UPDATE t SET v = v || 'z'") for 1 .. 6;
$compute{b}->sql_is('SELECT count(*), sum(length(v)) FROM t', '60000|' . (10000 * (312 + 310 + 308 + 306 + 304 + 302)), 'a branch of another tenant continues');
$store->ctl_ok('the other branch can be branched', 'branch', 'create', 'b2', '--from', 'b');
$compute{b}->stop;
$compute{b} = $store->start_compute('b');
$compute{b}->sql_is('SELECT count(*) FROM t', '60000', 'the other branch has its rows in the next compute');

$_->kill_kill for @sessions;
$compute{$_}->kill9 for qw(a1 a2);
$compute{b}->stop;
$store->stop;
done_testing();
