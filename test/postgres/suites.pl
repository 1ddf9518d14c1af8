# Runs PostgreSQL's own suites on a stock server and on a compute, and compares the results and the data that they leave.
# Called by test/postgres/run, which prepares the sources.
#
#	1. The suites on a stock server, whose data directory is an export of the
#	   branch; then, with the same settings, port and paths, on a compute with the
#	   smallest caches.  All result files must be the same, byte for byte.
#	2. Between the core suites and those of contrib the compute is stopped: the
#	   next one has the same pg_dumpall, to the last value of each sequence.  At
#	   the end it is killed: the same, but sequences may have skipped values.
#	3. pg_amcheck on every database of both.
#	4. The oracle (test/lib/Oracle.pm) over the WAL of it all.
#
# Arguments: names of suites ("contrib" for all of contrib); without any, all suites.  known_differences has the known
# differences and their reasons.
use strict;
use warnings;

use File::Basename;
use File::Copy;
use File::Path qw(make_path);
use IPC::Run ();
use Oracle;
use PageserverTest;
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(time);

my $dir = PageserverTest::test_dir();
my $bindir = PageserverTest::bindir();
my $source = $ENV{PG_SOURCE};
my $port = PageserverTest::free_port();

# Backends of dblink and postgres_fdw connect to their own server here.
$ENV{PGHOST} = $dir;

# Settings from the suites' .conf files, and settings with which two stock servers always give the same results
# (docs/postgres-facts.md, section 11).
my $preload = 'pg_stat_statements';
my $settings = "shared_buffers=4MB\nwal_log_hints=on\nmax_connections=60\nmax_prepared_transactions=10\nwal_level=logical\nmax_replication_slots=4\n"
  . "logical_decoding_work_mem=64kB\nsynchronize_seqscans=off\ncompute_query_id=regress\nautovacuum_naptime=1d\n";

# Modules of contrib whose suites cannot run here.  Those without a suite for
# pg_regress are found by their Makefiles.
my %cannot = (
	basic_archive => 'archive_mode is off in a compute: the store has all WAL',
	sepgsql => 'needs a system that runs with SELinux and its policy',
);

# ---- the suites ----

# Variables of a module's Makefile as PGXS sees them, each a list of words.
sub make_variables
{
	my ($path, @names) = @_;
	my $rule = 'print-variables: ; @' . join('; ', map { "echo '$_ \$($_)'" } @names);
	my ($out, $err);
	IPC::Run::run [ 'make', '-s', '-C', $path, 'USE_PGXS=1', "PG_CONFIG=$ENV{PG_CONFIG}", '--eval', $rule, 'print-variables' ], '<', \undef, '>', \$out, '2>', \$err
	  or die "$path/Makefile: $err";
	return map { my ($name, @words) = split ' '; $name => \@words } split /\n/, $out;
}

# Options for pg_regress, without those that only apply to a temporary server.
sub server_options
{
	my @in = @_;
	my @out;
	while (defined(my $word = shift @in))
	{
		if ($word eq '--temp-config') { shift @in; }
		else { push @out, $word unless $word =~ /^--(?:temp-config|dbname|dlpath)=/; }
	}
	return @out;
}

sub is_installed
{
	my ($v) = @_;
	my ($share, $lib) = map { my $d = `$ENV{PG_CONFIG} $_`; chomp $d; $d } '--sharedir', '--pkglibdir';
	for (@{ $v->{EXTENSION} }) { return 0 unless -e "$share/extension/$_.control"; }
	for (@{ $v->{MODULES} }, @{ $v->{MODULE_big} }) { return 0 unless -e "$lib/$_.so"; }
	return 1;
}

sub contrib_suites
{
	my (@suites, @not);
	for my $path (sort grep { -e "$_/Makefile" } glob "$source/contrib/*")
	{
		my $module = basename($path);
		my %v = make_variables($path, qw(REGRESS ISOLATION REGRESS_OPTS ISOLATION_OPTS pg_regress_locale_flags EXTENSION MODULES MODULE_big));
		my $why = $cannot{$module};
		$why //= 'has no suite for pg_regress' unless @{ $v{REGRESS} } || @{ $v{ISOLATION} };
		$why //= 'is not installed' unless is_installed(\%v);
		if ($why)
		{
			push @not, "contrib/$module: $why";
			next;
		}
		my @locale = @{ $v{pg_regress_locale_flags} };
		push @suites, { name => "contrib/$module", program => 'regress/pg_regress', input => $path, db => "contrib_regression_$module",
			args => [ @locale, server_options(@{ $v{REGRESS_OPTS} }), @{ $v{REGRESS} } ] } if @{ $v{REGRESS} };
		push @suites, { name => "contrib/$module isolation", program => 'isolation/pg_isolation_regress', input => $path, db => "isolation_regression_$module",
			args => [ @locale, server_options(@{ $v{ISOLATION_OPTS} }), @{ $v{ISOLATION} } ] } if @{ $v{ISOLATION} };
	}
	return (\@suites, \@not);
}

my $core_path = "$source/src/test/regress";
my $isolation_path = "$source/src/test/isolation";
my $plpgsql_path = "$source/src/pl/plpgsql/src";
my ($plpgsql_tests) = PostgreSQL::Test::Utils::slurp_file("$plpgsql_path/Makefile") =~ /^REGRESS = ((?:.*\\\n)*.*)$/m;
my @core = (
	{ name => 'core', program => 'regress/pg_regress', input => $core_path, db => 'regression',
		args => [ '--max-concurrent-tests=20', "--schedule=$core_path/parallel_schedule" ] },
	{ name => 'isolation', program => 'isolation/pg_isolation_regress', input => $isolation_path, db => 'isolation_regression',
		args => [ "--schedule=$isolation_path/isolation_schedule", 'prepared-transactions', 'prepared-transactions-cic' ] },
	{ name => 'plpgsql', program => 'regress/pg_regress', input => $plpgsql_path, db => 'pl_regression',
		args => [ grep { $_ ne '\\' } split ' ', $plpgsql_tests ] });
my ($contrib, $not) = contrib_suites();
my @contrib = @$contrib;
if (@ARGV)
{
	my %wanted = map { $_ => 1 } @ARGV;
	@core = grep { $wanted{ $_->{name} } } @core;
	@contrib = grep { $wanted{contrib} || $wanted{ $_->{name} } } @contrib;
}

# Runs a suite on the running server; its files are in $dir/$side/NAME.
sub run_suite
{
	my ($suite, $side) = @_;
	my $out = "$dir/out";	# the same path for both sides: it shows in results
	my $kept = "$dir/$side/" . ($suite->{name} =~ s{[/ ]}{_}gr);
	my $log;
	make_path($out, dirname($kept));
	my $begin = time;
	chdir $suite->{input} or die "$suite->{input}: $!";	# scripts name data files from there
	IPC::Run::run [ "$ENV{PG_REGRESS_DIR}/$suite->{program}", "--inputdir=$suite->{input}", "--outputdir=$out", "--bindir=$bindir", "--dlpath=$ENV{PG_DLPATH}",
		"--host=$dir", "--port=$port", '--user=postgres', "--dbname=$suite->{db}", @{ $suite->{args} } ],
	  '<', \undef, '>&', \$log, IPC::Run::timeout(1800);
	$suite->{seconds}{$side} = time - $begin;
	rename $out, $kept or die "$out: $!";
	PostgreSQL::Test::Utils::append_to_file("$kept/log", $log);
	$suite->{kept}{$side} = $kept;
	# the expected files are compared, too: on a stock server they show whether the scripts fit psql
	$suite->{failed}{$side} = () = $log =~ /^(?:test| ).* FAILED /mg;
	diag(sprintf '%-8s %-36s %6.1f s', $side, $suite->{name}, $suite->{seconds}{$side});
}

my %known;	# pattern of the lines that may differ
for (split /\n/, PostgreSQL::Test::Utils::slurp_file(dirname($0) . '/known_differences'))
{
	next if /^(#|$)/;
	/^(\S[^\t]*)\t([^\t]+)\t\S/ or die "known_differences: a line has not three parts: $_";
	$known{$1} = qr/$2/;
}
my %known_seen;

sub compare_results
{
	my ($suite) = @_;
	my %names = map { basename($_) => 1 } map { glob "$suite->{kept}{$_}/results/*.out" } qw(stock compute);
	$suite->{same} = 0;
	$suite->{tests} = keys %names;
	for my $name (sort keys %names)
	{
		my @files = map { "$suite->{kept}{$_}/results/$name" } qw(stock compute);
		my @contents = map { -e $_ ? PostgreSQL::Test::Utils::slurp_file($_) : 'none' } @files;
		my $test = "$suite->{name}/" . basename($name, '.out');
		if ($contents[0] eq $contents[1])
		{
			$suite->{same}++;
			next;
		}
		if ($known{$test})
		{
			$known_seen{$test} = 1;
			next unless grep { /^[<>] (.*)/ && $1 !~ $known{$test} } `diff $files[0] $files[1]`;
		}
		fail("$test: the same result as on a stock server");
		diag(`diff -u $files[0] $files[1] | head -60`);
	}
	cmp_ok($suite->{tests}, '>', 0, "$suite->{name} ran");
}

# ---- what the suites left ----

sub dump_all
{
	my ($compute, $name) = @_;
	my $file = "$dir/$name.sql";
	$compute->program_ok("pg_dumpall: $name", 'pg_dumpall', '--no-unlogged-table-data', '--restrict-key=key', '-f', $file);
	return $file;
}

# Replaces sequence values by X if they may differ.
sub same_dump
{
	my ($a, $b, $what, $but_sequences) = @_;
	my $filter = $but_sequences ? q{s/^(SELECT pg_catalog.setval\(.*', )-?[0-9]*, /\1X, /} : '';
	my $diff = `bash -c "diff <(sed \\"$filter\\" '$a') <(sed \\"$filter\\" '$b')" | head -40`;
	is($diff, '', $what);
	cmp_ok(-s $a, '>', 10_000, 'and it is no empty one');
}

sub check_all
{
	my ($compute, $which) = @_;
	$compute->program_ok("pg_amcheck of all databases, $which", 'pg_amcheck', '--all', '--install-missing', '--heapallindexed', '--parent-check');
}

# ---- on a stock server ----
my $begin = time;
my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 32MB\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
$store->ctl_ok('export', 'export', 'main', '--no-sync', '-D', "$dir/stock_data");
my $options = join ' ', map { "-c $_" } split /\n/, $settings;
is(system("$bindir/pg_ctl start -s -w -D $dir/stock_data -l $dir/stock.log -o '-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir -c shared_preload_libraries=$preload $options'"), 0, 'stock server starts');
run_suite($_, 'stock') for @core, @contrib;
system("$bindir/pg_ctl stop -s -w -m fast -D $dir/stock_data");

# ---- on a compute ----
sub start
{
	my ($on_port) = @_;
	return $store->start_compute('main', port => $on_port, host => $dir,
		# One more for the WAL worker's slot, which the library adds only to the default.  Suites of dblink and postgres_fdw
		# have the server connect to itself without naming a host: the stock server got PGHOST from this program, which
		# pageserver_ctl does not hand on.
		conf => ($settings =~ s/=/ = /gr) . "max_replication_slots = 5\nunix_socket_directories = $dir,/var/run/postgresql\n" . "shared_preload_libraries = $preload,pageserver_smgr\npageserver_smgr.cache_size = 1MB\n");
}
my $compute = start($port);
if (@core)
{
	run_suite($_, 'compute') for @core;
	check_all($compute, 'after the core suites');
	my $before = dump_all($compute, 'core_before');
	$compute->stop;
	$compute = start($port);
	same_dump($before, dump_all($compute, 'core_after'), 'after a clean stop the next compute has the same pg_dumpall');
	check_all($compute, 'after a clean stop');
}
if (@contrib)
{
	run_suite($_, 'compute') for @contrib;
	check_all($compute, 'after the suites of contrib');
}
my $before = dump_all($compute, 'all_before');
$compute->kill9;
# its socket's lock file still names a process, if nobody waits for that
$compute = start(PageserverTest::free_port());
same_dump($before, dump_all($compute, 'all_after'), 'after a kill the next compute has the same pg_dumpall', 1);
check_all($compute, 'after a kill');
$compute->kill9;
my $suites_end = time;
oracle_ok($store, 'main', count => 4);
my $end = time;
$store->stop;

compare_results($_) for @core, @contrib;
for my $test (sort keys %known)
{
	my $ran = grep { index($test, "$_->{name}/") == 0 } @core, @contrib;
	diag("known_differences has $test, which was the same this time") if $ran && !$known_seen{$test};
}
done_testing();

# ---- the table ----
my $out = Test::More->builder->output;	# a tee of PostgreSQL::Test::Utils, which knows no printf
my $line = "| %-36s | %5s | %13s | %15s | %8s | %10s |\n";
print $out "\n";
print $out sprintf $line, 'suite', 'tests', 'same as stock', 'stock: expected', 'stock, s', 'compute, s';
print $out sprintf $line, map { '-' x $_ } 36, 5, 13, 15, 8, 10;
my %sum;
for my $suite (@core, @contrib)
{
	my $expected = $suite->{tests} - $suite->{failed}{stock};
	print $out sprintf $line, $suite->{name}, $suite->{tests}, $suite->{same}, $expected, map { sprintf '%.1f', $suite->{seconds}{$_} } qw(stock compute);
	$sum{tests} += $suite->{tests};
	$sum{same} += $suite->{same};
	$sum{expected} += $expected;
	$sum{$_} += $suite->{seconds}{$_} for qw(stock compute);
}
print $out sprintf $line, 'all', $sum{tests}, $sum{same}, $sum{expected}, map { sprintf '%.1f', $sum{$_} } qw(stock compute);
print $out "\nstock: expected -- tests whose result on the stock server is one of the expected files of the source\n";
print $out sprintf "oracle: %.0f s; all: %.0f s\n", $end - $suites_end, $end - $begin;
print $out "\nNot run:\n", map { "  $_\n" } @$not unless @ARGV;
