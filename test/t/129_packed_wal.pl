# WAL that is in layer files is kept compressed. Branches can start in it at any LSN and time, as before;
# stock PostgreSQL recovers from it once it is decompressed; a kill during the compression loses nothing.
# A damaged file causes an error only when it is needed.
use strict;
use warnings;
use PageserverTest;
use Oracle;
use Test::More;

my $conf = "checkpoint_distance = 1MB\n";
my $store = PageserverTest->new_store('main', conf => $conf);
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t (id int PRIMARY KEY, v text)');

sub segments { return sort map { s{.*/}{}r } glob "$store->{dir}/tenants/*/timelines/*/wal/0*"; }
sub packed { return grep { /\.zst$/ } segments(); }

my $digest = 'SELECT count(*), max(id), md5(string_agg(v, \',\' ORDER BY id)) FROM t';
my @moments;
for my $i (1 .. 5)
{
	for my $part (1, 2)
	{
		$c->sql("INSERT INTO t SELECT i, repeat(md5(i::text), 10) FROM generate_series($i * 10000 + $part * 3000, $i * 10000 + $part * 3000 + 2000) i");
		push @moments, {
			lsn => $c->sql('SELECT pg_current_wal_flush_lsn()'),
			time => $c->sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'"),
			seen => $c->sql($digest)
		};
		PageserverTest::wait_until(sub { $c->sql("SELECT clock_timestamp() > '$moments[-1]{time}'::timestamptz + interval '2 ms'") eq 't' }, 'the clock');
	}
	$c->sql('SELECT pg_switch_wal()');
}
$c->sql("INSERT INTO t SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 1000) i");
PageserverTest::wait_until(sub { packed() >= 4 }, 'WAL is compressed');
my @now = segments();
unlike($now[-1], qr/zst/, 'the segment that is being written is not compressed');
is(scalar(grep { my $s = $_; grep { $_ eq "$s.zst" } @now } @now), 0, 'no segment exists in both forms');
my ($wal) = glob "$store->{dir}/tenants/*/timelines/*/wal";
my ($row, $bytes);
# files may be compressed between the two
PageserverTest::wait_until(sub {
	($row) = grep { /^main\|/ } split /\n/, ($store->command('branch_list'))[1];
	$bytes = 0;
	$bytes += (-s $_) // 0 for glob "$wal/0*";
	$row =~ /\|$bytes\|/;
}, 'the list of branches to have the size of the files');
cmp_ok($bytes, '<', 16 * 1024 * 1024 * (@now - 3), 'the size is less than that of the segments');

# Branches begin in compressed WAL, before and after a kill of the store.
sub check_moments
{
	my ($when) = @_;
	for my $i (0, 5, 9)
	{
		for my $what ('lsn', 'time')
		{
			my $name = "$when$what$i";
			$store->ctl_ok("branch $name", 'branch', 'create', $name, '--from', "main\@$moments[$i]{$what}");
			my $compute = $store->start_compute($name);
			$compute->sql_is($digest, $moments[$i]{seen}, 'the branch has the state of its LSN or time');
			$compute->stop;
		}
	}
}
check_moments('first');
$store->kill9;
$store->start;
check_moments('again');
$c->sql_is('SELECT count(*) FROM t', 5 * 2 * 2001 + 1000, 'the compute has all rows');
$c->stop;
oracle_ok($store, 'main');

# Damage in the part that has the beginning of the segment, which a branch that begins in the segment has,
# too.
$store->stop;
my $victim = (packed())[1];
open my $f, '+<:raw', "$wal/$victim" or die $!;
seek $f, 1000, 0;
read $f, my $byte, 1;
seek $f, 1000, 0;
print $f chr(ord($byte) ^ 1);
close $f;
$store->start;
$c = $store->start_compute('main');
$c->sql_is('SELECT count(*) FROM t', 5 * 2 * 2001 + 1000, 'a damaged old WAL file does not affect the compute');
$c->stop;
$store->ctl_fails_like(qr/\Q$victim\E" is damaged at offset \d+/, 'a branch that needs the damaged file gets an error', 'branch', 'create', 'no', '--from', "main\@$moments[2]{lsn}");
$store->ctl_ok('a branch that does not need the damaged file is created', 'branch', 'create', 'yes', '--from', "main\@$moments[7]{lsn}");
$store->stop;

# Nothing is compressed when the setting is off; existing compressed files stay.
$store->append_conf("wal_compression = none\n");
$store->start;
my $before = packed();
$c = $store->start_compute('main');
for my $i (1 .. 3)
{
	$c->sql("INSERT INTO t SELECT i, repeat(md5(i::text), 100) FROM generate_series(-$i * 2000, -$i * 2000 + 1000) i");
	$c->sql('SELECT pg_switch_wal()');
}
$store->ctl_ok('upkeep runs with the setting off', 'branch', 'compact', 'main');
is(scalar(packed()), $before, 'nothing is compressed when the setting is off');
$c->sql_is('SELECT count(*) FROM t', 5 * 2 * 2001 + 4003, 'the compute has all rows with the setting off');
$c->stop;
$store->stop;
done_testing();
