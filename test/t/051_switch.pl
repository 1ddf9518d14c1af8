# A switch to the next WAL file: once the store has the record of the switch, it knows that the rest of
# the file is padding, before that is sent. This must end neither the stream nor the compute.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use TrapTest;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
# With few WAL buffers, padding is written and flushed piece by piece.
my $c = $store->start_compute('main', conf => "shared_buffers = 1MB\nwal_buffers = 64kB\nwal_writer_delay = 1\nwal_recycle = off\n");
$c->sql('CREATE TABLE t (i int)');
for my $i (1 .. 12)
{
	$c->sql("INSERT INTO t VALUES ($i); SELECT pg_switch_wal(); INSERT INTO t VALUES ($i)");
}
unlike($c->log_content, qr/could not stream/, 'the stream continues across switches');
$c->kill9;
$c = $store->start_compute('main');
$c->sql_is('SELECT count(*), sum(i) FROM t', '24|156', 'no row is missing');
$c->stop;
$store->stop;
done_testing();
