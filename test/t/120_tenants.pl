# Tenants are detached and attached while the store runs. Computes of other tenants do not notice; those
# of the tenant wait and continue. A restart keeps a tenant detached, and a directory that was copied into
# the store is accepted if it fits.
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

# A client writes to the other tenant all the time; a compute of this tenant waits in a query.
my $writer = TrapTest::session($c{other});
$writer->ask('CREATE TABLE beat (i int)');
$c{$_}->sql('CREATE EXTENSION pageserver_smgr') for qw(dev other);
my $reader = TrapTest::session($c{dev});
my $begin = time;
$store->ctl_ok('detach', 'tenant', 'detach', 'main');
cmp_ok(time - $begin, '<', 10, 'a detach takes less than 10 s');
$writer->ask('INSERT INTO beat VALUES (1)');
$c{other}->sql('SELECT pageserver_smgr_clear_cache()');
$c{other}->sql_is('SELECT count(*), min(b) FROM t', '20000|other', 'another tenant is served');
ok(-e "$store->{dir}/tenants/$id/detached", 'the directory is marked as detached');
is(tenants()->{main}[2], 'detached', 'the list shows that the tenant is detached');
unlike(($store->command('branch_list'))[1], qr/^(main|dev)\|/m, 'its branches are not listed');
$store->ctl_fails_like(qr/"main" does not exist/, 'no compute of a detached tenant can start', 'compute', 'start', 'main', '-D', PageserverTest::test_dir() . '/no');
$store->ctl_fails_like(qr/"main" does not exist/, 'detached twice', 'tenant', 'detach', 'main');
$store->ctl_fails_like(qr/tenant \Q$id\E is detached/, 'detached twice, by its id', 'tenant', 'detach', $id);
$store->ctl_fails_like(qr/tenant "nobody" does not exist/, 'a tenant that does not exist', 'tenant', 'attach', 'nobody');
$store->ctl_fails_like(qr/tenant \Q$other_id\E is attached already/, 'a tenant that is attached already', 'tenant', 'attach', $other_id);
my @threads = map { do { open my $f, '<', "$_/comm"; <$f> // '' } } glob "/proc/$store->{pid}/task/*";
is(scalar(grep { /main|dev/ } @threads), 0, 'no thread of a detached tenant is left');

# A query of its compute that needs the store waits, and continues when the tenant is attached.
$reader->send("SELECT pageserver_smgr_clear_cache() \\g /dev/null\nSELECT count(*), min(b) FROM t");
PageserverTest::wait_until(sub { $c{dev}->log_content =~ /tenant \Q$id\E is detached/ }, 'the compute to be told');
ok(!$reader->done, 'a query on a detached tenant waits');
$store->ctl_ok('attach by the name of a branch', 'tenant', 'attach', 'dev');
ok(!-e "$store->{dir}/tenants/$id/detached", 'the mark of a detached tenant is removed');
is($reader->result, '20000|dev', 'the query that waited continues');
$c{main}->sql_is('SELECT count(*), min(b) FROM t', '20000|main', 'each');
$c{main}->sql('INSERT INTO t VALUES (-1, \'after\')');
$reader->close;

# A tenant stays detached over a restart, and is attached by its id.
$store->ctl_ok('detach', 'tenant', 'detach', $id);
$store->stop;
$store->start;
is(tenants()->{main}[2], 'detached', 'a restart keeps it detached');
$c{other}->sql_is('SELECT count(*) FROM t', '20000', 'the other tenant is served after a restart');

# It no longer fits: a branch with the name of one of its branches was created meanwhile.
$store->ctl_ok('the name of a branch of a detached tenant is free', 'branch', 'create', 'dev', '--from', 'other');
$store->ctl_fails_like(qr/has a branch "dev", as tenant \Q$other_id\E has.*branch rename/s, 'a name that is taken', 'tenant', 'attach', $id);
is(tenants()->{main}[2], 'detached', 'a tenant that could not be attached stays detached');
$store->ctl_ok('the other branch is renamed', 'branch', 'rename', 'dev', 'dev2');

# A copy of the directory is attached to another store.
my $second = PageserverTest->new_store('second');
sub copy
{
	my ($from, $to) = @_;
	system('cp', '-a', $from, $to) == 0 or die "cp failed";
}
$second->ctl_fails_like(qr/nor a directory ".*\Q$id\E"/, 'a directory that does not exist', 'tenant', 'attach', $id);
copy("$store->{dir}/tenants/$id", "$second->{dir}/tenants/$other_id");
$second->ctl_fails_like(qr/belongs to another tenant/, 'a directory that belongs to another tenant', 'tenant', 'attach', $other_id);
rename "$second->{dir}/tenants/$other_id", "$second->{dir}/tenants/$id" or die;
$second->ctl_ok('attach to another store', 'tenant', 'attach', $id);
my $there = $second->start_compute('main');
$there->sql_is('SELECT count(*) FROM t', '20001', 'the attached copy has all rows');
$there->stop;
$second->ctl_fails_like(qr/is attached already/, 'the copy cannot be attached twice', 'tenant', 'attach', $id);
$second->stop;

$store->ctl_ok('attach by its id', 'tenant', 'attach', $id);
$c{main}->sql_is("SELECT count(*) FROM t WHERE b = 'after'", '1', 'acknowledged rows are present after a detach');
$c{dev}->sql_is('SELECT count(*) FROM t', '20000', 'a branch of an attached tenant has its rows');
is($writer->ask('SELECT count(*) FROM beat'), '1', 'a connection of the other tenant has survived everything');
$writer->close;

# A new compute; the tenant is detached again and again while it writes: no acknowledged row is lost.
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
$c{main}->sql_is('SELECT count(*) FROM counted', '300', 'no row is lost when a tenant is detached while a compute writes');
$c{main}->stop('immediate');
$c{main} = $store->start_compute('main');
$c{main}->sql_is('SELECT count(*) FROM counted', '300', 'a new compute has these rows, too');
$_->stop for values %c;
$store->stop;
unlike($store->log_content, qr/PANIC|upkeep of layer files failed/, 'no PANIC and no failed upkeep in the log of the store');
done_testing();
