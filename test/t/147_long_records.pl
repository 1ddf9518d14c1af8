# Records of many megabytes: a logical message, and the old row of a DELETE with REPLICA IDENTITY
# FULL. The store verifies them to the last byte, but keeps only what somebody will read, so that
# its memory does not depend on their size.
use strict;
use warnings;
use PageserverTest;
use Test::More;

use constant { MB => 64, MOST_KB => 48 * 1024 };

my $store = PageserverTest->new_store('main', conf => "page_cache_size = 0\ncheckpoint_timeout = 1s\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => "wal_level = logical\n");

# Returns the peak memory of a process, in kB.
sub peak
{
	my ($pid) = @_;
	my ($kb) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
	return $kb;
}

sub helpers
{
	return map { split ' ', PostgreSQL::Test::Utils::slurp_file($_) } glob "/proc/$store->{pid}/task/*/children";
}

# Waits until everything is in files.
sub wait_for_flush
{
	PageserverTest::wait_until(
		sub {
			my (undef, $list) = $store->command('branch_list');
			my ($flushed, $consistent) = (split /\|/, $list)[ 8, 10 ];
			return $flushed eq $consistent;
		}, 'a flush');
}

my $data = "repeat('0123456789abcdef', " . MB . ' * 65536)';
$c->sql('CREATE TABLE t (id int, data text); ALTER TABLE t ALTER data SET STORAGE external; ALTER TABLE t REPLICA IDENTITY FULL; '
	  . "INSERT INTO t VALUES (1, $data), (2, 'short')");
wait_for_flush();
$c->sql('CHECKPOINT');
my $before = peak($store->{pid});
for my $i (1 .. 2)
{
	$c->sql("SELECT pg_logical_emit_message(true, 'test', $data)");
	cmp_ok(peak($store->{pid}) - $before, '<', MOST_KB, "memory of message $i, of " . MB . ' MB');
}
my $from = $c->sql('SELECT pg_current_wal_insert_lsn()');
$c->sql('DELETE FROM t WHERE id = 1');
my $longest = $c->sql("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$from')");
cmp_ok($longest, '>', MB * 1024 * 1024, 'the old row is in the WAL');
cmp_ok(peak($store->{pid}) - $before, '<', MOST_KB, 'memory of the old row');
my $lsn = $c->sql('INSERT INTO t VALUES (3, NULL) RETURNING pg_current_wal_insert_lsn()');

# from WAL, after a start that reads all of it again, and from files
for my $where ('WAL', 'files')
{
	$c->kill9;
	if ($where eq 'WAL')
	{
		$store->kill9;
		$store->append_conf("checkpoint_timeout = 1h\n");
		$store->start;
	}
	else
	{
		$store->stop;
		$store->append_conf("checkpoint_timeout = 1s\n");
		$store->start;
		$c = $store->start_compute('main');
		$c->sql('CREATE TABLE u ()');
		wait_for_flush();
		$c->kill9;
		my $err = ($store->ctl('branch', 'compact', 'main'))[2];
		is($err, '', 'upkeep');
	}
	$before = peak($store->{pid}) if $where eq 'WAL';
	$c = $store->start_compute('main');
	is($c->sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"), '2,3', "the row is deleted, read from $where");
	SKIP:
	{
		skip 'a sanitizer has an allocator of its own, which keeps freed memory', 1 if $ENV{SANITIZE_LOGS};
		cmp_ok(peak($store->{pid}), '<', $before + 2 * MOST_KB, 'memory of the store while it reads the long records');
	}
	cmp_ok(peak($_), '<', 2 * MOST_KB, "memory of redo helper $_") for helpers();
}
$c->kill9;
$store->stop;
done_testing();
