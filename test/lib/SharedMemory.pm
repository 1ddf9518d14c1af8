# SharedMemory: what a PostgreSQL server leaves of shared memory when it is killed.
#
# A server that is killed leaves its segment of System V and its files in
# /dev/shm behind.  The next start in the same directory removes them; if the
# directory is removed nobody does, and it has to be done by hand (PostgreSQL's
# manual, "Shutting Down the Server").
#
#	my $memory = SharedMemory->new($postmaster_pid, $time_of_start);	# when it runs
#	$memory->note(@pids);		# while they live: remembers what they have
#	my @what = $memory->left;	# when they are dead: what is still there
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

# The segments of System V that a process with this id has made since a moment.
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

# The server's segments that are still there.  What is made later is not its own: process ids come again.
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
