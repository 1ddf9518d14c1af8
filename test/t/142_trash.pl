# Deleted branches and tenants are in the trash. They can be restored with all of their data, also
# after a kill and after garbage collection in the branches that they start from. Nothing in the
# trash is served. It is removed by a purge, or when trash_interval has passed. Branches and tenants
# that would be missed are deleted with --force only.
use strict;
use warnings;
use JSON::PP;
use PageserverTest;
use Test::More;

delete $ENV{PGAPPNAME};
my $store = PageserverTest->new_store('main',
	conf => "checkpoint_distance = 1MB\ncompaction_threshold = 2\ncompaction_fanout = 2\ntarget_file_size = 1MB\ngc_horizon = 0\npitr_interval = 0\n");
$store->ctl_ok("branch $_->[1]", 'branch', 'create', @$_[ 1 .. $#$_ ]) for [ 0, 'main' ], [ 0, 'other' ];
my $c = $store->start_compute('main', name => 'main');
$c->sql("CREATE TABLE t AS SELECT i, repeat('a', 200) AS v FROM generate_series(1, 1000) i");
$store->ctl_ok('branch dev', 'branch', 'create', 'dev', '--from', 'main');
my $dev = $store->start_compute('dev', name => 'dev');
$dev->sql("INSERT INTO t VALUES (-1, 'dev')");
my $digest = 'SELECT count(*), sum(i), md5(string_agg(v, \',\' ORDER BY i)) FROM t';
my $dev_has = $dev->sql($digest);

sub column { my ($name, $column, @list) = @_; my ($row) = grep { /^\Q$name\E\|/ } split /\n/, ($store->command(@list ? "@list" : 'branch_list'))[1]; return defined $row ? (split /\|/, $row)[$column] : undef; }
sub deleted { return column($_[0], $_[1] // 0, 'branch_list deleted'); }
sub dir_of { my ($name, @list) = @_; my ($timeline, $tenant) = @list ? map { column($name, $_, @list) } (1, 2) : map { column($name, $_) } (2, 1); return "$store->{dir}/tenants/$tenant/timelines/$timeline"; }

# refused: exit code 6, and a message
sub refused { my ($pattern, $what, @args) = @_; my ($rc, $out, $err) = $store->ctl(@args); is($rc, 6, "$what: refused"); like($err, $pattern, "$what: why"); }
# what --json tells of success; and --quiet nothing
sub told { my ($what, @args) = @_; return decode_json($store->ctl_ok($what, @args, '--json')); }
# a compute whose branch is deleted stops
sub stops { my ($c, $what) = @_; PageserverTest::wait_gone($c->{pid}); like($c->log_content, qr/FATAL:  shutting down immediately because the page store no longer has timeline/, $what); delete $c->{pid}; }

# ---- only with --force: with a compute, what begins in no other, what is protected
refused(qr/branch "dev" is in use by a compute/, 'delete with a compute', 'branch', 'delete', 'dev');
$dev->stop;
refused(qr/branch "other" has no parent.*--force/s, 'delete a root', 'branch', 'delete', 'other');
is_deeply(told('protect', 'branch', 'protect', 'dev'), { protected => 'dev' }, 'protect: JSON');
is(column('dev', 22), 't', 'the list shows that');
refused(qr/branch "dev" is protected.*unprotect/s, "$_->[1] of a protected branch", @$_)
  for [ 'branch', 'delete', 'dev' ], [ 'branch', 'delete', 'dev', '--purge' ], [ 'branch', 'reset', 'dev' ], [ 'branch', 'restore', 'dev@0/1' ];
$store->kill9;
$store->start;
refused(qr/is protected/, 'after a kill, too', 'branch', 'delete', 'dev');
is_deeply(told('unprotect', 'branch', 'unprotect', 'dev'), { unprotected => 'dev' }, 'unprotect: JSON');
is($store->ctl_ok('protect, quiet', 'branch', 'protect', 'dev', '-q'), '', 'nothing is told');
is($store->ctl_ok('unprotect', 'branch', 'unprotect', 'dev'), "Branch \"dev\" is no longer protected.\n", 'one line is told');

# ---- into the trash
my $dir = dir_of('dev');
is_deeply(told('delete', 'branch', 'delete', 'dev'), { deleted => 'dev' }, 'delete: JSON');
like($store->log_content, qr/LOG:  branch "dev" deleted \(moved to the trash\), by uid \d+.*program "pageserver_ctl"/, 'the log says who did it');
is(column('dev', 0), undef, 'it is not in the list');
like($store->ctl_ok('list', 'branch', 'list', '--deleted'), qr/^dev .* main +uid \d+ .*program "pageserver_ctl"/m, 'but in that of the deleted, with who did it');
cmp_ok(deleted('dev', 5), '>', 6 * 86400, 'it has most of seven days left');
cmp_ok(deleted('dev', 6) + deleted('dev', 7), '>', 100000, 'and takes space');
my %status = map { split /\|/, $_, 2 } split /\n/, ($store->command('status'))[1];
is($status{deleted_branches}, 1, 'the status counts it');
cmp_ok($status{deleted_bytes}, '>', 100000, 'and its space');
ok(-d "$dir/layers", 'its files are there');
$store->ctl_fails_like(qr/branch "dev" does not exist any more.*branch undelete/s, 'it is not served', 'export', 'dev', '-D', PageserverTest::test_dir() . '/no');
$store->ctl_fails_like(qr/does not exist/, 'nor begins another in it', 'branch', 'create', 'no', '--from', 'dev');
my ($timeline, $tenant) = map { deleted('dev', $_) } (1, 2);
like(($store->command("pagestream $tenant $timeline 0"))[2], qr/does not exist any more/, 'nor read by its id');
is(($store->ctl('branch', 'undelete', 'nope'))[0], 4, 'what is not there: exit code');
$store->ctl_fails_like(qr/there is no branch "nope" in the trash/, 'what is not there', 'branch', 'undelete', 'nope');
my ($list) = grep { $_->{name} eq 'dev' } @{ told('list', 'branch', 'list', '--deleted') };
is_deeply([ @$list{qw(timeline tenant parent)} ], [ $timeline, $tenant, 'main' ], 'the list as JSON');

# ---- what it needs of its parent stays
$c->sql("UPDATE t SET v = repeat(chr(97 + $_), 200)") for 1 .. 4;
$store->ctl_ok('garbage goes', 'branch', 'compact', 'main');
$store->kill9;
$store->start;
$c->sql('VACUUM t');
$store->ctl_ok('garbage goes', 'branch', 'compact', 'main');
is(deleted('dev'), 'dev', 'a kill leaves it in the trash');

# ---- and back; its name is another's now
$store->ctl_ok('a new branch has its name', 'branch', 'create', 'dev', '--from', 'main');
$store->ctl_fails_like(qr/branch "dev" exists already.*NEW_NAME/s, 'undelete: the name is taken', 'branch', 'undelete', 'dev');
is(($store->ctl('branch', 'undelete', 'dev'))[0], 5, 'its exit code');
like($store->ctl_ok('undelete under another name', 'branch', 'undelete', 'dev', 'dev2'), qr/Branch "dev2" starts at/, 'it says so');
is(deleted('dev'), undef, 'it is out of the trash');
$dev = $store->start_compute('dev2', name => 'dev2');
$dev->sql_is($digest, $dev_has, 'all is there');
$dev->sql("INSERT INTO t VALUES (-2, 'again')");
$dev->sql_is('SELECT count(*) FROM t WHERE i < 0', '2', 'and it goes on');

# under a compute, which is turned away
$store->ctl_ok('delete under a compute', 'branch', 'delete', '--force', 'dev2');
stops($dev, 'that stops');
is(told('undelete', 'branch', 'undelete', 'dev2')->[0]{name}, 'dev2', 'undelete: JSON');
$dev = $store->start_compute('dev2', name => 'dev2');
$dev->sql_is('SELECT count(*) FROM t WHERE i < 0', '2', 'what was acknowledged is there');
$dev->stop;

# ---- two of one name; those that begin in each other
$store->ctl_ok('leaf', 'branch', 'create', 'leaf', '--from', 'dev2');
refused(qr/other branches begin in branch "dev2": "leaf".*Delete these first/s, 'what others begin in', 'branch', 'delete', 'dev2');
$store->ctl_ok('delete leaf', 'branch', 'delete', 'leaf');
$store->ctl_ok('delete what it begins in', 'branch', 'delete', 'dev2');
refused(qr/branch "leaf" begins in branch "dev2", which is deleted.*Undelete that one first/s, 'undelete the leaf', 'branch', 'undelete', 'leaf');
refused(qr/other branches begin in branch "dev2": "leaf".*Purge these first/s, 'purge what the leaf needs', 'branch', 'delete', '--purge', 'dev2');
$store->ctl_ok('undelete the one', 'branch', 'undelete', 'dev2');
$store->ctl_ok('then the leaf', 'branch', 'undelete', 'leaf');
$c->sql_is('SELECT 1', '1', 'meanwhile the compute of another branch runs');
for my $i (1, 2)
{
	$store->ctl_ok("twin $i", 'branch', 'create', 'twin', '--from', $i == 1 ? 'main' : 'leaf');
	$store->ctl_ok("delete twin $i", 'branch', 'delete', 'twin');
}
refused(qr/several branches "twin" are in the trash/, 'purge: which one?', 'branch', 'delete', '--purge', 'twin');
$store->ctl_ok('undelete the last', 'branch', 'undelete', 'twin');
is(column('twin', 15), 'leaf', 'it is that which was deleted last');
my $twin_dir = dir_of('twin', 'branch_list deleted');
ok(-d $twin_dir, 'the other is there');
$store->ctl_ok('purge by id', 'branch', 'delete', '--purge', deleted('twin', 1));
ok(!-e $twin_dir, 'and gone');
$store->ctl_fails_like(qr/does not exist/, 'purge of nothing', 'branch', 'delete', '--purge', 'nothing');
$twin_dir = dir_of('twin');
$store->ctl_ok('purge what is there', 'branch', 'delete', '--purge', 'twin');
ok(!-e $twin_dir && !defined deleted('twin'), 'for good');

# ---- reset: what the branch was is in the trash; restore: what takes its place is protected, too
$store->ctl_ok('reset', 'branch', 'reset', 'leaf');
is(deleted('leaf.1'), 'leaf.1', 'what it was is in the trash');
$store->ctl_ok('undelete that', 'branch', 'undelete', 'leaf.1');
$store->ctl_ok('protect', 'branch', 'protect', 'leaf.1');
$store->ctl_ok('restore', 'branch', 'restore', 'leaf.1@' . column('leaf.1', 8), '--force');
is(column('leaf.1', 22), 't', 'the restored one is protected');

# ---- when the time is over
$store->ctl_ok('delete the root', 'branch', 'delete', '--force', 'other');
my $other_dir = dir_of('other', 'branch_list deleted');
$store->append_conf("trash_interval = 1s\n");
my $left = deleted('other', 5);
PageserverTest::wait_until(sub { deleted('other', 5) < $left - 2 }, 'time to pass');
$store->stop;
$store->start;
PageserverTest::wait_until(sub { !defined deleted('other') }, 'the trash to be emptied');
PageserverTest::wait_until(sub { !-e $other_dir }, 'its files to go');
PageserverTest::wait_until(sub { $store->log_content =~ /branch "other" \([0-9a-f]+\) removed from the trash, trash_interval is over/ }, 'the log to say so');
$store->append_conf("trash_interval = 7d\n");
$store->stop;
$store->start;

# ---- without a trash: what a branch was goes for good with a reset, and not while something in the trash begins in it
$store->ctl_ok("branch $_->[0]", 'branch', 'create', $_->[0], '--from', $_->[1]) for [ 'mid', 'main' ], [ 'kid', 'mid' ];
$store->ctl_ok('delete the kid', 'branch', 'delete', 'kid');
# and nobody empties it
$store->append_conf("trash_interval = 0\ncompaction_workers = 0\n");
$store->stop;
$store->start;
my @branches = sort map { /^([^|]+)/ } split /\n/, ($store->command('branch_list'))[1];
my $mid_dir = dir_of('mid');
refused(qr/other branches begin in branch "mid": "kid" \(deleted\).*Purge these first/s, 'reset without a trash', 'branch', 'reset', 'mid');
is_deeply([ sort map { /^([^|]+)/ } split /\n/, ($store->command('branch_list'))[1] ], \@branches, 'nothing is changed');
is(dir_of('mid'), $mid_dir, 'the branch is what it was');
$store->ctl_ok('purge the kid', 'branch', 'delete', '--purge', 'kid');
$store->ctl_ok('reset', 'branch', 'reset', 'mid');
ok(!-e $mid_dir && !defined deleted('mid.1'), 'what it was is gone for good');
$store->append_conf("trash_interval = 7d\ncompaction_workers = 1\n");
$store->stop;
$store->start;
$store->ctl_ok('delete it', 'branch', 'delete', 'mid');

# ---- tenants
sub tenant { my ($list) = @_; my ($row) = grep { /^\Q$tenant\E\|/ } split /\n/, ($store->command($list))[1]; return defined $row ? (split /\|/, $row)[2] : undef; }
refused(qr/tenant "main" is attached and has \d branches.*--force/s, 'a tenant in service', 'tenant', 'delete', 'main');
is_deeply(told('with --force', 'tenant', 'delete', 'main', '--force'), { deleted => 'main' }, 'tenant delete: JSON');
stops($c, 'the compute of one of its branches stops');
is(tenant('tenant_list'), undef, 'it is not in the list');
is(tenant('tenant_list deleted'), 'deleted', 'but in that of the deleted');
like($store->ctl_ok('list', 'tenant', 'list', '--deleted'), qr/^\Q$tenant\E .* main +uid \d+ /m, 'with who did it');
$store->ctl_fails_like(qr/tenant \Q$tenant\E is deleted.*tenant undelete/s, 'it cannot be attached', 'tenant', 'attach', $tenant);
$store->kill9;
$store->start;
is(tenant('tenant_list deleted'), 'deleted', 'a kill leaves it there');
refused(qr/is already deleted/, 'deleted twice', 'tenant', 'delete', $tenant);
is_deeply(told('undelete', 'tenant', 'undelete', 'main'), { undeleted => 'main' }, 'tenant undelete: JSON');
is(tenant('tenant_list'), 'detached', 'it is detached then');
$store->ctl_ok('attach', 'tenant', 'attach', 'main');
$dev = $store->start_compute('dev2', name => 'dev2');
$dev->sql_is($digest =~ s/FROM t/FROM t WHERE i > -2/r, $dev_has, 'all is there');
$dev->stop;
$c = $store->start_compute('main', name => 'main');
$c->sql_is('SELECT count(*) FROM t', '1000', 'also in another branch');
$c->stop;

# ---- copies: only one of a machine is in service
my $second = PageserverTest->new_store('second');
sub copy { system('rm', '-rf', "$second->{dir}/tenants/$tenant"); system('cp', '-a', "$store->{dir}/tenants/$tenant", "$second->{dir}/tenants/") == 0 or die 'cp failed'; }
copy();
my ($rc, undef, $err) = $second->ctl('tenant', 'attach', $tenant);
is($rc, 6, 'a copy of what is in service: refused');
like($err, qr/is a copy of a tenant that was in service when it was made/, 'a copy of what is in service: why');
$store->ctl_ok('detach', 'tenant', 'detach', 'main');
copy();
$store->ctl_ok('attach again', 'tenant', 'attach', 'main');
$second->ctl_fails_like(qr/tenant \Q$tenant\E is in service in another store of this machine: "\Q$store->{dir}\E" \(PID $store->{pid}\)/, 'a copy when the other is in service again', 'tenant', 'attach', $tenant);
$second->ctl_ok('with --force', 'tenant', 'attach', '--force', $tenant);
$second->ctl_ok('delete that', 'tenant', 'delete', '--force', '--purge', 'main');
ok(!-e "$second->{dir}/tenants/$tenant", 'it is gone');
$store->ctl_ok('detach', 'tenant', 'detach', 'main');
copy();
$second->ctl_ok('attach the copy', 'tenant', 'attach', $tenant);
$store->ctl_fails_like(qr/is in service in another store of this machine: "\Q$second->{dir}\E"/, 'the first when that is in service', 'tenant', 'attach', $tenant);
$second->kill9;
$store->ctl_ok('when the other is gone', 'tenant', 'attach', $tenant);
# a start is too late to ask, but says so; and what it serves is in service
$second->start;
like($second->log_content, qr/a tenant is served all the same: tenant \Q$tenant\E is in service in another store of this machine: "\Q$store->{dir}\E"/, 'a start that finds another: the log says so');
$second->ctl_ok('detach there', 'tenant', 'detach', 'main');
$store->kill9;
$store->start;
$second->ctl_fails_like(qr/is in service in another store of this machine: "\Q$store->{dir}\E" \(PID $store->{pid}\)/, 'a store that was started has it in service', 'tenant', 'attach', $tenant);
$second->stop;
$store->stop;
unlike($store->log_content, qr/PANIC|upkeep of layer files failed/, 'the log of the store');
done_testing();
