# Page streams of the store are shared when there are fewer of them than backends. No backend waits
# forever, each branch gets its share, and WAL and administrators have connections of their own.
use strict;
use warnings;
use IO::Socket::UNIX;
use PageserverTest;
use TrapTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $store = PageserverTest->new_store('main', conf => "max_connections = 3\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $small = "shared_buffers = 1MB\npageserver_smgr.cache_size = 1MB\nautovacuum = off\nmax_parallel_workers_per_gather = 0\npageserver_smgr.readahead = 4\n";
my $c = $store->start_compute('main', conf => $small);
my $expected = $c->sql("CREATE EXTENSION pageserver_smgr; CREATE TABLE t AS SELECT i, repeat('x', 500) pad FROM generate_series(1, 20000) i; VACUUM (FREEZE) t;"
	  . ' SELECT count(*), sum(i) FROM t');
$store->ctl_ok('a branch of it', 'branch', 'create', 'other', '--from', 'main');

sub status
{
	my ($name) = @_;
	my ($row) = grep { /^\Q$name\E\|/ } split /\n/, ($store->command('status'))[1];
	return (split /\|/, $row)[1];
}

# ---- more backends than streams, all reading the same pages ----
my @sessions = map { session($c) } 1 .. 10;
for (1 .. 2)
{
	$_->send('SELECT count(*), sum(i) FROM t') for @sessions;
	my ($rc) = $store->ctl('branch', 'list');
	is($rc, 0, 'an administrator can connect meanwhile');
	is($_->result, $expected, 'a backend reads all rows') for @sessions;
}
is($_->errors, '', 'the backend had no error') for @sessions;
cmp_ok(status('page_streams'), '<=', 3, 'the number of streams stays within max_connections');
cmp_ok(status('page_streams_recalled'), '>', 0, 'idle streams were given to other backends');
is(status('wal_streams'), 1, 'WAL has a stream of its own');
unlike($c->log_content, qr/could not connect to the page store|lost connection/, 'no process of the compute reports an outage');
like($store->log_content, qr/all 3 page streams \(max_connections\) are taken/, "the store's log says that all streams are in use");

# The backends have taken all streams, and WAL continues when its stream must be opened again.
my $worker = $c->sql("SELECT pid FROM pg_stat_replication WHERE application_name = 'pageserver'");
$c->sql("SELECT pg_terminate_backend($worker)");
PageserverTest::wait_until(sub { $c->sql("SELECT count(*) FROM pg_stat_replication WHERE pid <> $worker") eq '1' }, 'the next WAL worker');
is($sessions[0]->ask('CREATE TABLE after_it (i int); INSERT INTO after_it VALUES (1) RETURNING i'), '1', 'a commit over a new WAL stream');

# Idle connections do not keep it out, and do not keep an administrator out.
my @silent = map {
	my $s = IO::Socket::UNIX->new(Peer => $store->dir . '/.s.PGSQL.' . $store->port) || die "connect: $!";
	my $params = "user\0postgres\0database\0store\0\0";
	syswrite $s, pack('NN', 8 + length($params), 196608) . $params;
	sysread $s, my $answer, 4096;
	$s;
} 1 .. 110;
usleep(1_100_000);
$worker = $c->sql("SELECT pid FROM pg_stat_replication WHERE application_name = 'pageserver'");
$c->sql("SELECT pg_terminate_backend($worker)");
PageserverTest::wait_until(sub { $c->sql("SELECT count(*) FROM pg_stat_replication WHERE pid <> $worker") eq '1' }, 'the next WAL worker');
is($sessions[0]->ask('INSERT INTO after_it VALUES (2) RETURNING i'), '2', 'a commit over a new WAL stream while other connections fill the store');
is(($store->ctl('branch', 'list'))[0], 0, 'an administrator can connect while other connections fill the store');
close $_ for @silent;

# A backend that is idle in a transaction, with a cursor, continues where it was.
my $cursor = $sessions[0];
$cursor->ask('SET synchronize_seqscans = off; BEGIN; DECLARE c CURSOR FOR SELECT i FROM t; MOVE 1000 IN c');
$_->send('SELECT count(*), sum(i) FROM t') for @sessions[ 1 .. 9 ];
is($_->result, $expected, 'the other backends read all rows') for @sessions[ 1 .. 9 ];
is($cursor->ask('FETCH 1 FROM c; MOVE ALL IN c; COMMIT'), '1001', 'a cursor continues');
is($_->errors, '', 'no backend had an error') for @sessions;

# ---- each branch gets its share ----
# Streams that speak the protocol directly, which are busy or idle as the test requires.
my %id;
for (split /\n/, ($store->command('branch_list'))[1])
{
	my @column = split /\|/;
	$id{ $column[0] } = "@column[ 1, 2 ]";
}
my ($db, $rel) = split /\|/, $c->sql("SELECT d.oid, c.relfilenode FROM pg_database d, pg_class c WHERE datname = current_database() AND relname = 't'");
sub message { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body; }

sub open_stream
{
	my ($branch, $lease) = @_;
	my $s = IO::Socket::UNIX->new(Peer => $store->dir . '/.s.PGSQL.' . $store->port) || die "connect: $!";
	my $params = "user\0postgres\0database\0store\0\0";
	syswrite $s, pack('NN', 8 + length($params), 196608) . $params . message('Q', "pagestream $id{$branch} 0 " . ($lease // '') . "\0");
	return $s;
}

# The next message of one of these types.
sub next_message
{
	my ($s, $types) = @_;
	local $SIG{ALRM} = sub { die "no answer\n" };
	alarm 60;
	while (1)
	{
		my ($head, $body) = ('', '');
		while (length $head < 5) { sysread($s, $head, 5 - length $head, length $head) or return ('', ''); }
		my ($type, $len) = unpack 'aN', $head;
		while (length $body < $len - 4) { sysread($s, $body, $len - 4 - length $body, length $body) or return ('', ''); }
		next if $type !~ /[$types]/;
		alarm 0;
		return ($type, $body);
	}
}

# Opens a stream that has answered a request, and is idle now.
sub used_stream
{
	my ($branch) = @_;
	my $s = open_stream($branch);
	is((next_message($s, 'WE'))[0], 'W', "a stream of branch $branch");
	syswrite $s, message('d', pack('CCQ>Q>Q>NNNCnN', ord('g'), 1, 1, ~0, 0, 1663, $db, $rel, 0, 1, 0));
	is(substr((next_message($s, 'd'))[1], 0, 1), 'G', "the stream of branch $branch answers");
	return $s;
}

# Has the stream been recalled?  Otherwise it answers.
sub is_recalled
{
	my ($s) = @_;
	local $SIG{PIPE} = 'IGNORE';
	syswrite $s, message('d', pack('CCQ>Q>Q>NNNCnN', ord('g'), 1, 1, ~0, 0, 1663, $db, $rel, 0, 1, 0));
	my ($type, $body) = next_message($s, 'dE');
	return 0 if $type eq 'd';
	like($body, qr/C57P05/, 'the recalled stream is told why');
	return 1;
}

$_->close for @sessions;
$c->stop;
PageserverTest::wait_until(sub { status('page_streams') == 0 }, 'all streams to end');
my @streams = (used_stream('main'), used_stream('other'), used_stream('other'));
my $next = used_stream('main');
is_deeply([ map { is_recalled($_) } @streams, $next ], [ 0, 1, 0, 0 ], 'the stream that is idle longest, of the branch that has most, is recalled');
close $_ for @streams, $next;
PageserverTest::wait_until(sub { status('page_streams') == 0 }, 'all streams to end');

# ---- no stream is available: the backend fails, and backends that wait for its buffer continue ----
$c = $store->start_compute('main', conf => $small);
# The catalog pages that the statement needs are read before.
@sessions = map { session($c) } 1 .. 2;
$_->ask('SELECT count(*) FROM t WHERE i < 0; SELECT pageserver_smgr_clear_cache()') for @sessions;
my $lsn = $c->sql('SELECT pg_current_wal_flush_lsn()');
my @holders = map { open_stream('main', $lsn) } 1 .. 3;
is((next_message($_, 'WE'))[0], 'W', 'a stream that cannot be recalled') for @holders;
my $t0 = time;
$_->send('SELECT count(*) FROM t') for @sessions;
PageserverTest::wait_until(sub { $store->log_content =~ /WARNING:  readers are waiting for a page stream/ }, "the store's log to report the wait");
cmp_ok(status('page_streams_awaited'), '>=', 1, 'the status of the store counts the wait');
$_->result for @sessions;
cmp_ok(time - $t0, '<', 30, 'backends without a connection do not wait forever');
for my $s (@sessions)
{
	my $errors = $s->errors;
	like($errors, qr/ERROR:  the page store has no free connection for this backend: all 3 page streams of the store are in use/, 'a backend without a connection fails with an error');
	like($errors, qr/HINT:  Increase "max_connections"/, 'the error says what to do');
}
close $_ for @holders;
is($_->ask('SELECT count(*) FROM t'), '20000', 'the backend continues when there is a stream') for @sessions;
PageserverTest::wait_until(sub { $store->log_content =~ /no reader is waiting for a page stream any longer/ }, "the end of the wait in the store's log");
$_->close for @sessions;
$c->stop;
$store->stop;
done_testing();
