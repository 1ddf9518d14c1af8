# The faults of a round of torture; part of package Torture.
#
# Each action causes a fault and repairs it, calls fault_is_over() at the time from which the first answer is measured,
# and returns a description.  Its parameters are random numbers between 0 and 1: moment (when it starts), pick, duration,
# variant, kill.
package Torture;

use strict;
use warnings;

use PageserverTest;
use POSIX ();
use Time::HiRes qw(time usleep);

# Chooses one element of the list by a number between 0 and 1.
sub pick
{
	my ($number, @list) = @_;
	return @list ? $list[ $number * @list ] : undef;
}

# Child processes of the compute whose title matches.
sub children_like
{
	my ($t, $pattern) = @_;
	my @pids = $t->{compute}->processes;
	shift @pids;
	return grep { title($_) =~ $pattern } @pids;
}

# Kills a child of the compute.  By design, the whole compute goes down, and it is started again.
sub kill_child
{
	my ($t, $what, $p, $pattern) = @_;
	my $c = $t->{compute};
	my $pid;
	# there may be none at times
	PageserverTest::wait_until(sub { $pid = pick($p->{pick}, $t->children_like($pattern)) }, $what);
	my @all = $c->processes;
	my $title = title($pid);
	$t->note_shared_memory($c);
	kill 'KILL', $pid;
	$t->fault_is_over;
	$t->compute_is_gone($c, @all);
	$t->{compute} = $t->start_compute($c);
	return $title;
}

# While the store cannot be reached, some rounds also kill the compute.  WAL that the store does not have is lost with it,
# so none of that WAL may have been acknowledged.  repair: ends the fault.
sub maybe_kill_compute
{
	my ($t, $p, $repair) = @_;
	my $c = $t->{compute};
	my $kill = $p->{kill} < 0.4;
	$t->kill_compute($c) if $kill;
	$t->fault_is_over;
	$repair->();
	$t->{compute} = $t->start_compute($c) if $kill;
	return $kill ? ', compute killed meanwhile' : '';
}

our %actions = (
	kill_backend => sub {
		my ($t, $p) = @_;
		return $t->kill_child('a backend', $p, qr/^postgres: postgres postgres/);
	},
	kill_auxiliary => sub {
		my ($t, $p) = @_;
		return $t->kill_child('an auxiliary process', $p, qr/^postgres: (checkpointer|background writer|walwriter|autovacuum|logical)/);
	},
	kill_wal_worker => sub {
		my ($t, $p) = @_;
		return $t->kill_child('the WAL worker', $p, qr/^postgres: pageserver/);
	},
	# the postmaster alone: its children notice
	kill_postmaster => sub {
		my ($t, $p) = @_;
		my $c = $t->{compute};
		my @all = $c->processes;
		$t->note_shared_memory($c);
		kill 'KILL', $c->{pid};
		$t->fault_is_over;
		$t->compute_is_gone($c, @all);
		$t->{compute} = $t->start_compute($c);
		return '';
	},
	kill_compute => sub {
		my ($t, $p) = @_;
		my $c = $t->{compute};
		$t->kill_compute($c);
		$t->fault_is_over;
		$t->{compute} = $t->start_compute($c);
		return '';
	},
	kill_redo_helper => sub {
		my ($t, $p) = @_;
		my $pid;
		PageserverTest::wait_until(sub { $pid = pick($p->{pick}, $t->redo_helpers) }, 'a redo helper');
		kill 'KILL', $pid;
		$t->fault_is_over;
		return '';
	},
	kill_store => sub {
		my ($t, $p) = @_;
		my $wait = int($p->{duration} * 1000);
		$t->{store}->kill9;
		usleep($wait * 1000) if $p->{variant} < 0.5;
		$t->fault_is_over;
		$t->start_store;
		return $p->{variant} < 0.5 ? "$wait ms away" : '';
	},
	kill_both => sub {
		my ($t, $p) = @_;
		my $c = $t->{compute};
		my $variant = pick($p->{variant}, 'store first', 'compute first', 'store again while the compute starts');
		$t->note_shared_memory($c);
		$t->{store}->kill9 if $variant ne 'compute first';
		$t->kill_compute($c);
		$t->{store}->kill9 if $variant eq 'compute first';
		$t->fault_is_over;
		$t->start_store;
		if ($variant eq 'store again while the compute starts')
		{
			my $killer = fork // die $!;
			if ($killer == 0)
			{
				usleep($p->{duration} * 100_000);
				kill 'KILL', $t->{store}{pid};
				POSIX::_exit(0);
			}
			my $early = $t->start_compute($c, may_fail => 1);
			waitpid $killer, 0;
			PageserverTest::wait_gone($t->{store}{pid});
			delete $t->{store}{pid};
			$t->start_store;
			if ($early)
			{
				$t->{compute} = $early;
				return "$variant: it did start";
			}
		}
		$t->{compute} = $t->start_compute($c);
		return $variant;
	},
	restart_store => sub {
		my ($t, $p) = @_;
		my $mode = pick($p->{variant}, 'smart', 'fast', 'immediate');
		my $pid = $t->{store}{pid};
		$t->command('stop', '-D', $t->{store}{dir}, '-m', $mode);
		PageserverTest::wait_gone($pid);
		$t->fault_is_over;
		$t->start_store;
		return $mode;
	},
	stop_store => sub {
		my ($t, $p) = @_;
		my $pid = $t->{store}{pid};
		$t->stop_pids($pid);
		usleep($p->{duration} * 2_000_000);
		return sprintf '%d ms%s', $p->{duration} * 2000, $t->maybe_kill_compute($p, sub { $t->go_on_pids($pid) });
	},
	stop_backend => sub {
		my ($t, $p) = @_;
		my $pid;
		PageserverTest::wait_until(sub { $pid = pick($p->{pick}, $t->children_like(qr/^postgres: (postgres postgres|pageserver)/)) }, 'a backend');
		my $title = title($pid);
		$t->stop_pids($pid);
		usleep($p->{duration} * 2_000_000);
		$t->fault_is_over;
		$t->go_on_pids($pid);
		return sprintf '%d ms, %s', $p->{duration} * 2000, $title;
	},
	net_cut => sub {
		my ($t, $p) = @_;
		my $proxy = $t->{compute}{proxy};
		tell_proxy($proxy, 'cut');
		usleep($p->{duration} * 1_500_000);
		return sprintf '%d ms%s', $p->{duration} * 1500, $t->maybe_kill_compute($p, sub { tell_proxy($proxy, 'pass') if $proxy->{pid} });
	},
	net_reset => sub {
		my ($t, $p) = @_;
		tell_proxy($t->{compute}{proxy}, 'reset ' . int($p->{pick} * 1000));
		$t->fault_is_over;
		return '';
	},
	net_delay => sub {
		my ($t, $p) = @_;
		my $delay = 2 + int($p->{pick} * 38);
		tell_proxy($t->{compute}{proxy}, "delay $delay");
		usleep(300_000 + $p->{duration} * 1_200_000);
		$t->fault_is_over;
		tell_proxy($t->{compute}{proxy}, 'pass');
		return sprintf '%d ms, for %d ms', $delay, 300 + $p->{duration} * 1200;
	},
	net_hold => sub {
		my ($t, $p) = @_;
		my $direction = pick($p->{pick}, 'out', 'in', 'both');
		my $lost = $p->{variant} < 0.5;
		my $proxy = $t->{compute}{proxy};
		tell_proxy($proxy, "hold $direction");
		usleep($p->{duration} * 2_000_000);
		return sprintf '%s for %d ms%s%s', $direction, $p->{duration} * 2000, $lost ? ', what was held is lost' : '',
		  $t->maybe_kill_compute($p, sub {
			return unless $proxy->{pid};
			tell_proxy($proxy, 'cut') if $lost;
			tell_proxy($proxy, 'pass');
		  });
	},
	fill_store => sub {
		my ($t, $p) = @_;
		my $leave = int($p->{pick} * 8 * 1024 * 1024);
		my $kill_store = $p->{variant} < 0.5;
		$t->fill_disk($t->{store_fs}, $leave);
		usleep($p->{duration} * 1_000_000);
		if ($kill_store)
		{
			$t->{store}->kill9;
			$t->start_store;
			usleep($p->{duration} * 500_000);
		}
		return sprintf '%d KB left%s%s', $leave / 1024, $kill_store ? ', store killed' : '',
		  $t->maybe_kill_compute($p, sub { unlink "$t->{store_fs}/filler" });
	},
	fill_compute => sub {
		my ($t, $p) = @_;
		my $leave = $p->{pick} < 0.5 ? 0 : int($p->{pick} * 2 * 1024 * 1024);
		$t->note_shared_memory($t->{compute});
		$t->fill_disk($t->{compute_fs}, $leave);
		# force the next WAL file to be created
		$t->{compute}->psql('SELECT pg_switch_wal()', timeout => 30) if $p->{variant} < 0.5;
		usleep($p->{duration} * 1_500_000);
		$t->fault_is_over;
		unlink "$t->{compute_fs}/filler";
		$t->{may_end} = 1;		# no room for WAL is a PANIC
		return sprintf '%d KB left', $leave / 1024;
	},
	move_clean => sub {
		my ($t, $p) = @_;
		my $c = $t->{compute};
		my @all = $c->processes;
		my $mode = pick($p->{variant}, 'fast', 'immediate');
		$t->note_shared_memory($c);
		$t->fault_is_over;
		$t->command('compute', 'stop', '-D', $c->{dir}, '-m', $mode);
		$t->compute_is_gone($c, @all);
		$t->throw_away($c);
		$t->{compute} = $t->start_compute;
		return $mode;
	},
	move_killed => sub {
		my ($t, $p) = @_;
		my $c = $t->{compute};
		$t->kill_compute($c);
		$t->fault_is_over;
		$t->throw_away($c, killed => 1);
		$t->{compute} = $t->start_compute;
		return '';
	},
	# a second compute takes the branch over while the first runs, is stopped, or is cut off: the first must end itself
	takeover => sub {
		my ($t, $p) = @_;
		my $old = $t->{compute};
		my $variant = pick($p->{variant}, 'runs', 'is asleep', 'is cut off');
		my @old = $old->processes;
		$t->note_shared_memory($old);
		$t->stop_pids(@old) if $variant eq 'is asleep';
		tell_proxy($old->{proxy}, 'hold both') if $variant eq 'is cut off';
		my $new = $t->start_compute;
		$new->sql('SELECT txid_current()');
		$t->{compute} = $new;
		$t->tell_address;
		$t->fault_is_over;
		tell_proxy($old->{proxy}, 'pass') if $variant eq 'is cut off';
		$t->go_on_pids(@old) if $variant eq 'is asleep';
		$t->compute_is_gone($old, @old);
		my $log = $old->log_content;
		$t->wrong("the older compute's log does not say that there is a newer one") unless $log =~ /FATAL:.*newer compute/;
		$t->throw_away($old);
		return "the older one $variant";
	},
);

# Errors that an action may cause.
our %explained_errors = (fill_compute => qr/^E \d+ \d+ (53100|XX000 ERROR:  checkpoint request failed)/);

1;
