# Tenants are detached and attached while the store runs: computes of other tenants do not notice,
# those of the tenant wait and continue; a restart keeps a tenant detached; a directory that was
# copied into the store is accepted if it fits.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use TrapTest;

my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', $_) for qw(main other);
$store->ctl_ok('branch of a branch', 'branch', 'create', 'dev', '--from', 'main');
my %c = map { $_ => $store->start_compute($_, conf => "shared_buffers = 1MB\n") } qw(main dev other);
$c{$_}->sql("CREATE TABLE t AS SELECT i, '$_' AS b FROM generate_series(1, 20000) i") for qw(main dev other);

sub tenants { return { map { (split /\|/)[4] => [ split /\|/ ] } split /\n/, ($store->command('tenant_list'))[1] }; }
my ($id, $other_id) = map { tenants()->{$_}[0] } qw(main other);
is(tenants()->{main}[2] . tenants()->{main}[3], 'attached2', 'the list has a tenant with two branches');
like($store->ctl_ok('tenant list', 'tenant', 'list'), qr/^\Q$id\E +attached +2 .* main$/m, 'pageserver_ctl shows it');

# somebody writes on the other tenant all the time; a compute of this one waits in a query
my $writer = TrapTest::session($c{other});
$writer->ask('CREATE TABLE beat (i int)');
$c{$_}->sql('CREATE EXTENSION pageserver_smgr') for qw(dev other);
my $reader = TrapTest::session($c{dev});
my $begin = time;
$store->ctl_ok('detach', 'tenant', 'detach', 'main');
cmp_ok(time - $begin, '<', 10, 'takes no long time');
$writer->ask('INSERT INTO beat VALUES (1)');
$c{other}->sql('SELECT pageserver_smgr_clear_cache()');
$c{other}->sql_is('SELECT count(*), min(b) FROM t', '20000|other', 'another tenant is served');
ok(-e "$store->{dir}/tenants/$id/detached", 'the mark is there');
is(tenants()->{main}[2], 'detached', 'the list shows it');
unlike(($store->command('branch_list'))[1], qr/^(main|dev)\|/m, 'its branches are not listed');
$store->ctl_fails_like(qr/"main" does not exist/, 'no compute can start', 'compute', 'start', 'main', '-D', PageserverTest::test_dir() . '/no');
$store->ctl_fails_like(qr/"main" does not exist/, 'detached twice', 'tenant', 'detach', 'main');
$store->ctl_fails_like(qr/tenant \Q$id\E is detached/, 'twice by its id', 'tenant', 'detach', $id);
$store->ctl_fails_like(qr/tenant "nobody" does not exist/, 'one that is not there', 'tenant', 'attach', 'nobody');
$store->ctl_fails_like(qr/tenant \Q$other_id\E is attached already/, 'one that is attached', 'tenant', 'attach', $other_id);
my @threads = map { do { open my $f, '<', "$_/comm"; <$f> // '' } } glob "/proc/$store->{pid}/task/*";
is(scalar(grep { /main|dev/ } @threads), 0, 'none of its threads is left');

# a query of its compute that needs the store waits, and goes on when the tenant is back
$reader->send("SELECT pageserver_smgr_clear_cache() \\g /dev/null\nSELECT count(*), min(b) FROM t");
PageserverTest::wait_until(sub { $c{dev}->log_content =~ /tenant \Q$id\E is detached/ }, 'the compute to be told');
ok(!$reader->done, 'a query on it waits');
$store->ctl_ok('attach by the name of a branch', 'tenant', 'attach', 'dev');
ok(!-e "$store->{dir}/tenants/$id/detached", 'the mark is gone');
is($reader->result, '20000|dev', 'and goes on');
$c{main}->sql_is('SELECT count(*), min(b) FROM t', '20000|main', 'each');
$c{main}->sql('INSERT INTO t VALUES (-1, \'after\')');
$reader->close;

# detached at a restart; attached by its id
$store->ctl_ok('detach', 'tenant', 'detach', $id);
$store->stop;
$store->start;
is(tenants()->{main}[2], 'detached', 'a restart keeps it detached');
$c{other}->sql_is('SELECT count(*) FROM t', '20000', 'the other is served');

# it fits no more: a branch of its name has been made meanwhile
$store->ctl_ok('its name is free', 'branch', 'create', 'dev', '--from', 'other');
$store->ctl_fails_like(qr/has a branch "dev", as tenant \Q$other_id\E has.*branch rename/s, 'a name that is taken', 'tenant', 'attach', $id);
is(tenants()->{main}[2], 'detached', 'it is as it was');
$store->ctl_ok('the other is renamed', 'branch', 'rename', 'dev', 'dev2');

# in another store: a copy of the directory
my $second = PageserverTest->new_store('second');
sub copy
{
	my ($from, $to) = @_;
	system('cp', '-a', $from, $to) == 0 or die "cp failed";
}
$second->ctl_fails_like(qr/nor a directory ".*\Q$id\E"/, 'a directory that is not there', 'tenant', 'attach', $id);
copy("$store->{dir}/tenants/$id", "$second->{dir}/tenants/$other_id");
$second->ctl_fails_like(qr/belongs to another tenant/, 'a directory of another name', 'tenant', 'attach', $other_id);
rename "$second->{dir}/tenants/$other_id", "$second->{dir}/tenants/$id" or die;
$second->ctl_ok('attach to another store', 'tenant', 'attach', $id);
my $there = $second->start_compute('main');
$there->sql_is('SELECT count(*) FROM t', '20001', 'all is there');
$there->stop;
$second->ctl_fails_like(qr/is attached already/, 'the same once more', 'tenant', 'attach', $id);
$second->stop;

$store->ctl_ok('attach by its id', 'tenant', 'attach', $id);
$c{main}->sql_is("SELECT count(*) FROM t WHERE b = 'after'", '1', 'what was acknowledged is there');
$c{dev}->sql_is('SELECT count(*) FROM t', '20000', 'on its branches too');
is($writer->ask('SELECT count(*) FROM beat'), '1', 'a connection of the other tenant has lived through all');
$writer->close;

# a new compute; a detach while it writes, again and again: nothing acknowledged is lost
$c{main}->stop;
$c{main} = $store->start_compute('main');
$c{main}->sql('CREATE TABLE counted (i serial)');
for my $round (1 .. 3)
{
	$c{main}->sql('INSERT INTO counted SELECT FROM generate_series(1, 100)');
	$store->ctl_ok("detach, round $round", 'tenant', 'detach', 'main');
	$store->kill9 if $round == 2;
	$store->start if $round == 2;
	$store->ctl_ok("attach, round $round", 'tenant', 'attach', 'main');
}
$c{main}->sql_is('SELECT count(*) FROM counted', '300', 'all rows are there');
$c{main}->stop('immediate');
$c{main} = $store->start_compute('main');
$c{main}->sql_is('SELECT count(*) FROM counted', '300', 'in a new compute too');
$_->stop for values %c;
$store->stop;
unlike($store->log_content, qr/PANIC|upkeep of layer files failed/, 'the log of the store');
done_testing();
