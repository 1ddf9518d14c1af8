# S3Proxy: stands between a store and an S3 server (S3Server.pm), and fails as services and networks do.
#
#	my $proxy = S3Proxy->new($s3);
#	$store->append_conf($proxy->conf('bucket'));
#	$proxy->set({ method => 'PUT', key => '/m/', fault => 'lost', times => 1 }, { fault => 'delay', seconds => 0.02 });
#	$proxy->set;										# it behaves again
#	my @requests = $proxy->requests;					# { time, method, path, query, status, ms, fault, up, down }
#	$proxy->forget;										# the requests so far
#
# The first rule that matches a request acts. A rule has
#
#	method, key		regular expressions for the method, and for "path?query"; default: any
#	conditional		1: only requests with If-None-Match
#	skip			number of requests that it lets through first
#	times			number of requests that it acts on; default: all
#	p				probability; default: 1
#	seed			of the random numbers, printed by new() otherwise
#	fault			what happens:
#	  reset			the connection is closed, and the server does not hear of the request
#	  lost			the server does it, and the connection is closed without an answer
#	  late			the connection is closed, and the server does it after "seconds"
#	  dup			the server does it twice; the second answer counts
#	  status		answer with status "code", "s3code" in its body ('' for none), "retry_after"
#	  error200		status 200, with an error of "s3code" in its body
#	  delay			answer after "seconds" more
#	  hang			no answer for "seconds", then the connection is closed
#	  cut			half of the answer's body, then the connection is closed
#	  cut_put		half of the request's body reaches the server, then both connections are closed
#	  flip			one bit of the answer's body is flipped
#	  trickle		the answer's body, "rate" bytes a second
#	  stale_list	a list as it was "seconds" ago, as far as the proxy has seen it; empty before that
#
# One process for each connection; what they share is in files of its directory, under a lock.
package S3Proxy;

use strict;
use warnings;

use Carp;
use Fcntl qw(:flock SEEK_SET);
use File::Path qw(make_path);
use IO::Socket::INET;
use JSON::PP ();
use PageserverTest;
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time usleep);

our @proxies;
my $count = 0;

sub new
{
	my ($class, $s3, %opt) = @_;
	my $dir = PageserverTest::test_dir() . '/proxy_' . $count++;
	my $self = bless { s3 => $s3, dir => $dir, port => PageserverTest::free_port(), seed => $opt{seed} // int(rand(1 << 31)) }, $class;

	make_path($dir);
	print "# S3Proxy: seed $self->{seed}\n";
	$self->set;
	$self->forget;
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Listen => 256, ReuseAddr => 1)
	  or croak "port $self->{port}: $!";
	$self->{pid} = fork // croak "fork: $!";
	if ($self->{pid} == 0)
	{
		# a process group of its own: stop() ends all of its processes
		POSIX::setpgid(0, 0);
		$SIG{CHLD} = 'IGNORE';
		$self->accept_all($listen);
	}
	POSIX::setpgid($self->{pid}, $self->{pid});
	push @proxies, $self;
	return $self;
}

sub endpoint { return "http://127.0.0.1:$_[0]{port}"; }

# Settings for pageserver.conf, as S3Server's, by way of the proxy.
sub conf
{
	my ($self, @args) = @_;
	my $conf = $self->{s3}->conf(@args);
	my ($direct, $proxy) = ($self->{s3}->endpoint, $self->endpoint);
	return $conf =~ s/\Q$direct\E/$proxy/r;
}

sub write_file
{
	my ($self, $name, $text) = @_;
	open my $f, '>', "$self->{dir}/$name.new" or croak "$self->{dir}/$name: $!";
	print $f $text;
	close $f;
	rename "$self->{dir}/$name.new", "$self->{dir}/$name" or croak "rename: $!";
}

# Runs code while no other process changes the files.
sub with_lock
{
	my ($self, $code) = @_;
	open my $lock, '>>', "$self->{dir}/lock" or croak "$self->{dir}/lock: $!";
	flock $lock, LOCK_EX or croak "flock: $!";
	my $result = $code->();
	close $lock;
	return $result;
}

sub set
{
	my ($self, @rules) = @_;
	$self->with_lock(sub { $self->write_file('rules', JSON::PP->new->canonical->encode(\@rules)) });
}

# What is left of the rules: "times" and "skip" are counted down.
sub rules
{
	my ($self) = @_;
	return @{ JSON::PP::decode_json(PostgreSQL::Test::Utils::slurp_file("$self->{dir}/rules")) };
}

sub forget
{
	my ($self) = @_;
	$self->with_lock(sub { $self->write_file('requests', '') });
}

sub requests
{
	my ($self) = @_;
	return map { JSON::PP::decode_json($_) } split /\n/, PostgreSQL::Test::Utils::slurp_file("$self->{dir}/requests");
}

# ---- the processes of the proxy ----

sub pick_rule
{
	my ($self, $method, $target, $conditional) = @_;
	return $self->with_lock(sub {
		my @rules = $self->rules;
		for my $rule (@rules)
		{
			next if defined $rule->{method} && $method !~ /^(?:$rule->{method})$/;
			next if defined $rule->{key} && $target !~ /$rule->{key}/;
			next if defined $rule->{conditional} && !!$rule->{conditional} != $conditional;
			next if defined $rule->{times} && $rule->{times} <= 0;
			my $acts = 1;
			if (($rule->{skip} // 0) > 0)
			{
				$rule->{skip}--;
				$acts = 0;
			}
			else
			{
				next if rand() >= ($rule->{p} // 1);
				$rule->{times}-- if defined $rule->{times};
			}
			$self->write_file('rules', JSON::PP->new->canonical->encode(\@rules)) if defined $rule->{times} || defined $rule->{skip};
			return { %$rule } if $acts;
		}
		return undef;
	});
}

sub accept_all
{
	my ($self, $listen) = @_;
	my $n = 0;
	while (1)
	{
		my $client = $listen->accept or next;
		my $pid = fork // next;
		$n++;
		if ($pid != 0)
		{
			close $client;
			next;
		}
		close $listen;
		$SIG{PIPE} = 'IGNORE';
		srand($self->{seed} + $n);
		setsockopt $client, IPPROTO_TCP, TCP_NODELAY, 1;
		$self->{client} = $client;
		eval { $self->serve; };
		POSIX::_exit(0);
	}
}

# Reads from a socket to a buffer, which is in %$s, until it has the text, or that many bytes. False at the end.
sub read_until
{
	my ($s, $text) = @_;
	while (index($s->{buf}, $text) < 0)
	{
		sysread $s->{socket}, $s->{buf}, 65536, length $s->{buf} or return undef;
	}
	my $end = index($s->{buf}, $text) + length $text;
	return substr $s->{buf}, 0, $end, '';
}

sub read_bytes
{
	my ($s, $n) = @_;
	while (length $s->{buf} < $n)
	{
		sysread $s->{socket}, $s->{buf}, 1 << 20, length $s->{buf} or return undef;
	}
	return substr $s->{buf}, 0, $n, '';
}

sub write_all
{
	my ($socket, $data) = @_;
	my $done = 0;
	while ($done < length $data)
	{
		my $n = syswrite $socket, $data, length($data) - $done, $done;
		die "write: $!" unless defined $n;
		$done += $n;
	}
}

# Closes a connection so that the peer sees a reset.
sub reset_connection
{
	my ($socket) = @_;
	setsockopt $socket, SOL_SOCKET, SO_LINGER, pack('II', 1, 0);
	close $socket;
	die "closed";
}

sub header
{
	my ($head, $name) = @_;
	return $head =~ /^\Q$name\E:\s*(.*?)\r$/mi ? $1 : undef;
}

sub upstream_socket
{
	my ($self) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{s3}->port) or die "no server";
	setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
	return $socket;
}

# Sends a request to the server. Returns the answer's head, without what says how long it is, and its body.
sub forward
{
	my ($self, $method, $head, $body) = @_;
	my $s = ($self->{upstream} //= { socket => $self->upstream_socket, buf => '' });

	write_all($s->{socket}, $head . $body);
	my $answer;
	do
	{
		$answer = read_until($s, "\r\n\r\n") // do
		{
			delete $self->{upstream};
			die "no answer of the server";
		};
	} while $answer =~ m{^HTTP/1.1 100};
	my ($status) = $answer =~ m{^HTTP/1.1 (\d+)};
	my $data = '';
	if ($method eq 'HEAD' || $status == 204 || $status == 304)
	{
		$data = '';
	}
	elsif ((header($answer, 'Transfer-Encoding') // '') =~ /chunked/i)
	{
		while (my $size = hex((read_until($s, "\r\n") // '') =~ s/\W.*//sr))
		{
			$data .= read_bytes($s, $size);
			read_bytes($s, 2);
		}
		read_until($s, "\r\n");
	}
	else
	{
		$data = read_bytes($s, header($answer, 'Content-Length') // 0);
	}
	delete $self->{upstream} if (header($answer, 'Connection') // '') =~ /close/i;
	my $length = $method eq 'HEAD' ? header($answer, 'Content-Length') : undef;
	$answer =~ s/^(?:Transfer-Encoding|Content-Length|Connection):.*\n//gmi;
	$answer =~ s/\r\n\r\n$/\r\n/;
	$answer .= 'Content-Length: ' . ($length // length $data) . "\r\n" unless $status == 204 || $status == 304;
	return ($status, "$answer\r\n", $data);
}

sub error_body
{
	my ($code) = @_;
	return '' if $code eq '';
	return "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>$code</Code><Message>of the proxy</Message></Error>";
}

# A list's answers that the proxy has seen are in files by their time.
sub old_list
{
	my ($self, $target, $seconds) = @_;
	my $name = unpack('H*', pack('N', unpack('%32C*', $target))) . length $target;
	my ($old) = sort { $b <=> $a } grep { $_ <= time - $seconds } map { m{/list_\Q$name\E_([\d.]+)$} ? $1 : () } glob "$self->{dir}/list_*";
	return PostgreSQL::Test::Utils::slurp_file("$self->{dir}/list_${name}_$old") if defined $old;
	return '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>';
}

sub keep_list
{
	my ($self, $target, $data) = @_;
	my $name = unpack('H*', pack('N', unpack('%32C*', $target))) . length $target;
	open my $f, '>', "$self->{dir}/list_${name}_" . time or return;
	print $f $data;
	close $f;
}

sub serve
{
	my ($self) = @_;
	my $client = $self->{client};
	my $s = { socket => $client, buf => '' };

	while (defined(my $head = read_until($s, "\r\n\r\n")))
	{
		my ($method, $target) = $head =~ /^(\S+) (\S+) HTTP/ or return;
		my $begin = time;
		my $rule = $self->pick_rule($method, $target, defined header($head, 'If-None-Match'));
		my $fault = $rule ? $rule->{fault} : '';
		my ($path, $query) = split /\?/, $target, 2;
		my %log = (time => $begin, method => $method, path => $path, query => $query // '', status => 0, fault => $fault, up => 0, down => 0);

		if (defined header($head, 'Expect'))
		{
			write_all($client, "HTTP/1.1 100 Continue\r\n\r\n");
			$head =~ s/^Expect:.*\n//mi;
		}
		my $body = read_bytes($s, header($head, 'Content-Length') // 0) // return;
		$log{up} = length $body;
		eval { $self->answer($client, $method, $target, $head, $body, $rule, $fault, \%log); };
		my $failed = $@;
		$log{ms} = (time - $begin) * 1000;
		$self->with_lock(sub {
			open my $f, '>>', "$self->{dir}/requests";
			print $f JSON::PP->new->canonical->encode(\%log), "\n";
			close $f;
		});
		die $failed if $failed;
	}
}

sub answer
{
	my ($self, $client, $method, $target, $head, $body, $rule, $fault, $log) = @_;
	my $seconds = $rule ? $rule->{seconds} // 1 : 0;
	my ($status, $answer, $data);

	reset_connection($client) if $fault eq 'reset';
	if ($fault eq 'hang')
	{
		usleep($seconds * 1e6);
		reset_connection($client);
	}
	if ($fault eq 'late')
	{
		setsockopt $client, SOL_SOCKET, SO_LINGER, pack('II', 1, 0);
		close $client;
		usleep($seconds * 1e6);
		($log->{status}) = $self->forward($method, $head, $body);
		die "closed";
	}
	if ($fault eq 'cut_put')
	{
		my $socket = $self->upstream_socket;
		write_all($socket, $head . substr($body, 0, length($body) / 2));
		close $socket;
		reset_connection($client);
	}
	usleep($seconds * 1e6) if $fault eq 'delay';
	if ($fault eq 'status' || $fault eq 'error200')
	{
		$status = $fault eq 'status' ? $rule->{code} // 503 : 200;
		$data = $method eq 'HEAD' ? '' : error_body($rule->{s3code} // 'SlowDown');
		$answer = "HTTP/1.1 $status Fault\r\n" . (defined $rule->{retry_after} ? "Retry-After: $rule->{retry_after}\r\n" : '') . 'Content-Length: ' . length($data) . "\r\n\r\n";
	}
	elsif ($fault eq 'stale_list' && $target =~ /list-type=2/)
	{
		$status = 200;
		$data = $self->old_list($target, $seconds);
		$answer = "HTTP/1.1 200 OK\r\nContent-Length: " . length($data) . "\r\n\r\n";
	}
	else
	{
		$self->forward($method, $head, $body) if $fault eq 'dup';
		($status, $answer, $data) = $self->forward($method, $head, $body);
		$self->keep_list($target, $data) if $status == 200 && $method eq 'GET' && $target =~ /list-type=2/;
	}
	$log->{status} = $status;
	reset_connection($client) if $fault eq 'lost';
	if ($fault eq 'flip' && length $data)
	{
		my $i = int(rand(length $data));
		substr($data, $i, 1) = chr(ord(substr($data, $i, 1)) ^ (1 << int(rand(8))));
	}
	if ($fault eq 'cut')
	{
		write_all($client, $answer . substr($data, 0, length($data) / 2));
		close $client;
		die "closed";
	}
	write_all($client, $fault eq 'trickle' ? $answer : $answer . $data);
	$log->{down} = length $data;
	if ($fault eq 'trickle')
	{
		my $step = int(($rule->{rate} // 10000) / 20) || 1;
		for (my $i = 0; $i < length $data; $i += $step)
		{
			write_all($client, substr($data, $i, $step));
			usleep(50_000);
		}
	}
}

# Nobody listens any more, and all connections are closed.
sub stop
{
	my ($self) = @_;
	return unless $self->{pid};
	local $?;
	kill 'KILL', -$self->{pid};
	waitpid $self->{pid}, 0;
	delete $self->{pid};
}

END
{
	$_->stop for @proxies;
}

1;
