# A branch that has a running compute. Another compute takes it over only if it is told to, and only if it
# can start; otherwise the first compute continues undisturbed.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main', conf => "wait_timeout = 2\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $dir = PageserverTest::test_dir();
my $c = $store->start_compute('main', name => 'first');
$c->sql('CREATE TABLE t AS SELECT generate_series(1, 1000) i');
my $newcomer = "$dir/newcomer";
my $port = PageserverTest::free_port();

# Starts another compute, which must fail, while the first one continues.
sub fails
{
	my ($what, $pattern, $options, @args) = @_;
	my ($rc, $out, $err) = $store->ctl('compute', 'start', 'main', '-D', $newcomer, '-p', $port,
		'-o', "-c unix_socket_directories=$dir -c listen_addresses=127.0.0.1 $options", @args);
	isnt($rc, 0, "$what: does not start");
	like($err, $pattern, "$what: says why");
	is($c->sql('SELECT count(*) FROM t; INSERT INTO t VALUES (0); DELETE FROM t WHERE i = 0'), 1000, "$what: the first compute works");
	like(($store->command('branch_list'))[1], qr/^main\|.*\|1\|[^|]*first\|t\|/, "$what: it is still generation 1");
	return ($rc, $err);
}

# without --takeover
my ($rc) = fails('no --takeover', qr/branch "main" is in use by a compute \(\S+:\Q$c->{dir}\E, connected since \d{4}-\d\d-\d\d [\d:]+\+00\)\n.*hint: .*--takeover/, '');
is($rc, 6, 'no --takeover: exit code');
ok(!-e $newcomer, 'no --takeover: nothing is left of the new compute');
my ($status, $out, $err) = $store->command("basebackup main 'elsewhere:/dir'");
isnt($status, 0, 'the store refuses a base backup for another compute');
like($err, qr/branch "main" is in use by a compute \(\S+first, connected since .*\)\n.*HINT: .*--takeover/, 'the refusal says who runs the branch');
($status, $out, $err) = $store->command("basebackup main 'elsewhere:/dir' 7");
like($err, qr/was taken over: a compute of generation 1 \(\S+first\) was started, the last one known here is of generation 7/, 'a generation that is not the newest');

# computes that cannot start
my $goes_on = qr/The compute at \S+first continues to run/;
fails('an unknown setting', qr/unrecognized configuration parameter "nosuch".*$goes_on/s, '-c nosuch=1', '--takeover');
fails('a bad value', qr/invalid value for parameter "work_mem".*$goes_on/s, '-c work_mem=much', '--takeover');
fails('a missing library', qr/could not access file "nosuch".*$goes_on/s, '-c shared_preload_libraries=nosuch', '--takeover');
fails('a setting that the library refuses', qr/"pageserver_smgr.cache_limit" \(1 MB\) must not be less than.*$goes_on/s, '-c pageserver_smgr.cache_limit=1', '--takeover');
fails('no memory', qr/could not map anonymous shared memory.*$goes_on/s, '-c shared_buffers=1000GB', '--takeover');
fails('a socket in use', qr/lock file .* already exists.*$goes_on/s, "-c listen_addresses= -p $c->{port}", '--takeover');
mkdir "$dir/sockets";
system('chown', 'postgres', "$dir/sockets") if $> == 0;
fails('a port in use', qr/could not bind IPv4 address "127.0.0.1": Address already in use.*$goes_on/s, "-c unix_socket_directories=$dir/sockets -p $c->{port}", '--takeover');
open my $hba, '>', "$newcomer/pg_hba.conf" or die "$newcomer/pg_hba.conf: $!";
print $hba "nonsense\n";
close $hba;
fails('a bad pg_hba.conf', qr/could not load pg_hba.conf.*$goes_on/s, '', '--takeover');
unlink "$newcomer/pg_hba.conf";

# A start that cannot succeed because the store cannot send a base backup.
SKIP:
{
	skip 'needs root, for a small file system', 4 if $> != 0;
	my $whole = $newcomer;
	$newcomer = "$dir/small/newcomer";
	mkdir "$dir/small";
	system('mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', "$dir/small") == 0 or skip 'cannot mount', 4;
	fails('no space', qr/No space left on device.*$goes_on/s, '', '--takeover');
	system('umount', "$dir/small");
	$newcomer = $whole;
}

# a compute that may take over
my $second = $store->start_compute('main', name => 'newcomer', args => ['--takeover']);
$second->sql_is('SELECT count(*) FROM t', 1000, 'another compute starts with --takeover');
PageserverTest::wait_gone($c->{pid});
delete $c->{pid};
like($c->log_content, qr/newer compute.*generation 2/s, 'the first compute stops');

# A compute that has been killed is replaced at once, without --takeover.
$second->kill9;
my $third = $store->start_compute('main', name => 'third');
$third->sql_is('SELECT count(*) FROM t', 1000, 'after a kill --takeover is not needed');
$third->stop;
my $fourth = $store->start_compute('main', name => 'fourth');
$fourth->stop('immediate');
$store->stop;
done_testing();
