# Page streams of the store are shared when there are fewer of them than backends: no backend waits
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
	is($rc, 0, 'an administrator gets in meanwhile');
	is($_->result, $expected, 'a backend reads all') for @sessions;
}
is($_->errors, '', 'without an error') for @sessions;
cmp_ok(status('page_streams'), '<=', 3, 'there are no more streams than max_connections');
cmp_ok(status('page_streams_recalled'), '>', 0, 'idle ones were given to others');
is(status('wal_streams'), 1, 'WAL has its own');
unlike($c->log_content, qr/could not connect to the page store|lost connection/, 'which is no outage to anybody');
like($store->log_content, qr/all 3 page streams \(max_connections\) are taken/, "the store's log tells of it");

# the backends have taken all places, and WAL goes on when its stream has to be made anew
my $worker = $c->sql("SELECT pid FROM pg_stat_replication WHERE application_name = 'pageserver'");
$c->sql("SELECT pg_terminate_backend($worker)");
PageserverTest::wait_until(sub { $c->sql("SELECT count(*) FROM pg_stat_replication WHERE pid <> $worker") eq '1' }, 'the next WAL worker');
is($sessions[0]->ask('CREATE TABLE after_it (i int); INSERT INTO after_it VALUES (1) RETURNING i'), '1', 'a commit over a new WAL stream');

# nor do connections that say nothing keep it out, or an administrator
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
is($sessions[0]->ask('INSERT INTO after_it VALUES (2) RETURNING i'), '2', 'a commit over a new WAL stream while others fill the store');
is(($store->ctl('branch', 'list'))[0], 0, 'an administrator gets in');
close $_ for @silent;

# a backend that is idle within a transaction, with a cursor, goes on where it was
my $cursor = $sessions[0];
$cursor->ask('SET synchronize_seqscans = off; BEGIN; DECLARE c CURSOR FOR SELECT i FROM t; MOVE 1000 IN c');
$_->send('SELECT count(*), sum(i) FROM t') for @sessions[ 1 .. 9 ];
is($_->result, $expected, 'the others read') for @sessions[ 1 .. 9 ];
is($cursor->ask('FETCH 1 FROM c; MOVE ALL IN c; COMMIT'), '1001', 'a cursor goes on');
is($_->errors, '', 'no error') for @sessions;

# ---- each branch gets its share ----
# Streams in the words of the protocol, which are at work, or idle, as the test wants it.
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

# A stream that has answered a request, and is idle now.
sub used_stream
{
	my ($branch) = @_;
	my $s = open_stream($branch);
	is((next_message($s, 'WE'))[0], 'W', "a stream of branch $branch");
	syswrite $s, message('d', pack('CCQ>Q>Q>NNNCnN', ord('g'), 1, 1, ~0, 0, 1663, $db, $rel, 0, 1, 0));
	is(substr((next_message($s, 'd'))[1], 0, 1), 'G', 'which answers');
	return $s;
}

# Has it been recalled?  Else it answers.
sub is_recalled
{
	my ($s) = @_;
	local $SIG{PIPE} = 'IGNORE';
	syswrite $s, message('d', pack('CCQ>Q>Q>NNNCnN', ord('g'), 1, 1, ~0, 0, 1663, $db, $rel, 0, 1, 0));
	my ($type, $body) = next_message($s, 'dE');
	return 0 if $type eq 'd';
	like($body, qr/C57P05/, 'it is told why');
	return 1;
}

$_->close for @sessions;
$c->stop;
PageserverTest::wait_until(sub { status('page_streams') == 0 }, 'all streams to end');
my @streams = (used_stream('main'), used_stream('other'), used_stream('other'));
my $next = used_stream('main');
is_deeply([ map { is_recalled($_) } @streams, $next ], [ 0, 1, 0, 0 ], 'the longest idle of the branch that has most gives way');
close $_ for @streams, $next;
PageserverTest::wait_until(sub { status('page_streams') == 0 }, 'all streams to end');

# ---- no stream can be had: the backend fails, and whoever waits for its buffer goes on ----
$c = $store->start_compute('main', conf => $small);
# what the statement needs of the catalog is there
@sessions = map { session($c) } 1 .. 2;
$_->ask('SELECT count(*) FROM t WHERE i < 0; SELECT pageserver_smgr_clear_cache()') for @sessions;
my $lsn = $c->sql('SELECT pg_current_wal_flush_lsn()');
my @holders = map { open_stream('main', $lsn) } 1 .. 3;
is((next_message($_, 'WE'))[0], 'W', 'a stream that cannot be recalled') for @holders;
my $t0 = time;
$_->send('SELECT count(*) FROM t') for @sessions;
PageserverTest::wait_until(sub { $store->log_content =~ /WARNING:  readers are waiting for a page stream/ }, "the store's log to tell of the wait");
cmp_ok(status('page_streams_awaited'), '>=', 1, 'and its status');
$_->result for @sessions;
cmp_ok(time - $t0, '<', 30, 'backends without a connection do not wait for ever');
for my $s (@sessions)
{
	my $errors = $s->errors;
	like($errors, qr/ERROR:  the page store has no free connection for this backend: all 3 page streams of the store are in use/, 'they fail with an error');
	like($errors, qr/HINT:  Increase "max_connections"/, 'that says what to do');
}
close $_ for @holders;
is($_->ask('SELECT count(*) FROM t'), '20000', 'and go on when there is one') for @sessions;
PageserverTest::wait_until(sub { $store->log_content =~ /no reader is waiting for a page stream any longer/ }, "the end of it in the store's log");
$_->close for @sessions;
$c->stop;
$store->stop;
done_testing();
