# Settings of the owner that the library overrides are logged once, with the reason and the place where
# they were set. Settings that already have the required value are not logged.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch', 'branch', 'create', 'main');
my $c = $store->start_compute('main', name => 'c');
unlike($c->log_content, qr/is forced to/, 'nothing is logged without settings of an owner');
$c->sql("ALTER SYSTEM SET archive_mode = on; ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (a, b)'; ALTER SYSTEM SET fsync = on;"
	  . " ALTER SYSTEM SET restart_after_crash = off; ALTER SYSTEM SET max_connections = 50");
$c->stop;
$c = $store->start_compute('main', name => 'c', conf => "max_slot_wal_keep_size = 1GB\nwal_log_hints = on\nmax_worker_processes = 0\n");
my $log = $c->log_content;
like($log, qr/LOG:  parameter "archive_mode" is forced to "off" instead of "on"\n.*DETAIL:  An archive would get WAL.* The value was set in file ".*postgresql.auto.conf" line \d+\./, 'archive_mode is logged, with the place where it was set');
like($log, qr/LOG:  parameter "synchronous_standby_names" is forced to "pageserver_smgr" instead of "ANY 1 \(a, b\)"/, 'synchronous_standby_names is logged');
like($log, qr/LOG:  parameter "max_slot_wal_keep_size" is forced to "-1" instead of "1GB"\n.*DETAIL:  WAL .* The value was set on the command line\./, 'max_slot_wal_keep_size is logged, as set on the command line');
like($log, qr/"max_worker_processes" is forced to "?\d+"? instead of "?0"?/, 'max_worker_processes is logged');
unlike($log, qr/"(fsync|restart_after_crash|wal_log_hints|max_connections|full_page_writes)" is forced to/, 'no other settings are logged');
$c->sql_is('SHOW max_connections', '50', 'a setting that the library leaves alone keeps its value');
$c->stop;
$store->stop;
done_testing();
