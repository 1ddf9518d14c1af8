# pg_regress: the SQL of the extension, on a compute.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $top = $ENV{PAGESERVER_TOP};
my $dir = PageserverTest::test_dir();
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');
my @tests = map { m{([^/]+)\.sql$} } sort glob "$top/sql/*.sql";
cmp_ok(scalar(@tests), '>', 0, 'there are tests');
my $rc = system($ENV{PG_REGRESS}, '--use-existing', '--dbname=postgres', "--bindir=" . PageserverTest::bindir(), "--inputdir=$top", "--outputdir=$dir",
	'--host=' . $c->{host}, '--port=' . $c->port, '--user=postgres', @tests);
is($rc, 0, 'pg_regress') or diag(-e "$dir/regression.diffs" ? PostgreSQL::Test::Utils::slurp_file("$dir/regression.diffs") : '');
$c->stop;
$store->stop;
done_testing();
