# Settings of the owner that the library overrides are logged once, with the reason. Settings that
# already have the required value are not.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch', 'branch', 'create', 'main');
my $c = $store->start_compute('main', name => 'c');
unlike($c->log_content, qr/is set to/, 'a compute without settings of an owner undoes none');
$c->sql("ALTER SYSTEM SET archive_mode = on; ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (a, b)'; ALTER SYSTEM SET fsync = on;"
	  . " ALTER SYSTEM SET restart_after_crash = off; ALTER SYSTEM SET max_connections = 50");
$c->stop;
$c = $store->start_compute('main', name => 'c', conf => "max_slot_wal_keep_size = 1GB\nwal_log_hints = on\nmax_worker_processes = 0\n");
my $log = $c->log_content;
like($log, qr/LOG:  "archive_mode" is set to "off", not to "on"\n.*DETAIL:  An archive would get WAL.* It was set in file ".*postgresql.auto.conf" line \d+\./, 'archive_mode, and where it was set');
like($log, qr/LOG:  "synchronous_standby_names" is set to "pageserver_smgr", not to "ANY 1 \(a, b\)"/, 'synchronous_standby_names');
like($log, qr/LOG:  "max_slot_wal_keep_size" is set to "-1", not to "1GB"\n.*DETAIL:  WAL .* It was set on the command line\./, 'max_slot_wal_keep_size, on the command line');
like($log, qr/"max_worker_processes" is set to "?\d+"?, not to "?0"?/, 'max_worker_processes');
unlike($log, qr/"(fsync|restart_after_crash|wal_log_hints|max_connections|full_page_writes)" is set to/, 'and no others');
$c->sql_is('SHOW max_connections', '50', 'what is the owner\'s stays so');
$c->stop;
$store->stop;
done_testing();
