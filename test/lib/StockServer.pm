# StockServer: a stock PostgreSQL on a local disk, to compare a compute with.
#
#	my $s = StockServer->new("$dir/stock", conf => "shared_buffers = 1MB\n");	# initdb and start
#	is($c->sql($query), $s->sql($query));	# all that PageserverTest::Compute has to ask with
#	$s->stop;
package StockServer;

use strict;
use warnings;

use PageserverTest;

our @ISA = ('PageserverTest::Compute');
my @running;

sub run_program
{
	my ($program, @args) = @_;
	my $out = '';
	IPC::Run::run([ PageserverTest::bindir() . "/$program", @args ], '<', \undef, '>&', \$out)
	  or die "$program @args: $out";
}

# new(DIR, conf => settings, initdb => [options])
sub new
{
	my ($class, $dir, %opt) = @_;
	my $self = bless { dir => $dir, host => PageserverTest::test_dir(), port => PageserverTest::free_port(), store => 'StockServer::NoStore' }, $class;

	run_program('initdb', '-D', $dir, '-U', 'postgres', '-A', 'trust', '-N', '-E', 'UTF8', '--locale=C.UTF-8', @{ $opt{initdb} // [] });
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
