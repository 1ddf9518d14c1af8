# summary.pl: prints the table of docs/performance.md from the output of check-torture.
#	perl test/torture/summary.pl FILE
use strict;
use warnings;

my (%times, %rounds, %wrong, %sum);
my $rounds = 0;
while (<>)
{
	next unless /^(?:# )?round \d+ seed \d+: (\w+)(?: .*)?, after [\d.]+ s; acknowledged (\d+), failed (\d+), unknown (\d+), prepared \d+; first answer after ([\d.-]+) s; [\d.]+ s; (\w+)/;
	$rounds++;
	$rounds{$1}++;
	$wrong{$1} += $6 ne 'well';
	push @{ $times{$1} }, $5 if $5 ne '-';
	$sum{acknowledged} += $2;
	$sum{failed} += $3;
	$sum{unknown} += $4;
}
print "| action | rounds | first answer, p50 s | max s | wrong |\n|---|---|---|---|---|\n";
for my $action (sort keys %rounds)
{
	my @times = sort { $a <=> $b } @{ $times{$action} // [-1] };
	printf "| `%s` | %d | %.2f | %.2f | %d |\n", $action, $rounds{$action}, $times[ $#times / 2 ], $times[-1], $wrong{$action};
}
printf "%d rounds: %d transactions acknowledged, %d failed, %d unknown\n", $rounds, $sum{acknowledged}, $sum{failed}, $sum{unknown};
