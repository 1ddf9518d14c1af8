# Torture: rounds of load in which something is broken at a random time, and checks of everything afterwards.  README.md
# describes a round.
package Torture;

use strict;
use warnings;

use File::Path qw(remove_tree);
use IPC::Open2;
use Oracle;
use PageserverTest;
use POSIX ();
use Test::More;
use Time::HiRes qw(time usleep);
use TortureActions;
use TortureChecks;

our (%actions, %explained_errors);	# TortureActions.pm

our $store_conf = "checkpoint_distance = 8MB\nmin_free_space = 24MB\npage_cache_size = 4MB\nredo_helpers = 2\n";
our $compute_conf = "shared_buffers=1MB pageserver_smgr.cache_size=1MB max_prepared_transactions=20 max_connections=40 restart_after_crash=off "
  . "autovacuum_naptime=1 min_wal_size=32MB max_wal_size=64MB wal_recycle=off checkpoint_timeout=30 jit=off listen_addresses=";
# lock_timeout: clients block one another, and a transaction that stays prepared may block all of them
our $client_options = "connect_timeout=5 options='-c statement_timeout=30s -c lock_timeout=700ms'";

# new(SEED, STORE_FS, COMPUTE_FS): two small file systems, for the store and for the computes
sub new
{
	my ($class, $seed, $store_fs, $compute_fs) = @_;
	return bless {
		seed => $seed, store_fs => $store_fs, compute_fs => $compute_fs, dir => PageserverTest::test_dir(),
		ledger => "$ENV{PAGESERVER_TOP}/test/load/ledger", proxy => "$ENV{PAGESERVER_TOP}/test/load/netproxy",
		round => 0, stores => 0, computes => 0, queue => [], stopped => {}, shared_memory => {}
	}, $class;
}

# ---- store and compute ----

sub command
{
	my ($t, $program, @args) = @_;
	my ($rc, $out, $err) = $t->{store}->ctl($program, @args);
	die "pageserver_ctl $program @args: exit code $rc\n$out$err" if $rc != 0;
}

sub new_store
{
	my ($t) = @_;
	my $n = ++$t->{stores};
	my $store = PageserverTest->new_store($n, dir => "$t->{store_fs}/store", start => 0, conf => $store_conf);
	$store->{log} = "$t->{dir}/store_$n.log";
	$t->{store} = $store;
	$t->{told} = {};
	$t->{interrupted} = {};
	$t->{ledger_file} = "$t->{dir}/ledger_$n";
	$t->{ledger_read} = 0;
	$t->start_store;
	$t->command('branch', 'create', 'main');
	$t->{compute} = $t->start_compute;
	my $c = $t->{compute};
	system($t->{ledger}, 'init', $c->connstr) == 0 or die "ledger init failed\n";
	$c->sql("CREATE EXTENSION amcheck; CREATE EXTENSION pageserver_smgr");
}

# Have WAL and layers, which are never removed, filled half of the store's disk?
sub store_is_old
{
	my ($t) = @_;
	my (undef, undef, $size, undef, $free) = split ' ', `stat -f -c '%S 0 %b 0 %a' $t->{store_fs}`;
	return $free < $size / 2;
}

# Stops the store and its compute cleanly, compares the store's contents with what stock PostgreSQL makes of its WAL, and
# removes the store.
sub end_store
{
	my ($t) = @_;
	$t->command('compute', 'stop', '-D', $t->{compute}{dir});
	$t->compute_is_gone($t->{compute});
	remove_tree($t->{compute}{dir});
	local $ENV{ORACLE_SEED} = $t->{seed} + $t->{stores};
	oracle_ok($t->{store}, 'main', name => "store $t->{stores}", count => 1);
	$t->command('stop', '-D', $t->{store}{dir});
	PageserverTest::wait_gone($t->{store}{pid});
	delete $t->{store}{pid};
	my @strays = $t->strays;
	remove_tree($t->{store}{dir});
	return @strays;
}

sub start_store
{
	my ($t) = @_;
	my $store = $t->{store};
	$t->command('start', '-D', $store->{dir}, '-l', $store->{log});
	($store->{pid}) = split /\n/, PostgreSQL::Test::Utils::slurp_file("$store->{dir}/pageserver.pid");
}

sub start_proxy
{
	my ($t) = @_;
	my $port = PageserverTest::free_port();
	my $proxy = { port => $port };
	$proxy->{pid} = open2($proxy->{out}, $proxy->{in}, $t->{proxy}, $port, "$t->{store}{dir}/.s.PGSQL.$t->{store}{port}");
	tell_proxy($proxy, 'pass');
	return $proxy;
}

sub tell_proxy
{
	my ($proxy, $command) = @_;
	print { $proxy->{in} } "$command\n";
	$proxy->{in}->flush;
	my $answer = readline($proxy->{out}) // '';
	die "netproxy, \"$command\": no answer\n" unless $answer =~ /^ok/;
}

# Starts a compute, in a new directory or in that of an earlier compute.  Each has a proxy of its own.
sub start_compute
{
	my ($t, $earlier, %opt) = @_;
	my $n = ++$t->{computes};
	my $c = bless { store => $t->{store}, started => time, branch => 'main', host => $t->{dir}, port => PageserverTest::free_port(),
		dir => $earlier ? $earlier->{dir} : "$t->{compute_fs}/compute_$n" }, 'PageserverTest::Compute';
	$c->{proxy} = $t->start_proxy;
	# the proxy of an earlier compute may keep its connection open, and some actions use --takeover
	my @args = ('compute', 'start', 'main', '--takeover', '-D', $c->{dir}, '-p', $c->{port}, '-S', "host=127.0.0.1 port=$c->{proxy}{port}",
		'-o', join(' ', map { "-c $_" } split(' ', $compute_conf), "unix_socket_directories=$t->{dir}"));
	my ($rc, $out, $err) = $t->{store}->ctl(@args);
	if ($rc != 0)
	{
		$t->end_proxy($c->{proxy});
		return undef if $opt{may_fail};
		die "pageserver_ctl @args: exit code $rc\n$out$err" . $c->log_tail;
	}
	($c->{pid}) = split /\n/, PostgreSQL::Test::Utils::slurp_file("$c->{dir}/postmaster.pid");
	push @{ $t->{store}{computes} }, $c;
	$c->{shared_memory} = SharedMemory->new($c->{pid}, $c->{started});
	push @PageserverTest::shared_memory, $c->{shared_memory};
	push @{ $t->{shared_memory}{ $c->{dir} } }, $c->{shared_memory};
	return $c;
}

sub end_proxy
{
	my ($t, $proxy) = @_;
	return unless $proxy->{pid};
	close $proxy->{in};
	close $proxy->{out};
	waitpid $proxy->{pid}, 0;
	delete $proxy->{pid};
}

# Waits until all processes of the previous compute have ended.
sub compute_is_gone
{
	my ($t, $c, @pids) = @_;
	PageserverTest::wait_gone($_) for @pids, $c->{pid};
	delete $c->{pid};
	$t->{gone} = time;
	$t->end_proxy($c->{proxy});
	@{ $t->{store}{computes} } = grep { $_ != $c } @{ $t->{store}{computes} };
}

# Kills all processes of the compute.
sub kill_compute
{
	my ($t, $c) = @_;
	my $pid = $c->{pid};
	$t->note_shared_memory($c);
	$c->kill9;
	$c->{pid} = $pid;
	$t->compute_is_gone($c);
}

# Removes a compute's directory.  If the compute was killed, its shared memory must be removed here (SharedMemory.pm).
sub throw_away
{
	my ($t, $c, %opt) = @_;
	PostgreSQL::Test::Utils::append_to_file("$t->{dir}/computes.log", $c->log_content);
	remove_tree($c->{dir});
	$_->remove for $opt{killed} ? @{ $t->{shared_memory}{ $c->{dir} } } : ();
}

# Where clients find the database.
sub tell_address
{
	my ($t) = @_;
	open my $f, '>', "$t->{dir}/address.new" or die $!;
	print $f $t->{compute}->connstr . " $client_options\n";
	close $f;
	rename "$t->{dir}/address.new", "$t->{dir}/address" or die $!;
}

sub stop_pids
{
	my ($t, @pids) = @_;
	$t->{stopped}{$_} = 1 for @pids;
	kill 'STOP', @pids;
}

sub go_on_pids
{
	my ($t, @pids) = @_;
	kill 'CONT', @pids;
	delete $t->{stopped}{$_} for @pids;
}

sub fill_disk
{
	my ($t, $fs, $leave) = @_;
	open my $f, '>', "$fs/filler" or die $!;
	my $block = "\0" x (1024 * 1024);
	my $size = 0;
	while (my $n = syswrite $f, $block)
	{
		$size += $n;
	}
	truncate $f, $size > $leave ? $size - $leave : 0;
	close $f;
}

# ---- rounds ----

# The fault ends now: the time to the first answer is measured from here.
sub fault_is_over
{
	my ($t) = @_;
	$t->{over} = time;
}

sub wrong
{
	my ($t, @what) = @_;
	push @{ $t->{wrong} }, @what;
}

# The names of all actions, or of the requested ones (ACTIONS="net_cut ...").
sub action_names
{
	my @names = split ' ', $ENV{TORTURE_ACTIONS} // '';
	return sort { $a cmp $b } @names ? @names : keys %actions;
}

# All actions in random order, then all in another order, and so on.
sub next_action
{
	my ($t) = @_;
	if (!@{ $t->{queue} })
	{
		srand($t->{seed} + 1_000_003 * $t->{round} + 1);
		my @names = action_names();
		while (@names)
		{
			push @{ $t->{queue} }, splice @names, int(rand(@names)), 1;
		}
	}
	return shift @{ $t->{queue} };
}

# Reads what the clients have recorded since the last call; finds the time of the first acknowledged commit that started
# after a point in time.
sub read_ledger
{
	my ($t, $after) = @_;
	my $first;
	open my $f, '<', $t->{ledger_file} or return undef;
	seek $f, $t->{ledger_read}, 0;
	while (my $line = <$f>)
	{
		last unless $line =~ /\n\z/;
		$t->{ledger_read} += length $line;
		if ($line =~ /^(\d+) (\d+) (\w) (\d+) (\d+)$/)
		{
			$t->{told}{$1}{$2} = $3;
			$t->{count}{$3}++;
			$first //= $5 / 1000 if defined $after && $3 eq 'A' && $4 / 1000 >= $after;
		}
		else
		{
			chomp $line;
			$t->wrong("client: $line") unless $line =~ $t->{explained};
		}
	}
	return $first;
}

# A compute may end itself because its disk was full, even some time later: a PANIC takes a while.
sub start_again_if_ended
{
	my ($t) = @_;
	my $c = $t->{compute};
	return 0 if is_alive($c->{pid});
	die "the compute has ended by itself\n" unless $t->{may_end};
	$t->compute_is_gone($c);
	$t->{compute} = $t->start_compute($c);
	$t->tell_address;
	return $t->{ended} = 1;
}

sub await_first_answer
{
	my ($t) = @_;
	my $give_up = time + 60;
	my $first;
	# the last errors of an older compute do not count
	until (defined($first = $t->read_ledger($t->{gone} > $t->{over} ? $t->{gone} : $t->{over})))
	{
		die "no commit was acknowledged in 60 seconds\n" if time > $give_up;
		$t->start_again_if_ended;
		usleep(5_000);
	}
	return $first - $t->{over};
}

sub end_load
{
	my ($t, $load) = @_;
	kill 'TERM', $load;
	for (1 .. 6000)
	{
		if (waitpid($load, POSIX::WNOHANG()) == $load)
		{
			$t->wrong("the load ended with status $?") if $?;
			return;
		}
		usleep(10_000);
	}
	die "a client is stuck: the load did not end in 60 seconds\n";
}

sub start_load
{
	my ($t, $seed) = @_;
	my $pid = fork // die $!;
	return $pid if $pid;
	{ exec $t->{ledger}, 'run', "\@$t->{dir}/address", $t->{ledger_file}, $t->{round}, $seed; }
	POSIX::_exit(2);
}

# Runs one round.  Returns a description of it, in which the list {wrong} should be empty.
sub round
{
	my ($t) = @_;
	my $action = $t->next_action;
	# one seed per round, so that the sequence of actions does not depend on their outcome
	srand($t->{seed} + 1_000_003 * $t->{round});
	my $p = { map { $_ => rand } qw(moment pick duration variant kill) };
	my $seed = int(rand(1 << 30));
	my $begin = time;
	my $result = { round => ++$t->{round}, action => $action, detail => '' };
	my $load;

	$t->{wrong} = [];
	$t->{count} = {};
	$t->{over} = undef;
	$t->{gone} = 0;
	$t->{may_end} = $t->{ended} = 0;
	$t->{explained} = $explained_errors{$action} // qr/^never$/;
	eval {
		$t->tell_address;
		$load = $t->start_load($seed);
		usleep(150_000 + $p->{moment} * 900_000);
		$result->{moment} = time - $begin;
		$result->{detail} = $actions{$action}->($t, $p);
		$t->tell_address;
		$result->{recovery} = $t->await_first_answer;
		usleep(200_000);
		$t->end_load($load);
		undef $load;
		$t->read_ledger;
		usleep(500_000) if $t->{may_end};
		$t->start_again_if_ended;
		my @wrong = eval { $t->check_database };
		my $error = $@;
		@wrong = $t->check_database if $t->start_again_if_ended;
		$t->wrong(@wrong, $error && !$t->{ended} ? $error : ());
		$t->wrong($t->strays);
		$result->{detail} .= ', the compute ended itself' if $t->{ended};
		1;
	} or do {
		my $error = $@ || 'unknown error';
		chomp $error;
		$t->wrong($error);
		$t->cleanup;
		if ($load)
		{
			kill 'TERM', $load;
			usleep(500_000);
			kill 'KILL', $load;
			waitpid $load, 0;
		}
	};
	$result->{count} = $t->{count};
	$result->{seconds} = time - $begin;
	$result->{wrong} = $t->{wrong};
	return $result;
}

sub cleanup
{
	my ($t) = @_;
	unlink "$t->{store_fs}/filler", "$t->{compute_fs}/filler";
	$t->go_on_pids(keys %{ $t->{stopped} });
}

sub DESTROY
{
	my ($t) = @_;
	local ($@, $?);
	$t->cleanup;
}

1;
