# Two computes on one branch: the newer one wins, the older one stops. Everything that the older one
# acknowledged is preserved, and nothing that it writes later is accepted.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $old = $store->start_compute('main', name => 'old');
$old->sql('CREATE TABLE t (who text)');
$old->sql("INSERT INTO t VALUES ('old, before')");

# a client that continues to write to the older compute
my $file = PageserverTest::test_dir() . '/told';
my $writer = IPC::Run::start([ 'sh', '-c', "i=0; while [ \$i -lt 2000 ]; do i=\$((i+1)); " . PageserverTest::bindir()
	  . "/psql -X -q -d '" . $old->connstr . "' -c \"INSERT INTO t VALUES ('old \$i')\" >/dev/null 2>&1 && echo \$i >> $file || exit 0; done" ]);
PageserverTest::wait_until(sub { -s $file }, 'the first insert');
my $new = $store->start_compute('main', name => 'new', args => ['--takeover']);
my $seen = $new->sql("SELECT count(*) FROM t WHERE who LIKE 'old%'");
$writer->finish;
my @told = split /\n/, PostgreSQL::Test::Utils::slurp_file($file);
$new->sql("INSERT INTO t VALUES ('new')");

# Every insert that the older compute acknowledged is preserved, and none arrived after the takeover.
$new->sql_is("SELECT count(*) >= " . (@told + 1) . " FROM t WHERE who LIKE 'old%'", 't', 'everything that the older compute acknowledged (' . @told . ' rows) is preserved');
$new->sql_is("SELECT count(*) FROM t WHERE who LIKE 'old%'", $seen, 'nothing of the older compute arrived later');

PageserverTest::wait_gone($old->{pid});
pass('the older compute stops by itself');
like($old->log_content, qr/FATAL:.*newer compute/, 'its log says that there is a newer compute');
like($old->log_content, qr/generation 2 \([^)]*new/, 'its log says where the newer compute runs');
delete $old->{pid};
$new->sql_is("SELECT count(*) FROM t WHERE who = 'new'", '1', 'the newer compute continues');
$new->stop;
$store->stop;
done_testing();
