# A tenant in object storage has one owner: a store claims it whenever it starts, so that of a store and its copies only
# one serves it.  What happens when the object storage cannot be reached.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $dir = PageserverTest::test_dir();
my $bucket = "$dir/bucket";
mkdir $bucket or die "mkdir: $!";
my $conf = "remote_storage = 'file://$bucket'\nremote_check_interval = 1s\ncheckpoint_distance = 1MB\n";
my $store = PageserverTest->new_store('main', conf => $conf);

# The list of tenants: the one to which the named branch belongs.
sub tenant
{
	my ($from, $name) = @_;
	for my $line (split /\n/, ($from->command('tenant_list'))[1])
	{
		my %row;
		@row{qw(id sysid state branches name deleted left by generation error)} = split /\|/, $line, -1;
		return \%row if $row{name} eq $name;
	}
	return { map { $_ => '' } qw(id state error) };
}

sub claims
{
	my ($id) = @_;
	return scalar(my @list = glob "$bucket/t/$id/own/*");
}

# Another store on a copy of the directory; of a store that runs it is a snapshot, in which no file is half written.
sub clone
{
	my ($from, $name) = @_;
	my $to = "$dir/store_$name";
	kill 'STOP', $from->{pid} if $from->{pid};
	system('cp', '-a', $from->dir, $to) == 0 or die "cp failed";
	kill 'CONT', $from->{pid} if $from->{pid};
	unlink "$to/pageserver.running", "$to/pageserver.pid";
	my $clone = bless { %$from, name => $name, dir => $to, port => PageserverTest::free_port(), computes => [], log => "$to.log" }, 'PageserverTest';
	delete $clone->{pid};
	$clone->append_conf("port = $clone->{port}\n");
	return $clone;
}

sub files
{
	my ($of) = @_;
	return join "\n", sort split /\n/, `cd '$of->{dir}/tenants' && find . -type f | xargs cksum`;
}

# ---- a new tenant is claimed; each start claims it again ----
$store->ctl_ok('a branch', 'branch', 'create', 'main');
my $id = tenant($store, 'main')->{id};
is(tenant($store, 'main')->{state}, 'attached', 'a new tenant is attached');
is(tenant($store, 'main')->{generation}, 1, 'and has generation 1');
is(claims($id), 1, 'its claim is in the bucket');
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t AS SELECT i FROM generate_series(1, 100000) i');
$store->kill9;
$store->start;
is(tenant($store, 'main')->{generation}, 2, 'a restart after a kill claims it again');
is(claims($id), 2, 'with a claim of its own');
$c->sql_is('SELECT count(*) FROM t', 100000, 'the compute continues');
$c->sql('INSERT INTO t SELECT i FROM generate_series(1, 100000) i');
$c->stop;
my ($timeline) = glob "$store->{dir}/tenants/$id/timelines/*";
PageserverTest::wait_until(sub { grep { /__2[0-9a-f]{8}$/ } glob "$timeline/layers/*" }, 'a layer file with a number of the generation');
ok(1, 'layer files have numbers of the generation');
my $branch = $store->ctl_ok('branch list', 'branch', 'list', '--json');
cmp_ok(($branch =~ /"generation": (\d+)/)[0], '>=', 1 << 32, 'and so have computes');
$c = $store->start_compute('main');
cmp_ok(($store->ctl_ok('branch list', 'branch', 'list', '--json') =~ /"generation": (\d+)/)[0], '>', 2 << 32, 'of the one in which they start');
$c->stop;

# ---- a tenant is moved with its directory, and is claimed when it is attached ----
$store->ctl_ok('another tenant', 'branch', 'create', 'other');
my $other = tenant($store, 'other')->{id};
$store->ctl_ok('detach', 'tenant', 'detach', 'other');
$store->ctl_ok('attach', 'tenant', 'attach', $other);
is(tenant($store, 'other')->{generation}, 2, 'an attach claims the tenant');

# ---- a copy of a store that is stopped: of the two the first to start has the tenants ----
$store->stop;
my $copy = clone($store, 'copy');
$store->start;
my $before = claims($id);
my $files = files($store);
$copy->start;
is(tenant($copy, 'main')->{state}, 'fenced', 'the second to start is refused');
like(tenant($copy, 'main')->{error}, qr/store "\Q$store->{dir}\E" on host ".+" has taken over tenant "$id" at \d{4}-/, 'it names the owner');
is(tenant($copy, 'other')->{state}, 'fenced', 'each tenant');
like($copy->ctl_ok('tenant list', 'tenant', 'list'), qr/^$id +fenced .*store "\Q$store->{dir}\E"/m, 'pageserver_ctl shows that');
my ($rc, $out, $err) = $copy->start_compute('main', ok => 0);
like($err, qr/has taken over tenant/, 'a compute is told');
$copy->ctl_fails_like(qr/has taken over tenant.*detach the tenant there/s, 'rename', 'branch', 'rename', 'main', 'new');
$copy->ctl_fails_like(qr/has taken over tenant/, 'delete', 'branch', 'delete', 'main', '--force');
$copy->ctl_fails_like(qr/has taken over tenant/, 'a new branch', 'branch', 'create', 'b', '--from', 'main');
$copy->ctl_fails_like(qr/has taken over tenant/, 'protect', 'branch', 'protect', 'main');
like($copy->ctl_ok('branch list', 'branch', 'list'), qr/main .*has taken over tenant/, 'branch list shows why');
$copy->ctl_ok('a tenant of its own is served', 'branch', 'create', 'own');
is(tenant($copy, 'own')->{state}, 'attached', 'and owned');
is(claims($id), $before, 'there is no other claim');
is(files($store), $files, 'the files of the first store are as they were');
$c = $store->start_compute('main');
$c->sql_is('SELECT count(*) FROM t', 200000, 'and it serves them');
$copy->ctl_ok('what was taken over can be detached', 'tenant', 'detach', 'main');
$copy->ctl_fails_like(qr/has taken over tenant/, 'and not be attached, not even by force', 'tenant', 'attach', $id, '--force');
$copy->stop;

# ---- a copy of a store that runs: it takes over, and the other one notices ----
my $second = clone($store, 'second');
$second->start;
is(tenant($second, 'main')->{state}, 'attached', 'a copy of the running store takes over');
PageserverTest::wait_until(sub { tenant($store, 'main')->{state} eq 'fenced' }, 'the first store to notice');
like(tenant($store, 'main')->{error}, qr/store "\Q$second->{dir}\E"/, 'it names the newer owner');
like($store->log_content, qr/tenant $id is out of service: store "\Q$second->{dir}\E"/, 'so does its log');
PageserverTest::wait_until(sub { $c->log_content =~ /has taken over tenant/ }, 'the compute to be told');
PageserverTest::wait_until(
	sub {
		not grep { $_ =~ /main/ } map { do { open my $f, '<', "$_/comm"; <$f> // '' } } glob "/proc/$store->{pid}/task/*";
	},
	'the branch to be closed');
ok(-e "$store->{dir}/tenants/$id/remote.json", 'local files stay');
$c->stop('immediate');
$store->stop;
my $c2 = $second->start_compute('main');
$c2->sql_is('SELECT count(*) FROM t', 200000, 'the newer owner serves it');
$c2->stop;
$second->stop;

# ---- the object storage cannot be reached ----
chmod 0500, $bucket;
$second->start;
like($second->log_content, qr/starting without having checked it/, 'a store starts without object storage');
is(tenant($second, 'main')->{state}, 'waiting', 'its tenants wait');
like(tenant($second, 'main')->{error}, qr/\Q$bucket\E/, 'the list says for what');
($rc, $out, $err) = $second->start_compute('main', ok => 0);
like($err, qr/tenant $id waits for object storage: .*\Q$bucket\E/, 'and so is a compute told');
$second->ctl_fails_like(qr/could not claim the tenant/, 'no new tenant can be created', 'branch', 'create', 'new');
chmod 0700, $bucket;
PageserverTest::wait_until(sub { tenant($second, 'main')->{state} eq 'attached' }, 'the tenant to be claimed');
like($second->log_content, qr/object storage can be reached again/, 'the log says so');
$c2 = $second->start_compute('main');
$c2->sql_is('SELECT count(*) FROM t', 200000, 'the tenant is served');

# an outage while it runs is no reason to stop anything
chmod 0000, $bucket;
PageserverTest::wait_until(sub { tenant($second, 'main')->{error} ne '' }, 'the outage to be seen');
is(tenant($second, 'main')->{state}, 'attached', 'a tenant that is owned stays in service');
$c2->sql('INSERT INTO t VALUES (0)');
$c2->sql_is('SELECT count(*) FROM t', 200001, 'reads and writes go on');
chmod 0700, $bucket;
PageserverTest::wait_until(sub { tenant($second, 'main')->{error} eq '' }, 'the end of the outage to be seen');
$c2->stop;

# ---- the same with remote_require_ownership = off ----
my $generation = tenant($second, 'main')->{generation};
$second->append_conf("remote_require_ownership = off\n");
$second->stop;
chmod 0500, $bucket;
$second->start;
is(tenant($second, 'main')->{state}, 'attached', 'without remote_require_ownership, tenants are served');
isnt(tenant($second, 'main')->{error}, '', 'the list says that they are not claimed');
is(tenant($second, 'main')->{generation}, $generation + 1, 'in a generation of their own');
$c2 = $second->start_compute('main');
$c2->sql('INSERT INTO t VALUES (1)');
$second->ctl_ok('a new tenant can be created', 'branch', 'create', 'new');
$second->kill9;
$second->start;
is(tenant($second, 'main')->{generation}, $generation + 2, 'each start has one');
my $third = clone($second, 'third');
chmod 0700, $bucket;
PageserverTest::wait_until(sub { tenant($second, 'main')->{error} eq '' && tenant($second, 'new')->{error} eq '' }, 'the tenants to be claimed');
is(claims($id), $generation + 2, 'all claims are in the bucket');
is(claims(tenant($second, 'new')->{id}), 2, 'also of the new tenant');
is(tenant($second, 'main')->{generation}, $generation + 2, 'and nothing else changes');
$c2->sql_is('SELECT count(*) FROM t', 200002, 'the compute continues');

# A copy of the store, made before it had claimed its tenants, starts without object storage, too.
chmod 0500, $bucket;
$third->start;
is(tenant($third, 'main')->{state}, 'attached', 'a copy is served without object storage');
my $c3 = $third->start_compute('main', args => ['--takeover']);
$c3->sql('INSERT INTO t VALUES (2)');
$c3->stop;
chmod 0700, $bucket;
PageserverTest::wait_until(sub { tenant($third, 'main')->{error} eq '' || tenant($third, 'main')->{state} eq 'fenced' }, 'the copy to reach it');
is(tenant($third, 'main')->{state}, 'attached', 'the copy takes over');
PageserverTest::wait_until(sub { tenant($second, 'main')->{state} eq 'fenced' }, 'the original to notice');
$c2->stop('immediate');
$third->stop;
$second->stop;

# ---- another bucket ----
mkdir "$dir/bucket2" or die "mkdir: $!";
$third->append_conf("remote_storage = 'file://$dir/bucket2'\n");
$third->start;
is(tenant($third, 'main')->{state}, 'waiting', 'a tenant of another bucket is not served');
like(tenant($third, 'main')->{error}, qr/names another object storage, "file:\/\/\Q$bucket\E"/, 'the list says why');
$third->ctl_ok('detach', 'tenant', 'detach', 'main');
$third->ctl_fails_like(qr/names another object storage.*--force/s, 'it is not attached', 'tenant', 'attach', $id);
$third->ctl_ok('it is, by force', 'tenant', 'attach', $id, '--force');
is(tenant($third, 'main')->{generation}, $generation + 4, 'its generation rises nevertheless');
$third->stop;
unlike($_->log_content, qr/PANIC|upkeep of layer files failed/, "log of $_->{name}") for $store, $copy, $second, $third;
done_testing();
