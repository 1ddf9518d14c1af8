# Torture: whatever is killed, stopped, cut off or full, acknowledged transactions are present, failed
# ones are not, and nothing is left behind (test/torture/README.md).
#	make check-torture ROUNDS=n SEED=n ACTIONS="net_cut ..."
use strict;
use warnings;
use lib "$ENV{PAGESERVER_TOP}/test/torture";
use PageserverTest;
use Test::More;
use Torture;

my $rounds = $ENV{TORTURE_ROUNDS} || 20;
my $seed = $ENV{TORTURE_SEED} || time;
my $rounds_per_store = 25;		# at most
my $rounds_of_store = 0;
my %summary;
my $acknowledged = 0;

# test/run-tap mounts tmpfs there
for my $fs ('small', 'small_compute')
{
	die "\"$ENV{TESTDATADIR}/$fs\" is no small file system: run the tests through test/run-tap as root or with sudo\n"
	  unless -d "$ENV{TESTDATADIR}/$fs" && `stat -f -c %T $ENV{TESTDATADIR}/$fs` =~ /tmpfs/;
}
my $t = Torture->new($seed, "$ENV{TESTDATADIR}/small", "$ENV{TESTDATADIR}/small_compute");
note("seed $seed, $rounds rounds");

sub line
{
	my ($r) = @_;
	my $count = $r->{count};
	return sprintf 'round %d seed %d: %s%s, after %.2f s; acknowledged %d, failed %d, unknown %d, prepared %d; first answer after %s s; %.1f s; %s',
	  $r->{round}, $seed, $r->{action}, $r->{detail} eq '' ? '' : " ($r->{detail})", $r->{moment} // 0, $count->{A} // 0, $count->{F} // 0,
	  ($count->{U} // 0) + ($count->{Q} // 0) + ($count->{C} // 0) + ($count->{D} // 0), $count->{P} // 0,
	  defined $r->{recovery} ? sprintf('%.2f', $r->{recovery}) : '-', $r->{seconds}, @{ $r->{wrong} } ? 'WRONG' : 'well';
}

for my $round (1 .. $rounds)
{
	$t->new_store if $rounds_of_store++ == 0;
	my $r = $t->round;
	my $line = line($r);
	PostgreSQL::Test::Utils::append_to_file("$t->{dir}/torture.log", "$line\n" . join('', map { "\t$_\n" } @{ $r->{wrong} }));
	note($line);
	push @{ $summary{ $r->{action} } }, $r;
	$acknowledged += $r->{count}{A} // 0;
	if (!is(scalar(@{ $r->{wrong} }), 0, "round $round: $r->{action}"))
	{
		diag($line);
		diag($_) for @{ $r->{wrong} };
		diag($t->{compute}->log_tail) if $t->{compute};
		diag($t->{store}->log_tail);
		diag("to repeat this round: make check-torture ROUNDS=$round SEED=$seed" . ($ENV{TORTURE_ACTIONS} ? " ACTIONS='$ENV{TORTURE_ACTIONS}'" : ''));
		# The contents of the small file systems would be lost.
		system('cp', '-a', $t->{store}{dir}, "$t->{dir}/failed_store");
		system('cp', '-a', $t->{compute}{dir}, "$t->{dir}/failed_compute") if $t->{compute};
		last;
	}
	if ($rounds_of_store == $rounds_per_store || $round == $rounds || $t->store_is_old)
	{
		$rounds_of_store = 0;
		my @strays = $t->end_store;
		is("@strays", '', "store $t->{stores}: nothing is left behind");
	}
}

note(sprintf '%-18s %6s %7s %7s %s', 'action', 'rounds', 'p50 s', 'max s', 'wrong');
for my $action (sort keys %summary)
{
	my @rounds = @{ $summary{$action} };
	my @times = sort { $a <=> $b } map { $_->{recovery} // () } @rounds;
	note(sprintf '%-18s %6d %7.2f %7.2f %d', $action, scalar(@rounds), $times[ $#times / 2 ] // -1, $times[-1] // -1,
		scalar(grep { @{ $_->{wrong} } } @rounds));
}
my @names = Torture::action_names();
my @all = map { @$_ } values %summary;
note(sprintf '%d rounds, %d commits acknowledged, %d wrong', scalar(@all), $acknowledged, scalar(grep { @{ $_->{wrong} } } @all));
is_deeply([ sort keys %summary ], \@names, 'each kind of action was used') if @all == $rounds && $rounds >= @names;
cmp_ok($acknowledged, '>', $rounds * 20, 'enough commits were acknowledged') if @all == $rounds;
done_testing();
