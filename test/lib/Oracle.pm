# Oracle: compares what stock PostgreSQL makes of a branch's WAL with what the store returns.
#
#	use Oracle;
#	...
#	$compute->kill9;						# or stop: nothing may write to the branch from now on
#	oracle_ok($store, 'main', count => 3);	# three LSNs within the WAL, and its end
#	oracle_ok($store, 'main', name => 'split', lsns => [$lsn, ...], count => 0);
#
# oracle_ok(STORE, BRANCH, ...) takes the WAL from the branch's segments in the store.  A stock server, without the
# extension, starts with an export of the branch at its start and replays the WAL up to each LSN in turn.  Each time its
# data directory is compared with "pageserver_ctl export BRANCH@LSN".  There is one assertion for each LSN; oracle_ok()
# returns whether all passed.
#
#	lsns	LSNs to compare at, from pg_current_wal_insert_lsn() for example.  A record that starts there or later is not
#			replayed.
#	count	number of further LSNs, chosen at random (default 3).  The seed is printed; ORACLE_SEED=... chooses the same
#			ones in the same WAL
#	end		0: not at the branch's end
#	name	part of the names of the assertions and of the directory
#
# Compared byte for byte (ClusterCompare.pm; nothing in a page is masked): all forks of all permanent relations, their
# pages and their length; init forks; relation maps; clog, multixact offsets and members, commit timestamps; two-phase
# files; counters and settings in pg_control.  Sequences are exact, because both sides have the values of the WAL, which
# are ahead.  Hint bits on both sides are those of full-page images.
#
# Not compared:
#	- free space maps: WAL has only some of their changes, and redo makes others (XLogRecordPageWithFreeSpace());
#	- forks of unlogged relations, except init forks: a start creates them again;
#	- empty relations that only one side has: redo of a drop leaves an empty file until the next checkpoint (mdunlink()).
#
# A server that reaches its recovery target and shuts down leaves changed pages unwritten, unless it has seen a
# checkpoint record (CreateRestartPoint()).  Therefore a copy of its directory replays the rest again and is promoted,
# which ends with a checkpoint that writes all pages, and the counters into pg_control.  The settings in pg_control are
# those of the directory before the promotion.
#
# Continuing where another recovery ended is fast, but has effects of its own.  Visibility maps lose bits where records
# are replayed again over pages that have them already, because clearing ignores the LSN and setting does not (heapam.c,
# heap_xlog_update() and heap_xlog_visible()).  A start takes the databases of the oldest IDs from the last checkpoint
# record, whereas redo compares only the IDs (xlog.c, StartupXLOG() and xlog_redo()).  Therefore, if anything differs, a
# server that replays all WAL in one go decides.
#
# Tablespaces must be in place (allow_in_place_tablespaces), because three servers would share one at another location.
package Oracle;

use strict;
use warnings;

use Carp;
use ClusterCompare;
use Exporter 'import';
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Manifest;
use PageserverTest;
use PostgreSQL::Test::Utils ();
use Test::More;

our @EXPORT = qw(oracle_ok);

sub parse_lsn
{
	my ($text) = @_;
	my ($hi, $lo) = $text =~ m{^([0-9A-F]+)/([0-9A-F]+)$}i or croak "not an LSN: $text";
	return (hex($hi) << 32) + hex($lo);
}

sub format_lsn
{
	my ($lsn) = @_;
	return sprintf '%X/%X', $lsn >> 32, $lsn & 0xFFFFFFFF;
}

# The manifest of a branch, and a directory that contains its WAL.
sub find_branch
{
	my ($store, $branch) = @_;
	my $dir = Manifest::directory($store, $branch);
	return (Manifest::state($dir), PageserverTest::plain_wal("$dir/wal"));
}

# LSNs at which records start, from $lsn on, according to pg_waldump; at most $n.
sub records_from
{
	my ($wal, $lsn, $n) = @_;
	my @limit = $n ? ('-n', $n) : ();
	my @lsns;
	open my $f, '-|', 'sh', '-c', 'exec "$@" 2>/dev/null', 'sh', PageserverTest::bindir() . '/pg_waldump', '-p', $wal, '-s', format_lsn($lsn), @limit
	  or croak "pg_waldump: $!";
	while (<$f>)
	{
		push @lsns, parse_lsn($1) if m{^rmgr: .* lsn: ([0-9A-F]+/[0-9A-F]+), prev };
	}
	close $f;
	return @lsns;
}

# The last complete record.
sub last_record
{
	my ($wal, $segment_size) = @_;
	my $per_id = 2**32 / $segment_size;
	opendir my $d, $wal or croak "$wal: $!";
	for my $file (sort { $b cmp $a } grep { /^[0-9A-F]{24}$/ } readdir $d)
	{
		my $segment = hex(substr($file, 8, 8)) * $per_id + hex(substr($file, 16, 8));
		my @lsns = records_from($wal, $segment * $segment_size);
		return $lsns[-1] if @lsns;
	}
	croak "no record in $wal";
}

# Runs a stock server on $dir that replays up to the target and then does $action.  Returns an empty string, or the
# server's messages if it failed.
sub replay
{
	my ($dir, $log, $target, $action) = @_;
	my $bindir = PageserverTest::bindir();
	my $options = "-c recovery_target_lsn=" . format_lsn($target->{lsn}) . " -c recovery_target_inclusive=" . ($target->{inclusive} ? 'on' : 'off')
	  . " -c recovery_target_action=$action";
	unlink $log;
	if ($action eq 'shutdown')
	{
		system("$bindir/postgres -D '$dir' $options >'$log' 2>&1");
	}
	else
	{
		# pg_ctl would wait only until recovery starts
		system("$bindir/pg_ctl start -s -W -D '$dir' -l '$log' -o '$options'");
		PageserverTest::wait_until(sub { -s $log && PostgreSQL::Test::Utils::slurp_file($log) =~ /is ready to accept connections|is shut down/ }, 'the promotion');
		system("$bindir/pg_ctl stop -s -w -m fast -D '$dir'") if -e "$dir/postmaster.pid";
		# the postmaster reports the shutdown after it has removed the file that pg_ctl waits for
		PageserverTest::wait_until(sub { PostgreSQL::Test::Utils::slurp_file($log) =~ /database system is shut down\s*$/ }, 'the end of the promoted server');
	}
	my $said = PostgreSQL::Test::Utils::slurp_file($log);
	return $said =~ /recovery stopping (?:before|after) WAL location/ && $said =~ /database system is shut down\s*$/ && $said !~ /FATAL|PANIC/ ? '' : $said;
}

# Makes $dir the directory of a stock server at the start of the branch that will recover from the branch's WAL.
sub begin_recovery
{
	my ($store, $branch, $manifest, $wal, $dir) = @_;
	my ($rc, $out, $err) = $store->ctl('export', "$branch\@$manifest->{start_lsn}", '--no-sync', '-D', $dir);
	croak "export of the beginning: $out$err" if $rc != 0;
	PostgreSQL::Test::Utils::append_to_file("$dir/postgresql.conf", <<"EOC");
restore_command = 'cp "$wal/%f" "%p"'
hot_standby = off
autovacuum = off
max_logical_replication_workers = 0
listen_addresses = ''
unix_socket_directories = '@{[ PageserverTest::test_dir() ]}'
port = @{[ PageserverTest::free_port() ]}
fsync = off
shared_buffers = 64MB
max_prepared_transactions = 1000
# redo of visibility depends on it (heap_xlog_visible()), and it is on in every compute
wal_log_hints = on
allow_in_place_tablespaces = on
EOC
	PostgreSQL::Test::Utils::append_to_file("$dir/recovery.signal", '');
}

sub oracle_ok
{
	my ($store, $branch, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	local $ENV{LC_ALL} = 'C';
	my $name = $opt{name} // $branch;
	my $dir = PageserverTest::test_dir() . "/oracle_" . ($name =~ s/\W+/_/gr);
	my ($manifest, $wal) = find_branch($store, $branch);
	my $start = parse_lsn($manifest->{start_lsn});
	my $last = last_record($wal, $manifest->{segment_size});
	my @targets = map { { lsn => parse_lsn($_) } } @{ $opt{lsns} // [] };
	my $count = $opt{count} // 3;
	my $good = 1;

	remove_tree($dir);
	make_path($dir);
	if ($count > 0)
	{
		my $seed = $ENV{ORACLE_SEED} // int(rand(2**31));
		note("oracle $name: ORACLE_SEED=$seed");
		srand($seed);
		push @targets, map { { lsn => $start + int(rand($last - $start)) } } 1 .. $count;
	}
	# a target is an LSN at which a record starts: both sides then end with the record before it
	for my $target (@targets)
	{
		my ($lsn) = records_from($wal, $target->{lsn}, 1);
		# after pg_switch_wal() there are zeros up to the end of the segment
		($lsn) = records_from($wal, (int($target->{lsn} / $manifest->{segment_size}) + 1) * $manifest->{segment_size}, 1) unless defined $lsn;
		croak 'no record of WAL begins at ' . format_lsn($target->{lsn}) . ' or later' unless defined $lsn;
		$target->{lsn} = $lsn;
	}
	@targets = sort { $a->{lsn} <=> $b->{lsn} } grep { $_->{lsn} > $start } @targets;
	push @targets, { lsn => $last, inclusive => 1 } unless defined $opt{end} && !$opt{end};

	begin_recovery($store, $branch, $manifest, $wal, "$dir/replay");

	for my $target (@targets)
	{
		my $at = $target->{inclusive} ? 'its end' : format_lsn($target->{lsn});
		my $export = "$dir/export";
		my $stock = "$dir/stock";
		my $said = replay("$dir/replay", "$dir/replay.log", $target, 'shutdown');

		if ($said eq '')
		{
			my $settings = read_control("$dir/replay");
			system('cp', '-a', "$dir/replay", $stock) == 0 or croak "cp: $?";
			# without it, a promoted server discards the commit timestamps
			PostgreSQL::Test::Utils::append_to_file("$stock/postgresql.conf", "track_commit_timestamp = $settings->{'track_commit_timestamp setting'}\n");
			$said = replay($stock, "$dir/stock.log", $target, 'promote');
			$target->{settings} = $settings;
		}
		if ($said ne '')
		{
			fail("oracle $name: stock recovery gets to $at");
			diag($said);
			return 0;
		}
		my ($rc, $out, $err) = $store->ctl('export', $target->{inclusive} ? $branch : "$branch\@$at", '--no-sync', '-D', $export);
		croak "export at $at: $out$err" if $rc != 0;
		croak "branch $branch grows while it is compared" if $target->{inclusive} && last_record((find_branch($store, $branch))[1], $manifest->{segment_size}) != $last;
		my ($pages, @bad) = compare_clusters($stock, $export, $target->{settings});
		if (@bad)
		{
			note("not the same after a recovery in stages: one in one go will tell\n" . join("\n", @bad[ 0 .. ($#bad > 10 ? 10 : $#bad) ]));
			remove_tree($stock);
			begin_recovery($store, $branch, $manifest, $wal, $stock);
			PostgreSQL::Test::Utils::append_to_file("$stock/postgresql.conf", "track_commit_timestamp = $target->{settings}{'track_commit_timestamp setting'}\n");
			$said = replay($stock, "$dir/stock.log", $target, 'promote');
			croak "stock recovery does not get to $at at once: $said" if $said ne '';
			($pages, @bad) = compare_clusters($stock, $export, $target->{settings});
		}
		my $same = is(scalar(@bad), 0, "oracle $name: the export at $at is what stock recovery made ($pages pages)")
		  or diag(join("\n", @bad[ 0 .. ($#bad > 40 ? 40 : $#bad) ]));
		$good &&= $same;
		my $keep = $dir . '/differs_' . format_lsn($target->{lsn}) =~ tr{/}{_}r;
		for my $side ($stock, $export)
		{
			remove_tree($side) if $same;
			rename $side, "$keep." . ($side eq $stock ? 'stock' : 'export') unless $same;
		}
	}
	remove_tree($dir) if $good;
	return $good;
}

1;
