# The settings of a branch are kept with it: an empty directory has them, a new
# branch its parent's; versions can be looked at and gone back to.
use strict;
use warnings;
use PageserverTest;
use JSON::PP;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch', 'branch', 'create', 'main');
my $scratch = PageserverTest::test_dir();

sub settings { my ($rc, $out, $err) = $store->ctl('settings', @_); return $rc == 0 ? $out : "exit code $rc: $err"; }
sub versions { return [ map { $_->{version} } @{ decode_json(settings('list', $_[0], '--json')) } ]; }

is_deeply(versions('main'), [], 'a fresh branch has none');
like(settings('get', 'main', 'pg_hba.conf'), qr/^local +all +all +trust/m, 'what initdb made is shown');
like(settings('get', 'main'), qr/^max_connections = '100'\t# postgresql.conf$/m, 'all that is set is listed');
$store->ctl_ok('set', 'settings', 'set', 'main', 'work_mem=7MB', q(search_path="a b", 'c'), 'pageserver_smgr.cache_size=64MB', '-q');
is(settings('get', 'main', 'work_mem'), "7MB\n", 'got back');
is(settings('get', 'main', 'search_path'), qq("a b", 'c'\n), 'with quotes');
is_deeply(versions('main'), [1], 'a version');
$store->ctl_ok('set again', 'settings', 'set', 'main', 'work_mem=8MB', '-o', '-c maintenance_work_mem=33MB');
is(() = settings('get', 'main', 'postgresql.auto.conf') =~ /work_mem/g, 1, 'a setting is there once');
is(decode_json(settings('get', 'main', 'work_mem', '--json'))->{value}, '8MB', 'as JSON');
is(settings('get', 'main', 'options'), "-c maintenance_work_mem=33MB\n", 'options');
{
	local $ENV{EDITOR} = q(sed -i '$ahost all all 10.0.0.0/8 reject');
	delete local $ENV{VISUAL};
	$store->ctl_ok('edit', 'settings', 'edit', 'main', 'pg_hba.conf');
	local $ENV{EDITOR} = 'true';
	like(settings('edit', 'main'), qr/Nothing was changed/, 'an edit that changes nothing');
	local $ENV{EDITOR} = 'false';
	like(settings('edit', 'main'), qr/editor "false" failed/, 'an editor that fails');
}
is_deeply(versions('main'), [ 1, 2, 3 ], 'three versions');

# what is no setting, or nobody's to set
like(settings('set', 'main', 'work_mem'), qr/^exit code 2/, 'no value');
like(settings('set', 'main', 'a b=c'), qr/^exit code 2/, 'no name');
like(settings('set', 'main', 'pageserver_smgr.Generation=1'), qr/^exit code 6: .*which compute this is/s, 'which compute it is cannot be set');
like(settings('get', 'main', 'nonsense'), qr/^exit code 4/, 'not set');
like(settings('revert', 'main', '99'), qr/^exit code 4/, 'no such version');
like(settings('get', 'nobody'), qr/^exit code 4/, 'no such branch');

# a compute in an empty directory
my $compute = $store->start_compute('main');
$compute->sql_is(q(SELECT string_agg(current_setting(n), '|') FROM unnest(ARRAY['work_mem', 'search_path', 'pageserver_smgr.cache_size']) n),
	q(8MB|"a b", 'c'|64MB), 'has the settings');
like(PostgreSQL::Test::Utils::slurp_file($compute->dir . '/pg_hba.conf'), qr/^host all all 10.0.0.0\/8 reject$/m, 'and pg_hba.conf');
$compute->stop;

# a branch of it, one at an earlier moment, one that is restored, one that is reset
$store->ctl_ok('branch of it', 'branch', 'create', 'dev', '--from', 'main');
is(settings('get', 'dev', 'work_mem'), "8MB\n", 'has them too');
is_deeply(versions('dev'), [1], 'as its first version');
$store->ctl_ok('its own', 'settings', 'set', 'dev', 'work_mem=9MB');
is(settings('get', 'main', 'work_mem'), "8MB\n", 'are not the parent\'s');
$store->ctl_ok('reset', 'branch', 'reset', 'dev');
is(settings('get', 'dev', 'work_mem'), "9MB\n", 'a reset is of data, not of settings');
$store->ctl_ok('revert', 'settings', 'revert', 'main', '1');
is(settings('get', 'main', 'work_mem'), "7MB\n", 'what it was');
is(settings('get', 'main', 'options'), '', 'all of it');
$store->ctl_ok('reset of a setting', 'settings', 'reset', 'main', 'work_mem', 'search_path');
like(settings('get', 'main', 'work_mem'), qr/^exit code 4/, 'it is not set any more');

# many versions: the last 20 stay; over a restart
$store->ctl_ok("version $_", 'settings', 'set', 'main', "work_mem=${_}MB", '-q') for 10 .. 30;
$store->stop;
$store->start;
is_deeply(versions('main'), [ 7 .. 26 ], 'the last 20 are kept');
is(settings('get', 'main', 'work_mem'), "30MB\n", 'the newest counts');

# a damaged newest version is told, and can be gone back from
my ($file) = glob $store->dir . '/tenants/*/timelines/*/settings-00000026.json';
my $text = PostgreSQL::Test::Utils::slurp_file($file);
open my $out, '>', $file or die;
print $out $text =~ s/30MB/31MB/r;
close $out;
like(settings('get', 'main', 'work_mem'), qr/^exit code 9: .*settings-00000026.json" has a wrong checksum/s, 'damage is told');
$store->ctl_fails_like(qr/settings-00000026.json/, 'no compute starts on guesses', 'compute', 'start', 'main', '-D', "$scratch/c");
$store->ctl_ok('back to the one before', 'settings', 'revert', 'main', '25');
is(settings('get', 'main', 'work_mem'), "29MB\n", 'which counts');
done_testing();
