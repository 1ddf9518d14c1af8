# A compute whose branch was deleted or reset, or whose tenant was deleted, stops, and says why. So does a
# store whose directory or lock file was removed or replaced; nothing is acknowledged any more.
use strict;
use warnings;
use File::Path qw(remove_tree);
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use PageserverTest;
use TrapTest;
use Test::More;
use Time::HiRes qw(usleep);

my $dir = PageserverTest::test_dir();
my $long = $ENV{PAGESERVER_LONG};

# ---- the store's directory ----
# Makes the store check its directory at once, as it does each minute.  With a compute: nothing is
# acknowledged to it any more.
sub lose_place
{
	my ($name, $lose, $message, $with_compute) = @_;
	my $store = PageserverTest->new_store($name);
	my ($c, $writer);
	if ($with_compute)
	{
		$store->ctl_ok("$name: a branch", 'branch', 'create', 'main');
		$c = $store->start_compute('main', conf => "autovacuum = off\n");
		$writer = session($c);
		$writer->ask('CREATE TABLE t (i int)');
	}
	kill 'HUP', $store->{pid};
	PageserverTest::wait_until(sub { $store->log_content =~ /SIGHUP/ }, 'the check of a directory that is in its place');
	is(($store->command('status'))[0], 0, "$name: the store runs while its directory exists");
	$writer->ask('INSERT INTO t VALUES (1)') if $with_compute;
	$lose->($store);
	kill 'HUP', $store->{pid} unless $long;
	my $gone;
	for (1 .. ($long ? 3 : 1)) { $gone ||= eval { PageserverTest::wait_gone($store->{pid}) }; }
	ok($gone, "$name: the store ends") or return;
	like($store->log_content, qr/FATAL:  ending the store immediately: $message/, "$name: the log says why");
	if ($with_compute)
	{
		$writer->send('INSERT INTO t VALUES (2) RETURNING 2');
		usleep(100_000);
		ok(!$writer->done, "$name: nothing is acknowledged any more");
		$c->kill9;
	}
	delete $store->{pid};
}

lose_place('removed', sub { remove_tree($_[0]->dir) }, 'store directory ".*" does not exist any more', 1);
lose_place('moved', sub { rename $_[0]->dir, $_[0]->dir . '.old' or die "rename: $!" }, 'store directory ".*" does not exist any more');
my $moved;
lose_place('replaced', sub {
	rename $_[0]->dir, $_[0]->dir . '.old' or die "rename: $!";
	$moved = PageserverTest->new_store('second', dir => $_[0]->dir);
}, 'store directory ".*" was replaced by another one');
is(($moved->command('status'))[0], 0, 'the other store continues');
like(PostgreSQL::Test::Utils::slurp_file($moved->dir . '/pageserver.pid'), qr/^$moved->{pid}\n/, 'the lock file of the other store is intact');
$moved->stop;
lose_place('no_lock', sub { unlink $_[0]->dir . '/pageserver.pid' or die "unlink: $!" }, 'lock file ".*" was removed');
lose_place('not_its_lock', sub {
	my $file = $_[0]->dir . '/pageserver.pid';
	PostgreSQL::Test::Utils::append_to_file("$file.new", PostgreSQL::Test::Utils::slurp_file($file));
	rename "$file.new", $file or die "rename: $!";
}, 'lock file ".*" was replaced');

# ---- a compute's branch ----
my $store = PageserverTest->new_store('main');
$store->ctl_ok('a branch', 'branch', 'create', 'main');

# The compute of a branch stops when this is done to the branch; returns the message.
sub stops
{
	my ($what, $branch, @ctl) = @_;
	my $conf = ref $ctl[0] eq 'CODE' ? $ctl[1] : undef;
	my $c = $store->start_compute($branch, name => "$branch\_compute", conf => $conf);
	$c->sql('CREATE TABLE IF NOT EXISTS t (i int)');
	my $writer = session($c);
	$store->ctl_ok($what, @ctl, '--force') if ref $ctl[0] ne 'CODE';
	$ctl[0]->($c) if ref $ctl[0] eq 'CODE';
	PageserverTest::wait_gone($c->{pid});
	pass("$what: its compute stops");
	my ($message) = $c->log_content =~ /(FATAL:  shutting down immediately.*)/s;
	like($message // $c->log_tail, qr/the page store no longer has timeline [0-9a-f]{32}/, "$what: the log says why");
	delete $c->{pid};
	return $message // '';
}

$store->ctl_ok("branch $_", 'branch', 'create', $_, '--from', 'main') for qw(a b c);
like(stops('delete', 'a', 'branch', 'delete', 'a'), qr/Branch "a" was deleted at \d+-/, 'the log says that the branch was deleted');
like(stops('reset', 'b', 'branch', 'reset', 'b'), qr/Branch "b" was reset .* at \d+-/, 'the log says that the branch was reset');
my $again = $store->start_compute('b');
$again->sql_is("SELECT count(*) FROM pg_class WHERE relname = 't'", '0', 'a compute of the branch after the reset runs');
$again->stop;

# A session whose request is refused because the branch is being deleted waits until its compute stops, or
# continues if it does not.  A proxy between compute and store refuses requests while the file $refuse exists.
my $refuse = "$dir/refuse";
my $proxy_port = PageserverTest::free_port();
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $proxy_port, Proto => 'tcp',
	Listen => 50, ReuseAddr => 1) or die "listen: $!";
my $proxy = fork // die "fork: $!";
pass_on($listener, "$store->{dir}/.s.PGSQL.$store->{port}") if !$proxy;
close $listener;
END { my $code = $?; kill 'KILL', $proxy if $proxy; $? = $code; }

sub pass_on
{
	my ($listener, $socket) = @_;
	my $select = IO::Select->new($listener);
	my (%peer, %is_page_stream);
	while (my @ready = $select->can_read)
	{
		for my $from (@ready)
		{
			if ($from == $listener)
			{
				my ($client, $server) = (scalar $listener->accept, IO::Socket::UNIX->new(Peer => $socket));
				@peer{ $client, $server } = ($server, $client);
				$select->add($client, $server);
				next;
			}
			my $to = $peer{$from};
			next unless defined fileno $from;
			if (!sysread $from, my $data, 65536)
			{
				$select->remove($from, $to);
				close $_ for $from, $to;
			}
			elsif ($is_page_stream{$from} && -e $refuse)
			{
				# type and length of the message, kind of request, version, number of the request
				while ($data =~ s/^d(.{4}).(.)(.{8})//s)
				{
					substr($data, 0, unpack('N', $1) - 14) = '';
					my $answer = "E$2$3" . pack('Q>', 0) . "PS002branch \"d\" is being deleted\0\0\0";
					syswrite $from, 'd' . pack('N', 4 + length $answer) . $answer;
				}
			}
			else
			{
				$is_page_stream{$from} ||= $data =~ /^Q.{4}pagestream /s;
				syswrite $to, $data;
			}
		}
	}
}

$store->ctl_ok('branch d', 'branch', 'create', 'd', '--from', 'main');
stops('a branch with a reader', 'd', sub {
	my ($c) = @_;
	my $reader = session($c);
	is($reader->ask("SELECT pg_database_size('postgres') > 0"), 't', 'a reader');
	PostgreSQL::Test::Utils::append_to_file($refuse, '');
	# no session has asked for this size, so the query waits for the store
	$reader->send("SELECT pg_tablespace_size('pg_global') > 0");
	PageserverTest::wait_until(sub { $c->log_content =~ /ERROR: |could not connect to the page store, retrying: / },
		'the request of the reader to be refused');
	like($c->log_content, qr/could not connect to the page store, retrying: branch "d" is being deleted/,
		'a reader whose request is refused waits');
	unlink $refuse;
	is($reader->result, 't', 'the reader gets the answer when requests are no longer refused');
	is($reader->errors, '', 'the reader gets no error');
	$store->ctl_ok('delete', 'branch', 'delete', 'd', '--force');
}, "pageserver_smgr.store = postgresql://postgres\@127.0.0.1:$proxy_port/store\n");

# The branch is removed while the store is down.
like(stops('a branch that is missing when the store comes back', 'c', sub {
	my ($c) = @_;
	my ($row) = grep { /^c\|/ } split /\n/, ($store->command('branch_list'))[1];
	my (undef, $tenant, $timeline) = split /\|/, $row;
	$store->stop;
	remove_tree("$store->{dir}/tenants/$tenant/timelines/$timeline");
	$store->start;
}), qr/has no timeline/, 'the log says that the branch does not exist');

# ---- a compute waits while its tenant is detached, and stops when the tenant no longer exists ----
my ($tenant) = ($store->command('tenant_list'))[1] =~ /([0-9a-f]{32})/;
like(stops('a tenant that no longer exists', 'main', sub {
	my ($c) = @_;
	$store->ctl_ok('detach', 'tenant', 'detach', 'main');
	PageserverTest::wait_until(sub { $c->log_content =~ /could not stream WAL to the page store, retrying: tenant [0-9a-f]+ is detached/ }, 'the compute to notice');
	ok(kill(0, $c->{pid}), 'the compute of a detached tenant waits');
	$store->ctl_ok('attach', 'tenant', 'attach', $tenant);
	$c->sql('INSERT INTO t VALUES (1)');
	$c->sql_is('SELECT count(*) FROM t', '1', 'the compute continues when its tenant is attached');
	$store->ctl_ok('detach again', 'tenant', 'detach', 'main');
	$store->stop;
	remove_tree("$store->{dir}/tenants/$tenant");
	$store->start;
}), qr/has no timeline/, 'the log says that the branch of the tenant does not exist');
$store->stop;
done_testing();
