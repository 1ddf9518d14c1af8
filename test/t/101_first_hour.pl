# The first hour of README.md, line by line as it is typed, except for make, paths and ports. Every
# command must succeed.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $dir = PageserverTest::test_dir();
my $text = PostgreSQL::Test::Utils::slurp_file("$ENV{PAGESERVER_TOP}/README.md");
my ($lines) = $text =~ /^## A first hour\n.*?^```\n(.*?)^```/ms or BAIL_OUT('README.md has no section "A first hour"');
my %port = map { $_ => PageserverTest::free_port() } $lines =~ /-p (\d+)/g;

$lines =~ s!/srv/!$dir/!g;
$lines =~ s!\bstore\.log!$dir/store.log!;
$lines =~ s!-p (\d+)!-p $port{$1}!g;
my @commands = grep { /\S/ && !/^make\b/ } split /\n/, $lines;

# A shell of its own for each line; lines that set something are repeated in it.
my $environment = join ';', grep { /^export/ } @commands;
$environment =~ s!/usr/lib/postgresql/15/bin!PageserverTest::bindir()!e;
for my $command (grep { !/^export/ } @commands)
{
	my $h = IPC::Run::start([ 'sh', '-c', "$environment; $command" ], '<', \undef, '>', "$dir/out", '2>', "$dir/err");
	$h->finish;
	is($h->result(0), 0, $command =~ s/\s*#.*//r) or diag(PostgreSQL::Test::Utils::slurp_file("$dir/out") . PostgreSQL::Test::Utils::slurp_file("$dir/err"));
}
cmp_ok(scalar(@commands), '>', 12, 'the first hour has many commands');
done_testing();

END
{
	my $code = $?;
	# If a line has failed, this stops what others have started.
	for my $path (glob "$dir/compute*")
	{
		system(PageserverTest::bindir() . "/pageserver_ctl compute stop -q -m immediate -D $path >/dev/null 2>&1");
	}
	system(PageserverTest::bindir() . "/pageserver_ctl stop -q -m immediate -D $dir/store >/dev/null 2>&1");
	$? = $code;
}
