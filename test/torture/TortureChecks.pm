# Checks after each round of torture; part of package Torture.
package Torture;

use strict;
use warnings;

use File::Find;
use Manifest;
use PageserverTest;
use SharedMemory;
use Time::HiRes qw(time usleep);

# ---- the database ----

# Problems of the database, according to check.sql.
sub check_database
{
	my ($t) = @_;
	my $c = $t->{compute};
	my $sql = "CREATE TEMP TABLE told (client int, seq int, state \"char\");\nCOPY told FROM STDIN;\n";
	for my $client (keys %{ $t->{told} })
	{
		my $seqs = $t->{told}{$client};
		$sql .= "$client\t$_\t$seqs->{$_}\n" for keys %$seqs;
	}
	# read the pages from the store
	$sql .= "\\.\nSELECT pageserver_smgr_clear_cache() \\g /dev/null\n";
	$sql .= PostgreSQL::Test::Utils::slurp_file("$ENV{PAGESERVER_TOP}/test/torture/check.sql");
	my ($rc, $out, $err) = $c->psql($sql);
	my @wrong = grep { !/^file (base\/\S+) belongs/ || !$t->is_interrupted_creation($1) } split /\n/, $out;
	push @wrong, "check.sql: exit code $rc: $err" if $rc != 0;
	return @wrong;
}

# The output of pg_waldump for all WAL of the store.
sub waldump
{
	my ($t, @options) = @_;
	my $dir = PageserverTest::plain_wal(glob "$t->{store}{dir}/tenants/*/timelines/*/wal");
	my @segments = map { substr $_, length($dir) + 1 } sort glob "$dir/0*";
	open my $f, '-|', 'sh', '-c', 'exec "$0" "$@" 2>/dev/null', PageserverTest::bindir() . '/pg_waldump', '-p', $dir, @options, $segments[0], $segments[-1] or die $!;
	my @lines = <$f>;
	return @lines;
}

# A relation that was created by a transaction that a crash interrupted stays in the store, as its files stay in a stock
# server's directory; if it is unlogged, its files are part of each base backup.  There must be no other file that belongs
# to no relation.
sub is_interrupted_creation
{
	my ($t, $file) = @_;
	$file =~ m{^(base/\d+/\d+)(_init)?$} or return 0;
	my $relation = $1;
	return 1 if $t->{interrupted}{$relation};
	my ($created) = reverse grep { m{desc: CREATE \Q$relation\E_init$} } $t->waldump('--rmgr=Storage');
	my ($xid) = ($created // '') =~ /tx:\s+(\d+),/ or return 0;
	return 0 if grep { /desc: (COMMIT|ABORT)/ } $t->waldump('--rmgr=Transaction', "--xid=$xid");
	$t->{interrupted}{$relation} = $xid;
	return 1;
}

# ---- processes ----

sub title
{
	my ($pid) = @_;
	my $title = SharedMemory::slurp_proc("/proc/$pid/cmdline");
	$title =~ s/\0+\z//;
	$title =~ tr/\0/ /;
	$title =~ s/ +\z//;
	return $title;
}

# A zombie that nobody reaps counts as ended.
sub is_alive
{
	my ($pid) = @_;
	return SharedMemory::slurp_proc("/proc/$pid/stat") =~ /\) [^ZX] /;
}

sub children
{
	my ($pid) = @_;
	return map { split ' ', SharedMemory::slurp_proc($_) } glob "/proc/$pid/task/*/children";
}

sub redo_helpers
{
	my ($t) = @_;
	return $t->{store}{pid} ? grep { title($_) =~ /--single/ } children($t->{store}{pid}) : ();
}

# Processes that run in the directories of the test and belong neither to the store nor to the current compute.
sub stray_processes
{
	my ($t) = @_;
	my %mine = map { $_ => 1 } map { ($_, children($_)) } grep { defined } $t->{store}{pid}, $t->{compute}{pid};
	my @strays;
	for my $entry (glob '/proc/[0-9]*')
	{
		my ($pid) = $entry =~ /(\d+)$/;
		my $cwd = readlink("$entry/cwd") // next;
		next unless $cwd =~ m{^(\Q$t->{store_fs}\E|\Q$t->{compute_fs}\E)/};
		next if $mine{$pid} || !is_alive($pid);
		push @strays, "process $pid: " . title($pid);
	}
	return @strays;
}

# ---- shared memory ----

# Records the shared memory of a compute, before the compute is ended.
sub note_shared_memory
{
	my ($t, $c) = @_;
	$c->{shared_memory}->note($c->processes);
}

# Shared memory of computes that have ended.
sub stray_shared_memory
{
	my ($t) = @_;
	my @gone = grep { $_->{pid} != ($t->{compute}{pid} // 0) } map { @$_ } values %{ $t->{shared_memory} };
	return map { $_->left } @gone;
}

# ---- files of the store ----

# Files in the store's directory that nothing refers to.
sub stray_store_files
{
	my ($t) = @_;
	my $dir = $t->{store}{dir};
	my $id = qr/[0-9a-f]{32}/;
	my %manifests;
	my @strays;
	find({ no_chdir => 1, wanted => sub {
				my $path = substr $File::Find::name, length $dir;
				$path =~ s{^/}{} or return;
				return if $path =~ m{^(PAGESERVER_VERSION|pageserver\.conf|pageserver\.running|clock|tmp|tenants(/$id(/timelines(/$id(/wal|/layers)?)?)?)?)$};
				return if $t->{store}{pid} && $path =~ m{^(pageserver\.pid|\.s\.PGSQL\.\d+(\.lock)?)$};
				return if $path =~ m{^tenants/$id/tenant\.json$|^tenants/$id/timelines/$id/(timeline\.log(\.old)?|settings-\d{8}\.json|stopped|deleted|protected|flushed|arrivals|wal/[0-9A-F]{24}(\.zst)?)$};
				return if $path =~ m{^tmp/redo-$id$} || ($path =~ m{^tmp/redo-$id/helper\.\d+$} && $t->{store}{pid});
				return if $path =~ m{^(tmp/redo-$id/helper\.\d+)/(PG_VERSION|global(/pg_control)?|postgresql(\.auto)?\.conf)$} && $t->{store}{pid};
				if ($path =~ m{^(tenants/$id/timelines/$id)/layers/([0-9a-f_-]+)$})
				{
					$manifests{$1} //= join ' ', @{ Manifest::state("$dir/$1")->{layers} };
					return if index($manifests{$1}, $2) >= 0;
				}
				push @strays, "file of the store: $path";
			} }, $dir);
	return @strays;
}

# Everything that should not be there; waits for what is about to end.
sub strays
{
	my ($t) = @_;
	my $give_up = time + 10;
	my @strays;
	for (;;)
	{
		@strays = ($t->stray_processes, $t->stray_shared_memory, -d $t->{store}{dir} ? eval { $t->stray_store_files } : ());
		return @strays if !@strays || time > $give_up;
		usleep(50_000);
	}
}

1;
