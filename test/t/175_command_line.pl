# pageserver_ctl as its users type it: where options may be placed, what names a store, exit codes, one
# line on success or JSON, and unusual environments (libpq's variables, odd paths, wrong clocks).
use strict;
use warnings;
use PageserverTest;
use IPC::Run ();
use JSON::PP;
use Test::More;

my $store = PageserverTest->new_store('main');
my $dir = $store->dir;
my $scratch = PageserverTest::test_dir();
my $ctl = PageserverTest::bindir() . '/pageserver_ctl';

# Returns (exit code, standard output, standard error) of pageserver_ctl, with no store in the
# environment.
sub ctl
{
	my (@args) = @_;
	my ($out, $err) = ('', '');

	delete local $ENV{PAGESERVER_STORE};
	my $h = IPC::Run::start([ $ctl, @args ], '<', \undef, '>', \$out, '2>', \$err);
	$h->finish;
	return ($h->result(0), $out, $err);
}

sub exits
{
	my ($code, $what, @args) = @_;
	my ($rc, $out, $err) = ctl(@args);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($rc, $code, $what) or diag("$out$err");
	return $out . $err;
}

# ---- what names a store, and where it may be placed ----
{
	# Progress is printed to standard error, if initdb takes long.
	my ($rc, $out) = ctl('-S', $dir, 'branch', 'create', 'main');
	is($rc, 0, 'a branch is created');
	is($out =~ tr/\n//, 1, 'branch create prints one line');
}
exits(0, '--store before the command', "--store=$dir", 'branch', 'list');
exits(0, '-S after the command', 'branch', 'list', '-S', $dir);
exits(0, 'a connection string', '-S', "host=$dir port=" . $store->port, 'branch', 'list');
exits(0, 'a connection URI', '-S', 'postgresql:///?host=' . ($dir =~ s!/!%2F!gr) . '&port=' . $store->port, 'branch', 'list');
like(exits(2, 'an invalid connection string', '-S', 'hoost=x', 'branch', 'list'), qr/invalid connection option "hoost"/, 'the error names the invalid option');
{
	local %ENV = (%ENV, PGHOSTADDR => '127.0.0.9', PGOPTIONS => '-c nonsense=1', PGSERVICE => 'nowhere', PGSSLMODE => 'require',
		PGTARGETSESSIONATTRS => 'read-only', PGDATABASE => 'x', PGUSER => 'y', PGPORT => 1);
	exits(0, "libpq's variables do not name the store", '-S', $dir, 'branch', 'list');
}

# ---- exit codes ----
exits(2, 'no command');
exits(2, 'an unknown command', 'brunch', 'list');
exits(2, 'half a command', 'branch');
exits(2, 'an unknown option', 'branch', 'list', '--colour');
exits(2, 'an option of another command', 'branch', 'list', '-m', 'fast');
exits(2, 'an invalid mode', 'stop', '-D', $dir, '-m', 'slow');
exits(2, 'too many arguments', 'branch', 'list', 'x');
exits(4, 'no store in that directory', '-S', "$scratch/none", 'branch', 'list');
exits(4, 'no such branch', '-S', $dir, 'branch', 'rename', 'nobody', 'x');
exits(4, 'no such tenant', '-S', $dir, 'tenant', 'detach', 'nobody');
exits(5, 'a branch that exists', '-S', $dir, 'branch', 'create', 'main');
exits(5, 'a store that is running already', 'start', '-D', $dir);
exits(6, 'a parent', '-S', $dir, 'branch', 'reset', 'main');
exits(0, 'help of a command', 'branch', 'list', '--help');
exits(0, 'version', '--version');

# ---- output that cannot be written ----
# (exit code, standard error) of a command whose output goes there
sub full
{
	my ($to, @args) = @_;
	my $err = '';
	my $h = IPC::Run::start([ 'sh', '-c', "\"\$0\" \"\$@\" $to", $ctl, @args ], '<', \undef, '2>', \$err);
	$h->finish;
	return ($h->result(0), $err);
}
for my $case (
	[ 'a list', '-S', $dir, 'branch', 'list' ],
	[ 'a JSON text', '-S', $dir, 'branch', 'list', '--json' ],
	[ 'more than a buffer', 'help' ],
	[ 'help of a command', 'branch', 'list', '--help' ],
	[ 'the version', '--version' ])
{
	my ($what, @args) = @$case;
	my ($rc, $err) = full('>/dev/full', @args);
	is($rc, 1, "$what on a full disk: exit code");
	is($err, "pageserver_ctl: error: could not write to standard output: No space left on device\n", "$what: the reason");
}
is((full('>/dev/full', '-S', $dir, 'branch', 'rename', 'nobody', 'x'))[0], 4, 'another error keeps its exit code');
is_deeply([ full('>&-', '-q', '-S', $dir, 'branch', 'protect', 'main') ], [ 0, '' ], 'standard output is closed, but nothing is printed');
exits(0, 'unprotect', '-S', $dir, 'branch', 'unprotect', 'main');
{
	# a pipe that nobody reads any more
	pipe my $r, my $w or die "pipe: $!";
	close $r;
	for my $args ("-S '$dir' branch list", 'help')
	{
		open my $stdout, '>&', \*STDOUT or die "dup: $!";
		open STDOUT, '>&', $w or die "dup: $!";
		my $rc = system("'$ctl' $args 2>'$scratch/err'");
		open STDOUT, '>&', $stdout or die "dup: $!";
		is($rc >> 8, 1, 'output to a pipe that is closed: exit code');
		is(PostgreSQL::Test::Utils::slurp_file("$scratch/err"), '', 'output to a pipe that is closed: no message, as with SIGPIPE');
	}
}

# ---- names of branches ----
exits(0, "a name with \"/\" ($_)", '-S', $dir, 'branch', 'create', $_, '--from', 'main') for 'feature/x', 'a.b/c-d/e_f';
like(exits(1, "an invalid name: \"$_\"", '-S', $dir, 'branch', 'create', '--from', 'main', '--', $_), qr/cannot be the name of a branch/, 'the error says that the name is invalid')
  for '/x', 'x/', 'x//y', 'x/.y', 'x/../y', '-x', 'x y', "x\xff", 'x@y';
my $compute = $store->start_compute('feature/x');
$compute->sql_is('SELECT 1', '1', 'a compute on a branch with "/" in its name');

# ---- programs: those in the directory that pageserver_ctl runs from, not in the one that it was built for ----
$compute->sql('CREATE TABLE t AS SELECT 1 AS i');
$compute->stop;
$compute = $store->start_compute('feature/x');
$compute->sql('UPDATE t SET i = 2');
is(readlink("/proc/$compute->{pid}/exe"), PageserverTest::bindir() . '/postgres', "the compute's postgres is in the directory of pageserver_ctl");
my ($helper) = grep { PostgreSQL::Test::Utils::slurp_file("/proc/$_/cmdline") =~ /--single/ }
  split ' ', join ' ', map { PostgreSQL::Test::Utils::slurp_file($_) } glob "/proc/$store->{pid}/task/*/children";
is(readlink("/proc/$helper/exe"), PageserverTest::bindir() . '/postgres', "the redo helper's postgres is in the directory of pageserver_ctl");
like(PostgreSQL::Test::Utils::slurp_file("/proc/$helper/maps"), qr{ \Q@{[ PageserverTest::bindir() =~ s!/bin$!!r ]}\E/lib/pageserver_walredo\.so$}m,
	'the redo helper has the library of that installation');
$compute->stop;

# ---- success: one line, nothing, or JSON ----
is(exits(0, 'rename, quietly', '-q', '-S', $dir, 'branch', 'rename', 'feature/x', 'feature/y'), '', 'rename --quiet prints nothing');
sub json { my ($rc, $out) = ctl('-S', $dir, @_, '--json'); return eval { decode_json($out) } // "exit code $rc: $out"; }
is_deeply(json('branch', 'rename', 'feature/y', 'z'), { renamed => 'feature/y', name => 'z' }, 'rename as JSON');
is(json('branch', 'create', 'new', '--from', 'main')->[0]{name}, 'new', 'create');
is(json('branch', 'reset', 'new')->[0]{name}, 'new', 'reset');
is_deeply(json('branch', 'compact', 'new'), { compacted => 'new' }, 'compact');
is_deeply(json('branch', 'delete', 'new'), { deleted => 'new' }, 'delete');
is_deeply(json('tenant', 'detach', 'main'), { detached => 'main' }, 'detach');
is_deeply(json('tenant', 'attach', 'main'), { attached => 'main' }, 'attach');
is_deeply(json('export', 'main', '-D', "$scratch/plain"), { exported => 'main', directory => "$scratch/plain" }, 'export');

# ---- the settings of a store ----
for my $case ([ '/nowhere', qr/could not find the program "\/nowhere\/postgres"/ ], [ $scratch, qr/could not find the program/ ])
{
	my ($bindir, $message) = @$case;
	like(exits(1, "init with programs in $bindir", 'init', '-D', "$scratch/bad", '--bindir', $bindir), $message, 'the error says what is missing');
	ok(!-e "$scratch/bad", 'a failed init leaves nothing');
}
mkdir "$scratch/old";
for my $program (qw(postgres initdb))
{
	PostgreSQL::Test::Utils::append_to_file("$scratch/old/$program", "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n");
	chmod 0755, "$scratch/old/$program";
}
like(exits(1, 'init with programs of another version', 'init', '-D', "$scratch/bad", '--bindir', "$scratch/old"),
	qr/is "postgres \(PostgreSQL\) 9.6.24", expected PostgreSQL 15/, 'the error says which version');

# ---- paths that libpq and sockets do not support ----
for my $name ('a,b', 'a=b', q(it's "x" \\ $y), 'long' x 25)
{
	my $odd = "$scratch/$name";
	my $port = PageserverTest::free_port();
	my $log = "$scratch/odd.log";

	mkdir $odd or die "$odd: $!";
	exits(0, "store below \"$name\"", 'init', '-D', "$odd/store", '-p', $port);
	exits(0, 'started', 'start', '-D', "$odd/store", '-l', $log);
	is(exits(5, 'a second start', 'start', '-D', "$odd/store", '-l', $log) =~ /is already running/, 1, 'a second start says that the store is running');
	exits(0, 'a branch', 'branch', 'create', 'main', '-S', "$odd/store");
	my ($rc, $out) = ctl('status', '--json', '-D', "$odd/store");
	my $socket_dir = decode_json($out)->{unix_socket_directory};
	is((stat $socket_dir)[2] & 077, 0, "its socket is in a directory of the user's own");
	exits(0, 'stopped', 'stop', '-D', "$odd/store");
	ok(-d "$odd/store" && ($socket_dir =~ /^\Q$odd\E/ || !-e $socket_dir), 'a directory that was created for the socket is removed with it');
	exits(3, 'status after the stop', 'stop', '-D', "$odd/store");
	exits(7, 'the stopped store cannot be reached', 'branch', 'list', '-S', "$odd/store");
}

# ---- the socket of a compute is private, unless its owner says otherwise ----
for my $case ([ 'plain', sub { $_[0] } ], [ 'a b', sub { $_[0] } ], [ 'long' x 25, sub { qr/pageserver\.[0-9a-f]{16}$/ } ], [ 'c,d', sub { qr/pageserver\.[0-9a-f]{16}$/ } ])
{
	my ($name, $expected) = @$case;
	my $compute_dir = "$scratch/compute_$name";
	my $port = PageserverTest::free_port();
	my ($rc, $out) = ctl('compute', 'start', 'main', '-S', $dir, '-D', $compute_dir, '-p', $port, '-o', '-c listen_addresses=', '--json');
	is($rc, 0, "a compute in \"$name\"");
	my $socket_dir = decode_json($out)->{unix_socket_directory};
	like($socket_dir, $expected->($compute_dir) =~ /^\(/ ? $expected->() : qr/^\Q$compute_dir\E$/, 'the directory of its socket');
	is((stat $socket_dir)[2] & 077, 0, "the socket is in a directory of the user's own");
	is(`psql -XAt -h '$socket_dir' -p $port -U postgres -d postgres -c 'SHOW unix_socket_directories'`, qq("$socket_dir"\n), 'it can be connected to');
	PostgreSQL::Test::Utils::append_to_file("$compute_dir/postgresql.auto.conf", "unix_socket_directories = '$scratch'\n");
	exits(0, 'started again', 'compute', 'start', 'main', '-S', $dir, '-D', $compute_dir);
	is(`psql -XAt -h '$scratch' -p $port -U postgres -d postgres -c 'SELECT 1'`, "1\n", 'the owner has put the socket elsewhere');
	exits(0, 'stopped', 'compute', 'stop', '-D', $compute_dir);
	exits(0, 'reset of the setting', 'settings', 'reset', 'main', 'unix_socket_directories', '-S', $dir);
}

# ---- a store whose clock is ahead of the compute's: tar prints no warnings ----
{
	my ($lib) = glob '/usr/lib/*/faketime/libfaketime.so.1' or die 'no libfaketime';

	local %ENV = (%ENV, LD_PRELOAD => $lib, FAKETIME => '-90s', FAKETIME_DONT_FAKE_MONOTONIC => 1);
	unlike(exits(0, 'an export under a clock that is behind', 'export', 'main', '-D', "$scratch/behind", '-S', $dir), qr/in the future/,
		'the export prints no warnings about the clock');
}
done_testing();
