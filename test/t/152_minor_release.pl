# A minor release of the same major version that calls storage managers in an older way (15.10 and before)
# is refused with a message. The test turns the installed release into such a release by renaming the
# function by which it is recognized.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $dir = PageserverTest::test_dir();
my $binary = PostgreSQL::Test::Utils::slurp_file(PageserverTest::bindir() . '/postgres');
cmp_ok($binary =~ s/\0smgrtruncate2\0/\0smgrtruncateX\0/, '>', 0, 'the name of the function is in the binary');
mkdir "$dir/bin";
# It looks for the libraries next to itself.
chomp(my $libdir = `$ENV{PG_CONFIG} --pkglibdir`);
symlink $libdir, "$dir/lib";
open my $f, '>', "$dir/bin/postgres" or die "$dir/bin/postgres: $!";
binmode $f;
print $f $binary;
close $f;
chmod 0755, "$dir/bin", "$dir/bin/postgres";
$store->ctl_fails_like(qr/FATAL:  pageserver_smgr requires PostgreSQL 15\.11 or a newer minor release/, 'a compute on an older minor release', 'compute', 'start', 'main',
	'-D', "$dir/c", '-p', PageserverTest::free_port(), '--bindir', "$dir/bin", '-o', "-c unix_socket_directories=$dir");
my $c = $store->start_compute('main');
$c->sql_is('SELECT 1', 1, 'a compute on this release still works');
$c->stop;
$store->stop;
done_testing();
