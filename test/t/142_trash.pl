# Deleted branches and tenants are in the trash. They can be restored with all of their data, also after a
# kill and after garbage collection in the branches in which they begin. Nothing in the trash is served.
# It is removed by a purge, or when trash_interval has passed. Branches and tenants that would be missed
# are deleted only with --force.
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
# Returns what --json prints on success; --quiet prints nothing.
sub told { my ($what, @args) = @_; return decode_json($store->ctl_ok($what, @args, '--json')); }
# a compute whose branch is deleted stops
sub stops { my ($c, $what) = @_; PageserverTest::wait_gone($c->{pid}); like($c->log_content, qr/FATAL:  shutting down immediately because the page store no longer has timeline/, $what); delete $c->{pid}; }

# ---- only with --force: a branch with a compute, a root branch, a protected branch ----
refused(qr/branch "dev" is in use by a compute/, 'delete with a compute', 'branch', 'delete', 'dev');
$dev->stop;
refused(qr/branch "other" has no parent.*--force/s, 'delete a root', 'branch', 'delete', 'other');
is_deeply(told('protect', 'branch', 'protect', 'dev'), { protected => 'dev' }, 'protect: JSON');
is(column('dev', 22), 't', 'the list shows that a branch is protected');
refused(qr/branch "dev" is protected.*unprotect/s, "$_->[1] of a protected branch", @$_)
  for [ 'branch', 'delete', 'dev' ], [ 'branch', 'delete', 'dev', '--purge' ], [ 'branch', 'reset', 'dev' ], [ 'branch', 'restore', 'dev@0/1' ];
$store->kill9;
$store->start;
refused(qr/is protected/, 'a branch is still protected after a kill', 'branch', 'delete', 'dev');
is_deeply(told('unprotect', 'branch', 'unprotect', 'dev'), { unprotected => 'dev' }, 'unprotect: JSON');
is($store->ctl_ok('protect, quiet', 'branch', 'protect', 'dev', '-q'), '', 'protect --quiet prints nothing');
is($store->ctl_ok('unprotect', 'branch', 'unprotect', 'dev'), "Branch \"dev\" is no longer protected.\n", 'unprotect prints one line');

# ---- into the trash ----
my $dir = dir_of('dev');
is_deeply(told('delete', 'branch', 'delete', 'dev'), { deleted => 'dev' }, 'delete: JSON');
like($store->log_content, qr/LOG:  branch "dev" deleted \(moved to the trash\), by uid \d+.*program "pageserver_ctl"/, 'the log says who did it');
is(column('dev', 0), undef, 'a deleted branch is not in the list');
like($store->ctl_ok('list', 'branch', 'list', '--deleted'), qr/^dev .* main +uid \d+ .*program "pageserver_ctl"/m, 'a deleted branch is in the list of the trash, with the user who deleted it');
cmp_ok(deleted('dev', 5), '>', 6 * 86400, 'a deleted branch has most of seven days left');
cmp_ok(deleted('dev', 6) + deleted('dev', 7), '>', 100000, 'a deleted branch occupies space');
my %status = map { split /\|/, $_, 2 } split /\n/, ($store->command('status'))[1];
is($status{deleted_branches}, 1, 'the status counts the deleted branch');
cmp_ok($status{deleted_bytes}, '>', 100000, 'the status counts the space of the trash');
ok(-d "$dir/layers", 'the files of a deleted branch exist');
$store->ctl_fails_like(qr/branch "dev" does not exist any more.*branch undelete/s, 'a deleted branch is not served', 'export', 'dev', '-D', PageserverTest::test_dir() . '/no');
$store->ctl_fails_like(qr/does not exist/, 'no branch can begin in a deleted branch', 'branch', 'create', 'no', '--from', 'dev');
my ($timeline, $tenant) = map { deleted('dev', $_) } (1, 2);
like(($store->command("pagestream $tenant $timeline 0"))[2], qr/does not exist any more/, 'a deleted branch cannot be read by its id');
is(($store->ctl('branch', 'undelete', 'nope'))[0], 4, 'undelete of an unknown branch: exit code');
$store->ctl_fails_like(qr/there is no branch "nope" in the trash/, 'undelete of an unknown branch', 'branch', 'undelete', 'nope');
my ($list) = grep { $_->{name} eq 'dev' } @{ told('list', 'branch', 'list', '--deleted') };
is_deeply([ @$list{qw(timeline tenant parent)} ], [ $timeline, $tenant, 'main' ], 'the list of the trash as JSON');

# ---- what it needs of its parent is kept ----
$c->sql("UPDATE t SET v = repeat(chr(97 + $_), 200)") for 1 .. 4;
$store->ctl_ok('garbage is collected in the parent', 'branch', 'compact', 'main');
$store->kill9;
$store->start;
$c->sql('VACUUM t');
$store->ctl_ok('garbage is collected in the parent after a kill', 'branch', 'compact', 'main');
is(deleted('dev'), 'dev', 'a deleted branch is still in the trash after a kill');

# ---- undelete, while another branch has its name ----
$store->ctl_ok('a new branch with the name of the deleted one', 'branch', 'create', 'dev', '--from', 'main');
$store->ctl_fails_like(qr/branch "dev" exists already.*NEW_NAME/s, 'undelete: the name is taken', 'branch', 'undelete', 'dev');
is(($store->ctl('branch', 'undelete', 'dev'))[0], 5, 'undelete: exit code when the name is taken');
like($store->ctl_ok('undelete under another name', 'branch', 'undelete', 'dev', 'dev2'), qr/Branch "dev2" starts at/, 'undelete prints the new name');
is(deleted('dev'), undef, 'an undeleted branch is not in the trash');
$dev = $store->start_compute('dev2', name => 'dev2');
$dev->sql_is($digest, $dev_has, 'an undeleted branch has all rows');
$dev->sql("INSERT INTO t VALUES (-2, 'again')");
$dev->sql_is('SELECT count(*) FROM t WHERE i < 0', '2', 'an undeleted branch accepts writes');

# A branch is deleted under its compute, which stops.
$store->ctl_ok('delete under a compute', 'branch', 'delete', '--force', 'dev2');
stops($dev, 'the compute of a deleted branch stops');
is(told('undelete', 'branch', 'undelete', 'dev2')->[0]{name}, 'dev2', 'undelete: JSON');
$dev = $store->start_compute('dev2', name => 'dev2');
$dev->sql_is('SELECT count(*) FROM t WHERE i < 0', '2', 'acknowledged rows are present after an undelete');
$dev->stop;

# ---- two branches with one name; branches that begin in each other ----
$store->ctl_ok('leaf', 'branch', 'create', 'leaf', '--from', 'dev2');
refused(qr/other branches begin in branch "dev2": "leaf".*Delete these first/s, 'delete a branch in which another begins', 'branch', 'delete', 'dev2');
$store->ctl_ok('delete leaf', 'branch', 'delete', 'leaf');
$store->ctl_ok('delete the branch in which leaf began', 'branch', 'delete', 'dev2');
refused(qr/branch "leaf" begins in branch "dev2", which is deleted.*Undelete that one first/s, 'undelete the leaf', 'branch', 'undelete', 'leaf');
refused(qr/other branches begin in branch "dev2": "leaf".*Purge these first/s, 'purge the branch that the leaf needs', 'branch', 'delete', '--purge', 'dev2');
$store->ctl_ok('undelete the parent of the leaf', 'branch', 'undelete', 'dev2');
$store->ctl_ok('undelete the leaf after its parent', 'branch', 'undelete', 'leaf');
$c->sql_is('SELECT 1', '1', 'the compute of another branch runs meanwhile');
for my $i (1, 2)
{
	$store->ctl_ok("twin $i", 'branch', 'create', 'twin', '--from', $i == 1 ? 'main' : 'leaf');
	$store->ctl_ok("delete twin $i", 'branch', 'delete', 'twin');
}
refused(qr/several branches "twin" are in the trash/, 'purge by an ambiguous name', 'branch', 'delete', '--purge', 'twin');
$store->ctl_ok('undelete by an ambiguous name', 'branch', 'undelete', 'twin');
is(column('twin', 15), 'leaf', 'the branch that was deleted last is undeleted');
my $twin_dir = dir_of('twin', 'branch_list deleted');
ok(-d $twin_dir, 'the other branch of that name is in the trash');
$store->ctl_ok('purge by id', 'branch', 'delete', '--purge', deleted('twin', 1));
ok(!-e $twin_dir, 'the files of a purged branch are removed');
$store->ctl_fails_like(qr/does not exist/, 'purge of an unknown branch', 'branch', 'delete', '--purge', 'nothing');
$twin_dir = dir_of('twin');
$store->ctl_ok('delete a branch with --purge', 'branch', 'delete', '--purge', 'twin');
ok(!-e $twin_dir && !defined deleted('twin'), 'a branch deleted with --purge is removed for good');

# ---- reset: the earlier state is in the trash; restore: the branch that takes its place is protected, too ----
$store->ctl_ok('reset', 'branch', 'reset', 'leaf');
is(deleted('leaf.1'), 'leaf.1', 'the state before a reset is in the trash');
$store->ctl_ok('undelete the state before the reset', 'branch', 'undelete', 'leaf.1');
$store->ctl_ok('protect', 'branch', 'protect', 'leaf.1');
$store->ctl_ok('restore', 'branch', 'restore', 'leaf.1@' . column('leaf.1', 8), '--force');
is(column('leaf.1', 22), 't', 'the restored branch is protected');

# ---- when trash_interval has passed ----
$store->ctl_ok('delete the root', 'branch', 'delete', '--force', 'other');
my $other_dir = dir_of('other', 'branch_list deleted');
$store->append_conf("trash_interval = 1s\n");
my $left = deleted('other', 5);
PageserverTest::wait_until(sub { deleted('other', 5) < $left - 2 }, 'time to pass');
$store->stop;
$store->start;
PageserverTest::wait_until(sub { !defined deleted('other') }, 'the trash to be emptied');
PageserverTest::wait_until(sub { !-e $other_dir }, 'its files to be removed');
PageserverTest::wait_until(sub { $store->log_content =~ /branch "other" \([0-9a-f]+\) removed from the trash, trash_interval is over/ }, 'the log to say so');
$store->append_conf("trash_interval = 7d\n");
$store->stop;
$store->start;

# ---- without a trash: a reset removes the earlier state, but not while a deleted branch begins in it ----
$store->ctl_ok("branch $_->[0]", 'branch', 'create', $_->[0], '--from', $_->[1]) for [ 'mid', 'main' ], [ 'kid', 'mid' ];
$store->ctl_ok('delete the kid', 'branch', 'delete', 'kid');
# and nobody empties the trash
$store->append_conf("trash_interval = 0\ncompaction_workers = 0\n");
$store->stop;
$store->start;
my @branches = sort map { /^([^|]+)/ } split /\n/, ($store->command('branch_list'))[1];
my $mid_dir = dir_of('mid');
refused(qr/other branches begin in branch "mid": "kid" \(deleted\).*Purge these first/s, 'reset without a trash', 'branch', 'reset', 'mid');
is_deeply([ sort map { /^([^|]+)/ } split /\n/, ($store->command('branch_list'))[1] ], \@branches, 'a refused reset changes no branch');
is(dir_of('mid'), $mid_dir, 'a refused reset leaves the branch in place');
$store->ctl_ok('purge the kid', 'branch', 'delete', '--purge', 'kid');
$store->ctl_ok('reset', 'branch', 'reset', 'mid');
ok(!-e $mid_dir && !defined deleted('mid.1'), 'the state before the reset is removed for good');
$store->append_conf("trash_interval = 7d\ncompaction_workers = 1\n");
$store->stop;
$store->start;
$store->ctl_ok('delete it', 'branch', 'delete', 'mid');

# ---- tenants ----
sub tenant { my ($list) = @_; my ($row) = grep { /^\Q$tenant\E\|/ } split /\n/, ($store->command($list))[1]; return defined $row ? (split /\|/, $row)[2] : undef; }
refused(qr/tenant "main" is attached and has \d branches.*--force/s, 'a tenant in service', 'tenant', 'delete', 'main');
is_deeply(told('with --force', 'tenant', 'delete', 'main', '--force'), { deleted => 'main' }, 'tenant delete: JSON');
stops($c, 'the compute of one of its branches stops');
is(tenant('tenant_list'), undef, 'a deleted tenant is not in the list');
is(tenant('tenant_list deleted'), 'deleted', 'a deleted tenant is in the list of the trash');
like($store->ctl_ok('list', 'tenant', 'list', '--deleted'), qr/^\Q$tenant\E .* main +uid \d+ /m, 'the list of the trash shows the user who deleted the tenant');
$store->ctl_fails_like(qr/tenant \Q$tenant\E is deleted.*tenant undelete/s, 'a deleted tenant cannot be attached', 'tenant', 'attach', $tenant);
$store->kill9;
$store->start;
is(tenant('tenant_list deleted'), 'deleted', 'a deleted tenant is still in the trash after a kill');
refused(qr/is already deleted/, 'deleted twice', 'tenant', 'delete', $tenant);
is_deeply(told('undelete', 'tenant', 'undelete', 'main'), { undeleted => 'main' }, 'tenant undelete: JSON');
is(tenant('tenant_list'), 'detached', 'an undeleted tenant is detached');
$store->ctl_ok('attach', 'tenant', 'attach', 'main');
$dev = $store->start_compute('dev2', name => 'dev2');
$dev->sql_is($digest =~ s/FROM t/FROM t WHERE i > -2/r, $dev_has, 'an undeleted tenant has all rows');
$dev->stop;
$c = $store->start_compute('main', name => 'main');
$c->sql_is('SELECT count(*) FROM t', '1000', 'another branch of the undeleted tenant has its rows');
$c->stop;

# ---- copies: only one copy on a machine is in service ----
my $second = PageserverTest->new_store('second');
sub copy { system('rm', '-rf', "$second->{dir}/tenants/$tenant"); system('cp', '-a', "$store->{dir}/tenants/$tenant", "$second->{dir}/tenants/") == 0 or die 'cp failed'; }
copy();
my ($rc, undef, $err) = $second->ctl('tenant', 'attach', $tenant);
is($rc, 6, 'a copy of a tenant that is in service: refused');
like($err, qr/is a copy of a tenant that was in service when it was made/, 'a copy of a tenant that is in service: why');
$store->ctl_ok('detach', 'tenant', 'detach', 'main');
copy();
$store->ctl_ok('attach again', 'tenant', 'attach', 'main');
$second->ctl_fails_like(qr/tenant \Q$tenant\E is in service in another store of this machine: "\Q$store->{dir}\E" \(PID $store->{pid}\)/, 'a copy when the original is in service again', 'tenant', 'attach', $tenant);
$second->ctl_ok('with --force', 'tenant', 'attach', '--force', $tenant);
$second->ctl_ok('delete the copy', 'tenant', 'delete', '--force', '--purge', 'main');
ok(!-e "$second->{dir}/tenants/$tenant", 'the purged copy is removed');
$store->ctl_ok('detach', 'tenant', 'detach', 'main');
copy();
$second->ctl_ok('attach the copy', 'tenant', 'attach', $tenant);
$store->ctl_fails_like(qr/is in service in another store of this machine: "\Q$second->{dir}\E"/, 'the original when the copy is in service', 'tenant', 'attach', $tenant);
$second->kill9;
$store->ctl_ok('attach the original when the copy is no longer in service', 'tenant', 'attach', $tenant);
# It is too late to refuse at a start, but the log says so; and the tenants that it serves are in service.
$second->start;
like($second->log_content, qr/a tenant is served all the same: tenant \Q$tenant\E is in service in another store of this machine: "\Q$store->{dir}\E"/, 'a start that finds another copy in service: the log says so');
$second->ctl_ok('detach in the second store', 'tenant', 'detach', 'main');
$store->kill9;
$store->start;
$second->ctl_fails_like(qr/is in service in another store of this machine: "\Q$store->{dir}\E" \(PID $store->{pid}\)/, 'a tenant that a started store serves is in service', 'tenant', 'attach', $tenant);
$second->stop;
$store->stop;
unlike($store->log_content, qr/PANIC|upkeep of layer files failed/, 'no PANIC and no failed upkeep in the log of the store');
done_testing();
