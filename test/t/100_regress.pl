# make installcheck runs the extension's SQL tests on a compute. On a server that is not a compute, or
# without a server, it fails with a message that says why.
use strict;
use warnings;
use PageserverTest;
use StockServer;
use Test::More;

my $top = $ENV{PAGESERVER_TOP};
my $dir = PageserverTest::test_dir();

# Returns (exit code, output) of make installcheck, as its user has PGHOST and PGPORT.
sub installcheck
{
	my ($server) = @_;
	my $out = '';
	local %ENV = (%ENV, PGHOST => $server->{host}, PGPORT => $server->port, PGUSER => 'postgres');
	my $h = IPC::Run::start([ 'make', '-s', '-C', $top, '-f', 'extension.mk', 'installcheck' ], '<', \undef, '>&', \$out);
	$h->finish;
	return ($h->result(0), $out);
}

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');
my ($rc, $out) = installcheck($c);
is($rc, 0, 'make installcheck on a compute') or diag($out . (-e "$top/regression.diffs" ? PostgreSQL::Test::Utils::slurp_file("$top/regression.diffs") : ''));
like($out, qr/All \d+ tests passed/, 'all tests pass on a compute');
$c->stop;
($rc, $out) = installcheck($c);
isnt($rc, 0, 'make installcheck fails without a server');
like($out, qr/could not connect to a server/, 'it says that it could not connect');
my $stock = StockServer->new("$dir/stock");
($rc, $out) = installcheck($stock);
isnt($rc, 0, 'make installcheck fails on another server');
like($out, qr/the server is not a compute/, 'it says that the server is not a compute');
unlike($out, qr/extension\s+\.\.\./, 'it runs no test on another server');
$stock->stop;
$store->stop;
done_testing();
