# The settings of a branch are kept with it. A compute in an empty directory has them, and a new branch
# has its parent's. Changes in the directory of a compute are kept, too; versions can be shown and
# reverted to.
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

is_deeply(versions('main'), [], 'a new branch has no versions of settings');
# temporary files of edits that are left behind
my %before = map { ($_ => 1) } glob '/tmp/pageserver_ctl.*';
sub left { return join ' ', grep { !$before{$_} } glob '/tmp/pageserver_ctl.*'; }
like(settings('get', 'main', 'pg_hba.conf'), qr/^local +all +all +trust/m, 'pg_hba.conf of initdb is shown');
like(settings('get', 'main'), qr/^max_connections = '100'\t# postgresql.conf$/m, 'all settings are listed');
$store->ctl_ok('set', 'settings', 'set', 'main', 'work_mem=7MB', q(search_path="a b", 'c'), 'pageserver_smgr.cache_size=64MB', '-q');
is(settings('get', 'main', 'work_mem'), "7MB\n", 'a setting can be read back');
is(settings('get', 'main', 'search_path'), qq("a b", 'c'\n), 'a setting with quotes can be read back');
is_deeply(versions('main'), [1], 'a version');
$store->ctl_ok('a setting is set again', 'settings', 'set', 'main', 'work_mem=8MB', '-o', '-c maintenance_work_mem=33MB');
is(() = settings('get', 'main', 'postgresql.auto.conf') =~ /work_mem/g, 1, 'a setting is stored once');
is(decode_json(settings('get', 'main', 'work_mem', '--json'))->{value}, '8MB', 'as JSON');
is(settings('get', 'main', 'options'), "-c maintenance_work_mem=33MB\n", 'options');
{
	local $ENV{EDITOR} = q(sed -i '$ahost all all 10.0.0.0/8 reject');
	delete local $ENV{VISUAL};
	$store->ctl_ok('edit', 'settings', 'edit', 'main', 'pg_hba.conf');
	local $ENV{EDITOR} = 'true';
	like(settings('edit', 'main'), qr/Nothing was changed/, 'an edit that changes nothing');
	local $ENV{EDITOR} = 'false';
	my $kept = qr/your changes are in "(\/tmp\/pageserver_ctl.[^"]*)"/;
	unlike(settings('edit', 'main'), $kept, 'an editor that fails leaves nothing behind');
	like(settings('edit', 'main'), qr/editor "false" failed/, 'an editor that fails is named');
	local $ENV{EDITOR} = q(sh -c 'echo more >>"$0"; exit 1');
	my ($path) = settings('edit', 'main') =~ $kept;
	like(PostgreSQL::Test::Utils::slurp_file($path), qr/^more$/m, 'the text of an editor that fails is kept if it was changed');
	PageserverTest::remove_tree($path =~ s/\/[^\/]+$//r);
}
is_deeply(versions('main'), [ 1, 2, 3 ], 'three versions');

# If the store does not accept the edited text, it is kept in a file, which is named; otherwise no file is
# left.
for ([ 'it was changed meanwhile', 'pageserver_ctl settings set dev0 work_mem=3MB -q', qr/changed/ ],
	[ 'the branch was deleted', 'pageserver_ctl branch delete dev0 -q', qr/does not exist/ ],
	[ 'the store was killed', 'kill -9 $STORE_PID', qr/server closed the connection/ ])
{
	my ($what, $meanwhile, $message) = @$_;
	$store->ctl('branch', 'create', 'dev0', '--from', 'main');
	local $ENV{PAGESERVER_STORE} = $store->dir;
	local $ENV{STORE_PID} = $store->{pid};
	local $ENV{EDITOR} = qq(sh -c '$meanwhile; echo "# long work" >>"\$0"');
	delete local $ENV{VISUAL};
	my ($rc, $out, $err) = $store->ctl('settings', 'edit', 'dev0', 'pg_hba.conf');
	isnt($rc, 0, "$what: refused");
	like($err, $message, "$what: why");
	my ($path) = $err =~ /Your changes are in "([^"]+)"/;
	is($path, left() . '/pg_hba.conf', "$what: the file is kept");
	like(PostgreSQL::Test::Utils::slurp_file($path), qr/^local +all.*^# long work$/ms, "$what: the file has the edited text");
	PageserverTest::remove_tree($path =~ s/\/[^\/]+$//r);
}
$store->kill9;
$store->start;
{
	local $ENV{EDITOR} = q(sh -c 'printf "# gr\\374n\\n" >>"$0"');
	delete local $ENV{VISUAL};
	$store->ctl_ok('edit', 'settings', 'edit', 'main', 'pg_hba.conf');
	like(settings('get', 'main', 'pg_hba.conf'), qr/^# gr\xfcn$/m, 'a comment that is not UTF-8');
	is(left(), '', 'no file is left behind');
}

# invalid settings, and settings that cannot be set
like(settings('set', 'main', 'work_mem'), qr/^exit code 2/, 'set without a value');
like(settings('set', 'main', 'a b=c'), qr/^exit code 2/, 'set with an invalid name');
like(settings('set', 'main', 'pageserver_smgr.Generation=1'), qr/^exit code 6: .*it identifies the compute/s, 'settings that identify the compute cannot be set');
like(settings('get', 'main', 'nonsense'), qr/^exit code 4/, 'get of a setting that is not set');
like(settings('revert', 'main', '99'), qr/^exit code 4/, 'revert to a version that does not exist');
like(settings('get', 'nobody'), qr/^exit code 4/, 'get of a branch that does not exist');

# a compute in an empty directory
my $compute = $store->start_compute('main');
$compute->sql_is(q(SELECT string_agg(current_setting(n), '|') FROM unnest(ARRAY['work_mem', 'search_path', 'pageserver_smgr.cache_size']) n),
	q(8MB|"a b", 'c'|64MB), 'a compute in an empty directory has the settings');
like(PostgreSQL::Test::Utils::slurp_file($compute->dir . '/pg_hba.conf'), qr/^host all all 10.0.0.0\/8 reject$/m, 'a compute in an empty directory has pg_hba.conf');
$compute->stop;

# a branch of it, one at an earlier LSN, one that is restored, one that is reset
$store->ctl_ok('branch of it', 'branch', 'create', 'dev', '--from', 'main');
is(settings('get', 'dev', 'work_mem'), "8MB\n", 'a new branch has the settings of its parent');
is_deeply(versions('dev'), [1], 'a new branch has them as its first version');
$store->ctl_ok('a setting of the new branch', 'settings', 'set', 'dev', 'work_mem=9MB');
is(settings('get', 'main', 'work_mem'), "8MB\n", 'a setting of a branch does not change its parent');
$store->ctl_ok('reset', 'branch', 'reset', 'dev');
is(settings('get', 'dev', 'work_mem'), "9MB\n", 'a reset does not change settings');
$store->ctl_ok('revert', 'settings', 'revert', 'main', '1');
is(settings('get', 'main', 'work_mem'), "7MB\n", 'a reverted setting has its earlier value');
is(settings('get', 'main', 'options'), '', 'options are reverted, too');
$store->ctl_ok('reset of a setting', 'settings', 'reset', 'main', 'work_mem', 'search_path');
like(settings('get', 'main', 'work_mem'), qr/^exit code 4/, 'a setting is not set after its reset');

# settings that are changed in a compute survive a stop, a start and the loss of the directory
my $dir = "$scratch/dir";
my $port = PageserverTest::free_port();
sub start { my ($what, $d, @args) = @_; return $store->ctl_ok($what, 'compute', 'start', 'main', '-D', $d, '-p', $port, @args); }
sub q { my ($sql, $d) = @_; return `psql -XAtq -h '@{[ $d // $dir ]}' -p $port -U postgres -d postgres -c "$sql"`; }
start('a compute', $dir, '-o', '-c maintenance_work_mem=44MB');
main::q('ALTER SYSTEM SET max_connections = 150');
PostgreSQL::Test::Utils::append_to_file("$dir/pg_hba.conf", "host all all 10.1.0.0/16 reject\n");
$store->ctl_ok('stop', 'compute', 'stop', '-D', $dir);
is(settings('get', 'main', 'max_connections'), "150\n", 'a stop keeps what ALTER SYSTEM has set');
is(settings('get', 'main', 'options'), "-c maintenance_work_mem=44MB\n", 'a stop keeps the options of the start');
PageserverTest::remove_tree($dir);
start('in a directory of its own', $dir);
is(main::q('SHOW max_connections') . main::q('SHOW maintenance_work_mem'), "150\n44MB\n", 'a compute in a directory of its own has the settings');
like(PostgreSQL::Test::Utils::slurp_file("$dir/pg_hba.conf"), qr/10.1.0.0/, 'a compute in a directory of its own has pg_hba.conf');
my $newest = versions('main')->[-1];
start('in the same directory', $dir);
is(versions('main')->[-1], $newest, 'no new version when nothing was changed');
# changed in the directory of a running compute, which is then killed
main::q('ALTER SYSTEM SET max_connections = 160');
start('started again', $dir, '-o', '');
is(settings('get', 'main', 'max_connections') . settings('get', 'main', 'options'), "160\n", 'a start keeps a setting that was changed before a kill, and removes options');
# changed while the compute runs, whose machine may be lost at any time
main::q('ALTER SYSTEM SET max_connections = 165');
PageserverTest::wait_until(sub { settings('get', 'main', 'max_connections') eq "165\n" }, 'the supervisor to keep it');
# changed in the branch
$store->ctl_ok('set', 'settings', 'set', 'main', 'max_connections=170');
start('started again', $dir);
is(main::q('SHOW max_connections'), "170\n", 'a setting of the branch is used if the directory was not changed');
# changed in both places
$store->ctl_ok('set', 'settings', 'set', 'main', 'max_connections=180');
main::q('ALTER SYSTEM SET work_mem = \'9MB\'');
my ($rc, $out, $err) = $store->ctl('compute', 'start', 'main', '-D', $dir, '-p', $port);
like($err, qr/settings were changed both in .* and in branch "main" \(version \d+\)/, 'changed in both places: a warning');
is(main::q('SHOW max_connections') . main::q('SHOW work_mem'), "170\n9MB\n", 'the directory wins');
# Settings that PostgreSQL rejects are not kept.
PostgreSQL::Test::Utils::append_to_file("$dir/postgresql.conf", "nonsense = 'x\n");
$newest = versions('main')->[-1];
$store->ctl_fails_like(qr/PostgreSQL rejected the settings/, 'settings that are wrong', 'compute', 'start', 'main', '-D', $dir);
is(versions('main')->[-1], $newest, 'rejected settings are not kept with the branch');
my $conf = PostgreSQL::Test::Utils::slurp_file("$dir/postgresql.conf");
open my $f, '>', "$dir/postgresql.conf" or die;
print $f $conf =~ s/^nonsense.*\n//mr;
close $f;
start('a start with the settings corrected', $dir);
# Settings that identify the compute cannot be set by anybody.
like(main::q("ALTER SYSTEM SET $_ = '1'") . `psql -XAtq -h '$dir' -p $port -U postgres -d postgres -c "ALTER SYSTEM SET $_ = '1'" 2>&1`, qr/cannot be changed/, "ALTER SYSTEM SET $_")
  for map { "pageserver_smgr.$_" } qw(store tenant timeline generation checkpoint_lsn);
my $identity = PostgreSQL::Test::Utils::slurp_file("$dir/pageserver_smgr.conf");
for ([ store => '', 'The parameter can be set or removed only at server start' ],
	[ store => 'host=a nonsense=b', 'not a valid libpq connection string: invalid connection option "nonsense"' ],
	[ tenant => 'abc', 'must be 32 hexadecimal digits' ],
	[ timeline => '0123456789abcdef0123456789abcdeg', 'must be 32 hexadecimal digits' ],
	[ generation => '-1', 'must be a decimal number of at most 64 bits' ],
	[ generation => '99999999999999999999999', 'must be a decimal number of at most 64 bits' ],
	[ checkpoint_lsn => '0x15', 'must be a WAL location, such as "0/1500028"' ])
{
	my ($name, $value, $detail) = @$_;
	my $before = -s "$dir/log/postgres.log";
	PostgreSQL::Test::Utils::append_to_file("$dir/pageserver_smgr.conf", "pageserver_smgr.$name = '$value'\n");
	main::q('SELECT pg_reload_conf()');
	PageserverTest::wait_until(
		sub { PostgreSQL::Test::Utils::slurp_file("$dir/log/postgres.log", $before) =~ /invalid value for parameter "pageserver_smgr.$name": "\Q$value\E"\n.*\Q$detail\E/ },
		"the error about $name = '$value'");
	open $f, '>', "$dir/pageserver_smgr.conf" or die;
	print $f $identity;
	close $f;
}
PostgreSQL::Test::Utils::append_to_file("$dir/postgresql.auto.conf", "pageserver_smgr.generation = '1'\n");
($rc, $out, $err) = $store->ctl('compute', 'start', 'main', '-D', $dir, '-p', $port);
is($rc, 0, 'a start with such a line in postgresql.auto.conf') or diag($err);
like($err, qr/removed setting "pageserver_smgr.generation"/, 'the line is removed, with a message');
# A branch of the branch, and a reset, do not have the command-line options of another compute.
$store->ctl_ok('options', 'settings', 'set', 'main', '-o', '-c work_mem=10MB');
$store->ctl_ok('branch', 'branch', 'create', 'child', '--from', 'main');
is(settings('get', 'child', 'options') . settings('get', 'child', 'max_connections'), "170\n", 'a branch has the files, not the options');
# A compute can be stopped while the store is down.
main::q('ALTER SYSTEM SET max_connections = 190');
$store->stop;
is(($store->ctl('compute', 'stop', '-D', $dir, '-m', 'immediate'))[0], 0, 'stopped without the store');
$store->start;
start('the next start', $dir);
is(settings('get', 'main', 'max_connections'), "190\n", 'the next start keeps the settings');
# A directory still belongs to its branch when that is restored; it does not belong to another branch.
my $before = main::q('SELECT pg_current_wal_flush_lsn()');
chomp $before;
main::q('CREATE TABLE later()');
$store->ctl_ok('stop', 'compute', 'stop', '-D', $dir);
$store->ctl_ok('restore', 'branch', 'restore', "main\@$before");
start('after a restore', $dir);
is(main::q("SELECT to_regclass('later') IS NULL, current_setting('max_connections')"), "t|190\n", 'it is the restored branch, with its settings');
$store->ctl_ok('stop', 'compute', 'stop', '-D', $dir);
$store->ctl_fails_like(qr/belongs to a compute of another branch \("main"\)/, 'another branch', 'compute', 'start', 'child', '-D', $dir, '-p', $port);
$store->ctl_ok('set', 'settings', 'set', 'main', 'work_mem=1MB', '-o', '', '-q');

# Of many versions, the last 20 are kept; also across a restart.
$store->ctl_ok("version $_", 'settings', 'set', 'main', "work_mem=${_}MB", '-q') for 10 .. 30;
$store->stop;
$store->start;
my $last = versions('main')->[-1];
is_deeply(versions('main'), [ $last - 19 .. $last ], 'the last 20 are kept');
is(settings('get', 'main', 'work_mem'), "30MB\n", 'the newest version is used');

# A damaged newest version is reported, and an earlier one can be reverted to.
my ($file) = glob $store->dir . '/tenants/*/timelines/*/settings-*' . $last . '.json';
my $text = PostgreSQL::Test::Utils::slurp_file($file);
open my $new, '>', $file or die;
print $new $text =~ s/30MB/31MB/r;
close $new;
like(settings('get', 'main', 'work_mem'), qr/^exit code 9: .*settings-0+$last.json" has a wrong checksum/s, 'a damaged version is reported');
$store->ctl_fails_like(qr/settings-0+$last.json/, 'no compute starts with a damaged version', 'compute', 'start', 'main', '-D', "$scratch/c");
$store->ctl_ok('revert to the version before the damaged one', 'settings', 'revert', 'main', $last - 1);
is(settings('get', 'main', 'work_mem'), "29MB\n", 'the reverted version is used');
done_testing();
