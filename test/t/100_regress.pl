# make installcheck: the SQL of the extension, on a compute; and its message if the server is not a
# compute.
use strict;
use warnings;
use PageserverTest;
use StockServer;
use Test::More;

my $top = $ENV{PAGESERVER_TOP};
my $dir = PageserverTest::test_dir();

# (exit code, output) of make installcheck, as its user has PGHOST and PGPORT
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
is($rc, 0, 'on a compute') or diag($out . (-e "$top/regression.diffs" ? PostgreSQL::Test::Utils::slurp_file("$top/regression.diffs") : ''));
like($out, qr/All \d+ tests passed/, 'all pass');
$c->stop;
($rc, $out) = installcheck($c);
isnt($rc, 0, 'without a server');
like($out, qr/could not connect to a server/, 'says so');
my $stock = StockServer->new("$dir/stock");
($rc, $out) = installcheck($stock);
isnt($rc, 0, 'on another server');
like($out, qr/the server is not a compute/, 'says so');
unlike($out, qr/extension\s+\.\.\./, 'and runs no test');
$stock->stop;
$store->stop;
done_testing();
