# PageserverTest: starts stores and computes for the TAP tests.
#
#	my $store = PageserverTest->new_store('main');		# init and start
#	$store->ctl_ok('branch create', 'branch', 'create', 'main');
#	my $compute = $store->start_compute('main', conf => "shared_buffers = 16MB\n");
#	my $rows = $compute->sql('SELECT count(*) FROM t');
#	$compute->kill9;									# all of its processes
#
# Files are in a directory of the test below TESTDATADIR.  Processes that were started are ended when the test ends, by
# their process ids.
#
# If the store is built with sanitizers (make check-tap SANITIZE=...), any report of theirs fails the test.
package PageserverTest;

use strict;
use warnings;

use Carp;
use Cwd qw(abs_path);
use File::Path qw(make_path remove_tree);
use File::Basename;
use File::Temp ();
use IPC::Run ();
use PostgreSQL::Test::Utils ();
use SharedMemory;
use Test::More;
use Time::HiRes qw(time usleep);

our @stores;
our @shared_memory;				# of all computes
our $next_port = 20000 + ($$ % 2000) * 10;

sub bindir
{
	my $dir = `$ENV{PG_CONFIG} --bindir`;
	chomp $dir;
	return $dir;
}

# Returns a port on which nobody listens.
sub free_port
{
	require IO::Socket::INET;
	for (1 .. 1000)
	{
		my $port = $next_port++;
		$next_port = 20000 if $next_port > 40000;
		my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Proto => 'tcp', Listen => 1) or next;
		close $socket;
		return $port;
	}
	croak "no free port";
}

# Returns a directory with the WAL of the timeline whose WAL directory is given, in the form that pg_waldump and
# recovery read.  Another call updates the directory, because WAL has been added and removed since.
my %plain_made_of;
sub plain_wal
{
	my ($wal) = @_;
	my $plain = test_dir() . '/plain' . ($wal =~ s/\W+/_/gr);

	make_path($plain);
	opendir my $d, $wal or croak "$wal: $!";
	my %segments = map { substr($_, 0, 24) => 1 } grep { /^[0-9A-F]{24}(\.zst)?$/ } readdir $d;
	for my $segment (sort keys %segments)
	{
		# in this order: the plain file is removed once the compressed one exists
		my ($file) = grep { -e $_ } "$wal/$segment", "$wal/$segment.zst";
		delete $segments{$segment}, next unless defined $file;
		my $inode = join ' ', (stat $file)[ 0, 1 ];
		next if -e "$plain/$segment" && $plain_made_of{"$plain/$segment"} eq $inode;
		unlink "$plain/$segment";
		$plain_made_of{"$plain/$segment"} = $inode;
		next if $file !~ /zst$/ && link($file, "$plain/$segment");
		my $copy = $file =~ /zst$/ ? system('zstd', '-dqf', $file, '-o', "$plain/$segment") : system('cp', $file, "$plain/$segment");
		# on another file system it is a copy, and the file may have grown by the next call
		$plain_made_of{"$plain/$segment"} = '' if $file !~ /zst$/;
		next if $copy == 0;
		# a running store removes WAL that is older than its retention window
		croak "could not copy or unpack $file: $copy" if -e $file;
		redo if -e "$wal/$segment.zst";
		delete $segments{$segment};
	}
	unlink grep { !$segments{ basename($_) } } glob "$plain/*";
	return $plain;
}

# Returns the directory of this test's files.
sub test_dir
{
	my $name = basename($0, '.pl');
	my $dir = "$ENV{TESTDATADIR}/$name";
	make_path($dir);
	return $dir;
}

# new_store(NAME, conf => settings, start => 0 to leave it stopped, dir => where)
sub new_store
{
	my ($class, $name, %opt) = @_;
	my $dir = $opt{dir} || (test_dir() . "/store_$name");
	my $self = bless { name => $name, dir => $dir, port => free_port(), computes => [], log => "$dir.log" }, $class;

	$self->ctl_ok("store $name: init", 'init', '-D', $dir);
	$self->append_conf("port = $self->{port}\n" . ($opt{conf} // ''));
	push @stores, $self;
	$self->start unless defined $opt{start} && !$opt{start};
	return $self;
}

sub append_conf
{
	my ($self, $text) = @_;
	PostgreSQL::Test::Utils::append_to_file("$self->{dir}/pageserver.conf", $text);
}

sub dir  { return $_[0]{dir}; }
sub port { return $_[0]{port}; }

# Runs pageserver_ctl against this store.  Returns (exit code, stdout, stderr).
sub ctl
{
	my ($self, @args) = @_;
	my $file = test_dir() . "/ctl_$self->{name}";	# the store's own disk may be full
	local $ENV{PAGESERVER_STORE} = $self->{dir};
	my $h = IPC::Run::start([ bindir() . '/pageserver_ctl', @args ], '<', \undef, '>', "$file.out", '2>', "$file.err");
	$h->finish;
	return ($h->result(0), PostgreSQL::Test::Utils::slurp_file("$file.out"), PostgreSQL::Test::Utils::slurp_file("$file.err"));
}

sub ctl_ok
{
	my ($self, $what, @args) = @_;
	my ($rc, $out, $err) = $self->ctl(@args);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($rc == 0, $what) or diag("pageserver_ctl @args: exit code $rc\n$out$err" . $self->log_tail);
	return $out;
}

sub ctl_fails_like
{
	my ($self, $pattern, $what, @args) = @_;
	my ($rc, $out, $err) = $self->ctl(@args);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	isnt($rc, 0, "$what: exit code");
	like($err, $pattern, $what);
}

sub start
{
	my ($self) = @_;
	$self->ctl_ok("store $self->{name}: start", 'start', '-D', $self->{dir}, '-l', $self->{log});
	my ($pid) = split /\n/, PostgreSQL::Test::Utils::slurp_file("$self->{dir}/pageserver.pid");
	$self->{pid} = $pid;
}

sub stop
{
	my ($self, $mode) = @_;
	$self->ctl_ok("store $self->{name}: stop", 'stop', '-D', $self->{dir}, $mode ? ('-m', $mode) : ());
	# it releases its lock before it exits, and leaks are checked at exit
	wait_gone($self->{pid}) if $ENV{SANITIZE_LOGS} && $self->{pid};
	delete $self->{pid};
}

# Waits until the condition holds; dies after a minute.
sub wait_until
{
	my ($condition, $what) = @_;
	my $end = time + 60;
	until ($condition->())
	{
		croak "waited too long for $what" if time > $end;
		usleep(20_000);
	}
}

sub wait_gone
{
	my ($pid) = @_;
	for (1 .. 3000)
	{
		return 1 unless kill 0, $pid;
		# a zombie that nobody reaps has ended, too, once its last thread has
		my $stat = -r "/proc/$pid/stat" ? do { open my $f, '<', "/proc/$pid/stat"; local $/; <$f> } : '';
		my @threads = glob "/proc/$pid/task/*";
		return 1 if !defined $stat || ($stat =~ /\) Z / && @threads <= 1);
		usleep(10_000);
	}
	croak "process $pid does not end";
}

# Kills the store's daemon with SIGKILL.
sub kill9
{
	my ($self) = @_;
	kill 'KILL', $self->{pid};
	wait_gone($self->{pid});
	delete $self->{pid};
}

sub log_content
{
	my ($self) = @_;
	return -e $self->{log} ? PostgreSQL::Test::Utils::slurp_file($self->{log}) : '';
}

sub log_tail
{
	my ($self) = @_;
	my @lines = split /\n/, $self->log_content;
	@lines = @lines[ -30 .. -1 ] if @lines > 30;
	return "--- log of store $self->{name}\n" . join("\n", @lines) . "\n";
}

# Runs a command on the store's port.  Returns (exit code, stdout, stderr).
sub command
{
	my ($self, $command) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run [ bindir() . '/psql', '-X', '-A', '-t', '-h', $self->{dir}, '-p', $self->{port}, '-U', 'postgres', '-d', 'store', '-c', $command ],
	  '<', \undef, '>', \$out, '2>', \$err;
	my $rc = $? >> 8;
	chomp $out;
	return ($rc, $out, $err);
}

# start_compute(BRANCH, name => directory, conf => settings, ok => 0 if it is expected to fail,
#	may_fail => 1 to get (undef, standard error) if it does, args => further arguments of pageserver_ctl)
sub start_compute
{
	my ($self, $branch, %opt) = @_;
	my $name = $opt{name} // ('compute' . scalar(@{ $self->{computes} }));
	my $dir = test_dir() . "/$self->{name}_$name";
	my $compute = bless {
		store => $self, branch => $branch, dir => $dir, port => $opt{port} // free_port(), host => $opt{host} // test_dir()
	}, 'PageserverTest::Compute';
	my $options = "-c unix_socket_directories=$compute->{host} -c listen_addresses=127.0.0.1";

	for my $line (split /\n/, $opt{conf} // '')
	{
		$options .= " -c $1=$2" if $line =~ /^\s*([\w.]+)\s*=\s*(\S+)\s*$/;
	}
	my $started = time;
	my ($rc, $out, $err) = $self->ctl('compute', 'start', $branch, '-D', $dir, '-p', $compute->{port}, '-o', $options, @{ $opt{args} // [] });
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	if (defined $opt{ok} && !$opt{ok})
	{
		return ($rc, $out, $err);
	}
	return (undef, $err) if $opt{may_fail} && $rc != 0;
	ok($rc == 0, "compute on branch $branch: start") or diag("exit code $rc\n$out$err" . $compute->log_tail . $self->log_tail);
	BAIL_OUT("no compute") if $rc != 0;
	$compute->{pid} = (split /\n/, PostgreSQL::Test::Utils::slurp_file("$dir/postmaster.pid"))[0];
	$compute->{shared_memory} = SharedMemory->new($compute->{pid}, $started);
	push @shared_memory, $compute->{shared_memory};
	push @{ $self->{computes} }, $compute;
	return $compute;
}

# Reports of sanitizers since the start of this test.
my %old_reports;

sub sanitizer_reports
{
	return () unless $ENV{SANITIZE_LOGS};
	return grep { !$old_reports{$_} } glob "$ENV{SANITIZE_LOGS}/*";
}

BEGIN
{
	%old_reports = map { $_ => 1 } sanitizer_reports();
}

END
{
	my $code = $?;
	# leaks are checked at a clean stop only
	my $signal = $ENV{SANITIZE_LOGS} ? 'TERM' : 'QUIT';
	for my $store (@stores)
	{
		for my $compute (@{ $store->{computes} })
		{
			$compute->kill9 if $compute->{pid};
		}
		if ($store->{pid})
		{
			kill $signal, $store->{pid};
			wait_gone($store->{pid});
		}
	}
	$_->remove for @shared_memory;
	for my $log (grep { $ENV{SANITIZE_LOGS} && -e } map { $_->{log} } @stores)
	{
		next unless PostgreSQL::Test::Utils::slurp_file($log) =~ /^(.*: runtime error: .*)$/m;
		diag("$log: $1");
		$code ||= 66;
	}
	for my $report (sanitizer_reports())
	{
		diag("--- $report\n" . PostgreSQL::Test::Utils::slurp_file($report));
		$code ||= 66;
	}
	$? = $code;
}

package PageserverTest::Compute;

use strict;
use warnings;

use Carp;
use IPC::Run qw(run);
use Test::More;
use Time::HiRes qw(usleep);

sub connstr
{
	my ($self, $db) = @_;
	return "host=$self->{host} port=$self->{port} user=postgres dbname=" . ($db // 'postgres');
}

sub dir  { return $_[0]{dir}; }
sub port { return $_[0]{port}; }

# Runs SQL with psql.  Returns (exit code, stdout, stderr).
sub psql
{
	my ($self, $sql, %opt) = @_;
	my ($out, $err) = ('', '');
	my $script = File::Temp->new(TEMPLATE => 'psql_XXXXXX', TMPDIR => 1);

	# a file, not a pipe: psql ends without reading it if it cannot connect
	print $script $sql;
	close $script or croak "$script: $!";
	run [ PageserverTest::bindir() . '/psql', '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $self->connstr($opt{db}), '-f', '-' ],
	  '<', "$script", '>', \$out, '2>', \$err, IPC::Run::timeout($opt{timeout} // 180);
	my $rc = $? >> 8;
	chomp $out;
	return ($rc, $out, $err);
}

# Returns the result of SQL that must not fail.
sub sql
{
	my ($self, $sql, %opt) = @_;
	my ($rc, $out, $err) = $self->psql($sql, %opt);
	if ($rc != 0)
	{
		diag("psql exit code $rc: $err\n$sql\n" . $self->log_tail . $self->{store}->log_tail);
		croak "statement failed: $err";
	}
	return $out;
}

sub sql_is
{
	my ($self, $sql, $expected, $what, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($self->sql($sql, %opt), $expected, $what);
}

sub log_content
{
	my ($self) = @_;
	my $file = "$self->{dir}/log/postgres.log";
	return -e $file ? PostgreSQL::Test::Utils::slurp_file($file) : '';
}

sub log_tail
{
	my ($self) = @_;
	my @lines = split /\n/, $self->log_content;
	@lines = @lines[ -30 .. -1 ] if @lines > 30;
	return "--- log of $self->{dir}\n" . join("\n", @lines) . "\n";
}

# Runs a program of PostgreSQL against the compute.  Returns (exit code, stdout and stderr together).
sub program
{
	my ($self, $program, @args) = @_;
	my $out = '';
	local $ENV{PGHOST} = $self->{host};
	local $ENV{PGPORT} = $self->{port};
	local $ENV{PGUSER} = 'postgres';
	run [ PageserverTest::bindir() . "/$program", @args ], '<', \undef, '>&', \$out;
	return ($? >> 8, $out);
}

sub program_ok
{
	my ($self, $what, $program, @args) = @_;
	my ($rc, $out) = $self->program($program, @args);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($rc == 0, $what) or diag("$program @args: exit code $rc\n$out" . $self->log_tail . $self->{store}->log_tail);
	return $out;
}

sub stop
{
	my ($self, $mode) = @_;
	my ($rc, $out, $err) = $self->{store}->ctl('compute', 'stop', '-D', $self->{dir}, $mode ? ('-m', $mode) : ());
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($rc == 0, "compute on branch $self->{branch}: stop") or diag("exit code $rc\n$out$err" . $self->log_tail . $self->{store}->log_tail);
	# if it did not stop, the end of the test kills it
	delete $self->{pid} if $rc == 0;
}

# All processes of the compute: the postmaster and its children.
sub processes
{
	my ($self) = @_;
	my @pids = ($self->{pid});
	if (open my $f, '<', "/proc/$self->{pid}/task/$self->{pid}/children")
	{
		local $/;
		push @pids, split ' ', (<$f> // '');
	}
	return @pids;
}

# Kills the postmaster alone: its children end when they notice, and kill9() kills those that do not.
sub kill9_postmaster
{
	my ($self) = @_;
	# stopped first, so that it starts no more children
	kill 'STOP', $self->{pid};
	my @pids = $self->processes;
	$self->{shared_memory}->note(@pids);
	kill 'KILL', $self->{pid};
	$self->{orphans} = [ grep { $_ != $self->{pid} } @pids ];
}

sub kill9
{
	my ($self) = @_;
	return unless $self->{pid};
	$self->kill9_postmaster unless $self->{orphans};
	# the id of a process that has ended may have been reused
	my $directory = sub { join ' ', (stat $_[0])[ 0, 1 ] };
	my @pids = grep { $directory->("/proc/$_/cwd") eq $directory->($self->{dir}) } @{ $self->{orphans} };
	kill 'KILL', @pids;
	PageserverTest::wait_gone($_) for $self->{pid}, @pids;
	# The lock file of a socket counts as in use while its process exists, even as a zombie, and the init process may
	# be slow to reap an orphan.
	my $pid = $self->{pid};
	PageserverTest::wait_until(sub { !kill 0, $pid }, "the parent of process $pid to reap it");
	delete $self->{$_} for qw(pid orphans);
}

sub is_running
{
	my ($self) = @_;
	return $self->{pid} && kill(0, $self->{pid});
}

1;
