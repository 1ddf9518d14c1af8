# StockServer: a stock PostgreSQL server on a local disk, to compare a compute with.
#
#	my $s = StockServer->new("$dir/stock", conf => "shared_buffers = 1MB\n");	# initdb and start
#	is($c->sql($query), $s->sql($query));	# has the methods of PageserverTest::Compute that run SQL
#	$s->stop;
#
#	my $s = StockServer->new("$dir/stock", from => "$dir/start");	# on a copy of an export
#	same($c, $s, $query, 'what');			# both must print the same, errors included
package StockServer;

use strict;
use warnings;

use Exporter 'import';
use PageserverTest;
use PostgreSQL::Test::RecursiveCopy;
use Test::More;

our @EXPORT = qw(same same_lines);
our @ISA = ('PageserverTest::Compute');
my @running;

sub run_program
{
	my ($program, @args) = @_;
	my $out = '';
	IPC::Run::run([ PageserverTest::bindir() . "/$program", @args ], '<', \undef, '>&', \$out)
	  or die "$program @args: $out";
}

# new(DIR, conf => settings, initdb => [options] or from => directory)
sub new
{
	my ($class, $dir, %opt) = @_;
	my $self = bless { dir => $dir, host => PageserverTest::test_dir(), port => PageserverTest::free_port(), store => 'StockServer::NoStore' }, $class;

	if ($opt{from})
	{
		PostgreSQL::Test::RecursiveCopy::copypath($opt{from}, $dir);
		chmod 0700, $dir;
	}
	else
	{
		run_program('initdb', '-D', $dir, '-U', 'postgres', '-A', 'trust', '-N', '-E', 'UTF8', '--locale=C.UTF-8', @{ $opt{initdb} // [] });
	}
	PostgreSQL::Test::Utils::append_to_file("$dir/postgresql.conf",
		"fsync = off\nlisten_addresses = ''\nunix_socket_directories = '$self->{host}'\nport = $self->{port}\n" . ($opt{conf} // ''));
	$self->start;
	return $self;
}

sub start
{
	my ($self) = @_;
	run_program('pg_ctl', 'start', '-s', '-w', '-D', $self->{dir}, '-l', "$self->{dir}.log");
	push @running, $self;
}

sub stop
{
	my ($self, $mode) = @_;
	run_program('pg_ctl', 'stop', '-s', '-w', '-m', $mode // 'fast', '-D', $self->{dir});
	@running = grep { $_ != $self } @running;
}

# Kills all of its processes, and removes the files that would tell the next postmaster that this one, which may not
# have been reaped, still runs.
sub kill9
{
	my ($self) = @_;
	$self->{pid} = (split /\n/, PostgreSQL::Test::Utils::slurp_file("$self->{dir}/postmaster.pid"))[0];
	kill 'STOP', $self->{pid};
	my @pids = $self->processes;
	kill 'KILL', @pids;
	PageserverTest::wait_gone($_) for @pids;
	unlink "$self->{dir}/postmaster.pid", "$self->{host}/.s.PGSQL.$self->{port}.lock";
	@running = grep { $_ != $self } @running;
}

# Runs a script on both servers and compares the output.
sub same
{
	my ($compute, $stock, $sql, $what, %opt) = @_;
	my @printed = map {
		my ($rc, $out, $err) = $_->psql($sql, %opt);
		"$err$out\nexit code $rc\n"
	} $stock, $compute;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return same_lines($printed[1], $printed[0], $what);
}

# Prints the lines that differ; those of the stock server start with "-".
sub same_lines
{
	my ($compute, $stock, $what) = @_;
	my @lines = map { [ split /\n/ ] } $stock, $compute;
	my @seen = map { my %of = map { $_ => 1 } @$_; \%of } @lines;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($compute eq $stock, $what)
	  || diag(join "\n", (map { "- $_" } grep { !$seen[1]{$_} } @{ $lines[0] }), (map { "+ $_" } grep { !$seen[0]{$_} } @{ $lines[1] })) && 0;
}

sub log_tail
{
	my ($self) = @_;
	my @lines = split /\n/, PostgreSQL::Test::Utils::slurp_file("$self->{dir}.log");
	return join("\n", @lines > 30 ? @lines[ -30 .. -1 ] : @lines) . "\n";
}

sub StockServer::NoStore::log_tail { return ''; }

END
{
	my $code = $?;
	$_->stop('immediate') for @running;
	$? = $code;
}

1;
