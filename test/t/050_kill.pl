# Kills: whatever dies, every acknowledged commit is there.
#	PAGESERVER_KILL_ROUNDS=n for more rounds than 20.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use Time::HiRes qw(usleep time);

my $rounds = $ENV{PAGESERVER_KILL_ROUNDS} // 20;
my $seed = $ENV{PAGESERVER_SEED} // time;
srand($seed);
note("seed $seed");

my $conf = "shared_buffers = 2MB\npageserver_smgr.cache_size = 4MB\n";
my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 16MB\n");
my $dir = PageserverTest::test_dir();
my $ledger = "$ENV{PAGESERVER_TOP}/test/load/ledger";
my $file = "$dir/ledger";

$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => $conf);
is(system($ledger, 'init', $c->connstr, 4), 0, 'ledger init');

# the clients read where the compute is from this file
sub tell_address
{
	PostgreSQL::Test::Utils::append_to_file("$dir/address.new", $c->connstr . " connect_timeout=5\n");
	rename "$dir/address.new", "$dir/address" or die;
}

for my $round (1 .. $rounds)
{
	my $what = ('compute', 'store', 'both')[ $round % 3 ];
	tell_address();
	my $load = IPC::Run::start([ $ledger, 'run', "\@$dir/address", $file, 6, 4 ]);
	usleep(300_000 + rand(1_200_000));
	note("round $round: killing $what");
	if ($what eq 'both')
	{
		$store->kill9;
		$c->kill9;
		$store->start;
	}
	elsif ($what eq 'store')
	{
		$store->kill9;
		usleep(rand(500_000));
		$store->start;
	}
	else
	{
		$c->kill9;
	}
	if ($what ne 'store')
	{
		$c = $store->start_compute('main', conf => $conf);
		tell_address();
	}
	$load->finish;
	is($load->result(0), 0, "round $round: the load ran to its end");
	my $out = `$ledger check '@{[ $c->connstr ]}' $file`;
	is($? >> 8, 0, "round $round ($what): $out") or diag($out . $c->log_tail . $store->log_tail);
}
my $out = `$ledger check '@{[ $c->connstr ]}' $file`;
like($out, qr/^(\d{3,}) acknowledged/, "some hundred commits at least: $out");
$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--install-missing', '--heapallindexed');
$c->stop;
$store->stop;
done_testing();
