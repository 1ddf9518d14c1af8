# Import of a cluster whose settings are not in its data directory, as on Debian. Settings that determine
# the results of queries are imported, the others are named; all are imported with --settings-from.
use strict;
use warnings;
use File::Path qw(make_path);
use PageserverTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $store = PageserverTest->new_store('main');
my $scratch = PageserverTest::test_dir();
my $etc = "$scratch/etc";
my $node = PostgreSQL::Test::Cluster->new('cluster');
$node->init(allows_streaming => 1, extra => [ '-T', 'english' ]);
$node->start;
$node->safe_psql('postgres', "ALTER SYSTEM SET work_mem = '7MB'");
$node->safe_psql('postgres', "ALTER SYSTEM SET max_slot_wal_keep_size = '2GB'");
$node->stop;
my $data = $node->data_dir;

# Its files are moved to their places on Debian, with some of the settings in other files.
make_path("$etc/conf.d/more");
rename "$data/$_", "$etc/$_" or die for qw(postgresql.conf pg_hba.conf pg_ident.conf);
append_to_file("$etc/postgresql.conf", "data_directory = '$data'\nhba_file = '$etc/pg_hba.conf'\nident_file = '$etc/pg_ident.conf'\n"
	  . "include_dir 'conf.d'\ninclude_if_exists = 'nowhere.conf'\nmax_connections = 77\n");
append_to_file("$etc/conf.d/10.conf", "timezone = 'Europe/Berlin'\nshared_buffers = 33MB\ninclude 'more/x.conf'\n");
append_to_file("$etc/conf.d/20.conf", "maintenance_work_mem = 55MB\n");
append_to_file("$etc/conf.d/not", "nonsense\n");
append_to_file("$etc/conf.d/more/x.conf", "lc_monetary = 'C'\n");
append_to_file("$etc/pg_hba.conf", "host all all 10.2.0.0/16 reject\n");
my $bindir = PageserverTest::bindir();
system_or_bail("$bindir/pg_ctl", '-s', '-w', '-D', $etc, '-l', "$scratch/log", 'start');
system_or_bail("$bindir/pg_ctl", '-s', '-w', '-D', $etc, '-m', 'fast', 'stop');

sub import_as { my ($name, @args) = @_; return $store->ctl('import', @args, $name); }
sub setting { my ($name, $what) = @_; my ($rc, $out) = $store->ctl('settings', 'get', $name, $what); return $rc == 0 ? $out =~ s/\n$//r : "exit code $rc"; }

my ($rc, $out, $err) = import_as('some', '--pgdata', $data);
is($rc, 0, 'import without its settings') or diag($err);
like($err, qr/settings are in "\Q$etc\E\/postgresql.conf"; settings not imported: (?=.*max_connections)(?=.*shared_buffers)(?=.*pg_hba.conf)/, 'settings that are not imported are named');
unlike($err, qr/(?<!log_)timezone,|lc_monetary|default_text_search_config/, 'settings that determine the results of queries are imported');
like($err, qr/--settings-from/, 'the message names --settings-from');
like($err, qr/warning: the cluster sets "max_slot_wal_keep_size" to "2GB", but computes override it\n.*detail: WAL /, 'settings that computes override are named');
my $compute = $store->start_compute('some');
$compute->sql_is("SELECT to_tsvector('the running dogs'), current_setting('timezone'), current_setting('lc_monetary'), current_setting('work_mem'), current_setting('max_connections')",
	"'dog':3 'run':2|Europe/Berlin|C|7MB|100", 'queries answer as they did');
$compute->stop;

append_to_file("$etc/conf.d/20.conf", "archive_mode = on\nfsync = True\nfull_page_writes = 0\nwal_log_hints = no\nsynchronous_standby_names = ''\n");
($rc, $out, $err) = import_as('all', '--pgdata', $data, '--settings-from', $etc);
is($rc, 0, 'import with its settings') or diag($err);
unlike($err, qr/settings not imported/, 'all settings are imported');
is_deeply([ sort $err =~ /^.*warning: the cluster sets "(\w+)" to ".*", but/mg ], [qw(archive_mode max_slot_wal_keep_size)],
	'overridden settings are named, except defaults and those with the required value');
is(setting('all', $_->[0]), $_->[1], "$_->[0]") for [ max_connections => 77 ], [ shared_buffers => '33MB' ], [ maintenance_work_mem => '55MB' ], [ timezone => 'Europe/Berlin' ], [ work_mem => '7MB' ],
  [ data_directory => 'exit code 4' ], [ include_dir => 'exit code 4' ];
like(setting('all', 'pg_hba.conf'), qr/^host all all 10.2.0.0\/16 reject$/m, 'pg_hba.conf is imported');
$compute = $store->start_compute('all');
$compute->sql_is("SELECT current_setting('max_connections'), current_setting('shared_buffers')", '77|33MB', 'a compute has the imported settings');
$compute->stop;

# The location of the settings is not known.
unlink "$data/postmaster.opts";
($rc, $out, $err) = import_as('none', '--pgdata', $data);
is($rc, 0, 'settings that cannot be found') or diag($err);
like($err, qr/does not contain postgresql.conf: computes of the branch will use default settings/, 'the message says that default settings will be used');
is((import_as('x', '--pgdata', $data, '--settings-from', $scratch))[0], 4, 'a directory without a postgresql.conf');
is((import_as('x', '--pgdata', $data, '--debian', '15/main'))[0], 2, 'two clusters named');
is((import_as('x'))[0], 2, 'none named');
like((import_as('x', '--debian', '15/nowhere'))[2], qr/could not find postgresql.conf at "\/etc\/postgresql\/15\/nowhere"/, 'a cluster that Debian does not have');
append_to_file("$etc/conf.d/20.conf", "include '20.conf'\n");
like((import_as('x', '--pgdata', $data, '--settings-from', $etc))[2], qr/maximum nesting depth of 10 exceeded/, 'files that include one another');
unlike(($store->command('branch_list'))[1], qr/^x\|/m, 'a refused import creates no branch');
done_testing();
