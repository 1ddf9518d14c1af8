# SharedMemory: finds and removes the shared memory that a killed PostgreSQL server leaves behind.
#
# A killed server leaves its System V segment and its files in /dev/shm behind.  The next start in the same directory
# removes them.  If the directory was removed, they must be removed by hand (PostgreSQL's manual, "Shutting Down the
# Server").
#
#	my $memory = SharedMemory->new($postmaster_pid, $time_of_start);	# while it runs
#	$memory->note(@pids);		# while they live: records what they have
#	my @what = $memory->left;	# when they have ended: what is left
#	$memory->remove;
package SharedMemory;

use strict;
use warnings;

use IPC::SysV qw(IPC_RMID);

sub new
{
	my ($class, $pid, $started) = @_;
	my $self = bless { pid => $pid, files => {} }, $class;
	$self->{segments} = { map { $_ => 1 } $self->segments(int($started)) };
	return $self;
}

sub slurp_proc
{
	my ($path) = @_;
	open my $f, '<', $path or return '';
	local $/;
	return readline($f) // '';
}

# The System V segments that a process with this id has created since a point in time.
sub segments
{
	my ($self, $since) = @_;
	my @ids;
	for my $line (split /\n/, slurp_proc('/proc/sysvipc/shm'))
	{
		my ($key, $id, $perms, $size, $creator, @f) = split ' ', $line;
		push @ids, $id if $key ne 'key' && $creator == $self->{pid} && $f[8] >= $since;
	}
	return @ids;
}

# The server's segments that are left.  Segments created later belong to another process with the same id.
sub segments_left
{
	my ($self) = @_;
	return grep { $self->{segments}{$_} } $self->segments(0);
}

sub note
{
	my ($self, @pids) = @_;
	for my $line (map { split /\n/, slurp_proc("/proc/$_/maps") } @pids)
	{
		$self->{files}{$1} = 1 if $line =~ m{ (/dev/shm/PostgreSQL\.\d+)$};
	}
}

sub left
{
	my ($self) = @_;
	return ((map { "System V segment $_ of server $self->{pid}" } $self->segments_left),
		map { "$_ of server $self->{pid}" } grep { -e } sort keys %{ $self->{files} });
}

sub remove
{
	my ($self) = @_;
	shmctl $_, IPC_RMID, 0 for $self->segments_left;
	unlink keys %{ $self->{files} };
}

1;
