# Import of a cluster that the store does not find under the client's path: the client sends it.
# /proc/self/cwd stands for a path that means different things to the client and the store, as on two
# machines. What a client sends is checked before it is used.
use strict;
use warnings;
use PageserverTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use IO::Socket::UNIX;
use IPC::Run ();
use Test::More;

my $store = PageserverTest->new_store('main');
my $dir = $store->dir;
my $ctl = PageserverTest::bindir() . '/pageserver_ctl';

# two clusters; the first has a tablespace, WAL that is not needed, a prepared transaction and an unlogged table
my ($here, $there) = map {
	my $node = PostgreSQL::Test::Cluster->new($_);
	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nmax_wal_size = 1GB\n");
	$node
} qw(here there);
my $location = PageserverTest::test_dir() . '/ts';
mkdir $location;
$here->start;
$here->safe_psql('postgres', "CREATE TABLESPACE ts LOCATION '$location'");
$here->safe_psql('postgres', 'CREATE TABLE t TABLESPACE ts AS SELECT i, repeat(md5(i::text), 20) AS x FROM generate_series(1, 50000) i');
$here->safe_psql('postgres', 'CREATE UNLOGGED TABLE u AS SELECT 1 AS a');
$here->safe_psql('postgres', "BEGIN; INSERT INTO t VALUES (0, 'x'); PREPARE TRANSACTION 'p'");
$here->safe_psql('postgres', 'SELECT pg_switch_wal() FROM generate_series(1, 3)');

# Returns (exit code, output) of an import whose client runs in the given directory.
sub import_from
{
	my ($pgdata, $name) = @_;
	my $out = '';

	local $ENV{PAGESERVER_STORE} = $dir;
	my $h = IPC::Run::start([ $ctl, 'import', '--pgdata', '/proc/self/cwd', $name ], '<', \undef, '>', \$out, '2>', \$out,
		init => sub { chdir $pgdata or die });
	$h->finish;
	return ($h->result(0), $out);
}

my ($rc, $out) = import_from($here->data_dir, 'old');
is($rc, 6, 'a running cluster is refused');
like($out, qr/a server may be running/, 'the running cluster is refused before it is sent');
$here->stop('immediate');
unlink $here->data_dir . '/postmaster.pid';
($rc, $out) = import_from($here->data_dir, 'old');
is($rc, 6, 'a cluster that was not shut down is refused');
like($out, qr/not shut down cleanly/, 'the cluster that was not shut down is refused before it is sent');
$here->start;
$here->stop;

($rc, $out) = import_from($here->data_dir, 'old');
is($rc, 0, 'a cluster is sent if the store has nothing under its path') or diag($out);
like($out, qr/could not read the cluster in "\/proc\/self\/cwd" on the store's machine; sending the data directory/, 'the import says that the store could not read the cluster');
is_deeply([ glob "$dir/tmp/import-*" ], [], 'no received files are left');
my $compute = $store->start_compute('old');
$compute->sql_is('SELECT count(*), sum(length(x)) FROM t', '50000|32000000', 'the imported rows in the tablespace');
$compute->sql_is('SELECT count(*) FROM u', '0', 'the unlogged table is empty');
$compute->sql("COMMIT PREPARED 'p'");
$compute->sql_is('SELECT x FROM t WHERE i = 0', 'x', 'the prepared transaction can be committed');
$compute->stop;

# The store's machine has another cluster under that path.
mkdir "$dir/global" or die;
system_or_bail('cp', $there->data_dir . '/global/pg_control', "$dir/global/");
($rc, $out) = import_from($here->data_dir, 'old2');
is($rc, 0, 'a cluster is sent if the store has another one under its path') or diag($out);
like($out, qr/the store's machine has another cluster/, 'the import says that the store has another cluster');
my $sysid = (grep { /system identifier/ } `@{[ PageserverTest::bindir() ]}/pg_controldata @{[ $here->data_dir ]}`)[0] =~ s/\D+//gr;
like(($store->command('branch_list'))[1], qr/^old2\|\w+\|\w+\|$sysid\|/m, 'the cluster of the client was imported');
system_or_bail('rm', '-r', "$dir/global");

# The same cluster under the same path is read by the store, not sent.
is($store->ctl_ok('read by the store', 'import', '--pgdata', $here->data_dir, 'old3', '-q'), '', 'a cluster that the store can read is not sent');

# Received archives are not trusted.
sub message { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body; }

# Returns the store's answer to an archive that a client sends.
sub send_archive
{
	my ($archive, $end) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => "$dir/.s.PGSQL." . $store->port) or die "connect: $!";
	my $answer = '';

	local $SIG{PIPE} = 'IGNORE';
	my $startup = pack('N', 196608) . "user\0x\0database\0store\0\0";
	$socket->print(pack('N', 4 + length $startup) . $startup . message('Q', "import_stream bad\0"));
	$socket->print(message('d', $_)) for unpack '(a60000)*', $archive;
	$socket->print($end // message('c', ''));
	$socket->print(message('X', ''));
	$socket->flush;
	local $/;
	$answer = <$socket> // '';
	return $answer;
}
my $odd = PageserverTest::test_dir() . '/odd';
mkdir $odd;
symlink '/etc/passwd', "$odd/PG_VERSION";
like(send_archive(scalar `tar -c -C $odd .`), qr/contains links or special files/, 'a link is refused');
like(send_archive(join '', map { chr rand 256 } 1 .. 200000), qr/"\/bin\/tar" failed/, 'data that is not a tar archive is refused');
like(send_archive(scalar `tar -c -C /etc hostname`), qr/could not read ".*PG_VERSION"/, 'an archive without a cluster is refused');
like(send_archive('', message('f', "no more\0")), qr/the client aborted the copy: no more/, 'a client that aborts the copy');
unlike(send_archive('', ''), qr/SERROR.*internal/s, 'a client that disconnects');
PageserverTest::wait_until(sub { !glob "$dir/tmp/import-*" }, 'received files to be removed');
$store->ctl_ok('the store continues', 'branch', 'list');
done_testing();
