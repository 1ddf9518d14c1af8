# Two computes on one branch: the newer wins, the older stops.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $old = $store->start_compute('main', name => 'old');
$old->sql('CREATE TABLE t (who text)');
$old->sql("INSERT INTO t VALUES ('old, before')");

# a client that goes on writing to the older one
my $file = PageserverTest::test_dir() . '/told';
my $writer = IPC::Run::start([ 'sh', '-c', "i=0; while [ \$i -lt 2000 ]; do i=\$((i+1)); " . PageserverTest::bindir()
	  . "/psql -X -q -d '" . $old->connstr . "' -c \"INSERT INTO t VALUES ('old \$i')\" >/dev/null 2>&1 && echo \$i >> $file || exit 0; done" ]);
PageserverTest::wait_until(sub { -s $file }, 'the first insert');
my $new = $store->start_compute('main', name => 'new', args => ['--takeover']);
my $seen = $new->sql("SELECT count(*) FROM t WHERE who LIKE 'old%'");
$writer->finish;
my @told = split /\n/, PostgreSQL::Test::Utils::slurp_file($file);
$new->sql("INSERT INTO t VALUES ('new')");

# every insert that the older one acknowledged is there, and nothing came after the change
$new->sql_is("SELECT count(*) >= " . (@told + 1) . " FROM t WHERE who LIKE 'old%'", 't', 'all that the older compute acknowledged (' . @told . ' rows) is there');
$new->sql_is("SELECT count(*) FROM t WHERE who LIKE 'old%'", $seen, 'and nothing of it came in later');

PageserverTest::wait_gone($old->{pid});
pass('the older compute stops by itself');
like($old->log_content, qr/FATAL:.*newer compute/, 'with a FATAL that says that there is a newer one');
like($old->log_content, qr/generation 2 \([^)]*new/, 'and who runs it');
delete $old->{pid};
$new->sql_is("SELECT count(*) FROM t WHERE who = 'new'", '1', 'the newer one goes on');
$new->stop;
$store->stop;
done_testing();
