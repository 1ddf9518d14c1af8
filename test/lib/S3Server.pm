# S3Server: a real S3 service (Ceph's RADOS gateway on one monitor and one OSD in memory) for a test.
#
#	my $s3 = S3Server->new;								# starts it: some seconds
#	my $keys = $s3->key_file;							# for remote_key_file
#	$s3->request('PUT', '/bucket');						# creates a bucket
#	my ($status, $body) = $s3->request('GET', '/bucket', 'list-type=2');
#	$s3->stop; $s3->start;								# objects are gone after a stop, the processes are not
#	$s3->pause; $s3->resume;							# it does not answer meanwhile
#
# It listens on 127.0.0.1 only.  Its files are in the directory of the test; its processes are ended when the test ends,
# by their process ids.
package S3Server;

use strict;
use warnings;

use Carp;
use File::Path qw(make_path remove_tree);
use PageserverTest;
use PostgreSQL::Test::Utils ();
use Time::HiRes qw(time usleep);

our @servers;
my $count = 0;
my ($access_key, $secret_key) = ('test', 'testtest');
my $memory = 4 << 30;			# bytes that the objects may have
my $timeout = 60;				# seconds, for the start

# What Ceph needs to be quick, quiet and small on one machine.
sub write_conf
{
	my ($self, $monitor_port) = @_;
	my $dir = $self->{dir};

	open my $f, '>', "$dir/ceph.conf" or croak "$dir/ceph.conf: $!";
	print $f <<CONF;
[global]
fsid = $self->{fsid}
mon_host = [v2:127.0.0.1:$monitor_port]
ms_bind_msgr1 = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
keyring = $dir/keyring
admin_socket =
run_dir = $dir
crash_dir = $dir/crash
log_file = $dir/log/\$name.log
log_to_stderr = false
mon_cluster_log_file = $dir/log/cluster.log
mon_data = $dir/mon
osd_data = $dir/osd
rgw_data = $dir/rgw
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_crush_initial_weight = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
# the disk of the test's directory may be nearly full
mon_data_avail_warn = 1
mon_data_avail_crit = 0
auth_allow_insecure_global_id_reclaim = false
paxos_propose_interval = 0.02
paxos_min_wait = 0.005
osd_objectstore = memstore
memstore_device_bytes = $memory
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 2
osd_class_load_list = *
osd_class_default_list = *
osd_max_scrubs = 0
[client]
objecter_tick_interval = 0.5
# without tcp_nodelay, answers of less than 8 kB take 40 ms
rgw_frontends = beast endpoint=127.0.0.1:$self->{port} tcp_nodelay=1
rgw_thread_pool_size = 64
rgw_run_sync_thread = false
rgw_dynamic_resharding = false
rgw_enable_quota_threads = false
rgw_num_control_oids = 1
rgw_data_log_num_shards = 1
rgw_md_log_max_shards = 1
rgw_gc_max_objs = 1
rgw_gc_obj_min_wait = 2
rgw_gc_processor_period = 2
rgw_gc_processor_max_time = 2
rgw_lc_max_objs = 1
rgw_objexp_hints_num_shards = 1
rgw_reshard_num_logs = 1
rgw_rados_pool_pg_num_min = 1
CONF
	close $f;
}

sub new
{
	my ($class, %opt) = @_;
	my $dir = PageserverTest::test_dir() . '/s3_' . $count++;
	my $self = bless { dir => $dir, port => $opt{port} // PageserverTest::free_port(), pids => {} }, $class;

	push @servers, $self;
	$self->start;
	return $self;
}

sub port     { return $_[0]{port}; }
sub endpoint { return "http://127.0.0.1:$_[0]{port}"; }

# Returns the name of a file with the keys, as remote_key_file wants it.
sub key_file
{
	my ($self) = @_;
	my $file = "$self->{dir}.keys";

	if (!-e $file)
	{
		open my $f, '>', $file or croak "$file: $!";
		chmod 0600, $file;
		print $f "aws_access_key_id = $access_key\naws_secret_access_key = $secret_key\n";
		close $f;
	}
	return $file;
}

# Settings for pageserver.conf.
sub conf
{
	my ($self, $bucket, $prefix) = @_;
	my $url = "s3://$bucket" . (defined $prefix ? "/$prefix" : '');

	return "remote_storage = '$url'\nremote_endpoint = '" . $self->endpoint . "'\nremote_key_file = '" . $self->key_file . "'\n";
}

# Runs a command to its end; its output is in the directory log/.
sub run
{
	my ($self, @command) = @_;
	my $log = "$self->{dir}/log/" . ($command[0] =~ s/\W/_/gr) . '.out';
	my $pid = fork // croak "fork: $!";

	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $log;
		open STDERR, '>&', \*STDOUT;
		exec @command or POSIX::_exit(127);
	}
	waitpid $pid, 0;
	croak "@command: exit status $?\n" . PostgreSQL::Test::Utils::slurp_file($log) if $? != 0;
}

# Starts a daemon, which does not become one by itself.
sub spawn
{
	my ($self, $name, @command) = @_;
	my $pid = fork // croak "fork: $!";

	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', "$self->{dir}/log/$name.out";
		open STDERR, '>&', \*STDOUT;
		exec @command or POSIX::_exit(127);
	}
	$self->{pids}{$name} = $pid;
}

sub check
{
	my ($self) = @_;
	for my $name (keys %{ $self->{pids} })
	{
		next if waitpid($self->{pids}{$name}, POSIX::WNOHANG()) == 0;
		delete $self->{pids}{$name};
		croak "$name of the S3 server ended; its log is in $self->{dir}/log";
	}
	croak "the S3 server did not start within $timeout s; its logs are in $self->{dir}/log" if time > $self->{deadline};
}

sub start
{
	my ($self) = @_;
	my $dir = $self->{dir};
	my @conf = ('-c', "$dir/ceph.conf");
	local $ENV{PATH} = "$ENV{PATH}:/usr/sbin:/sbin";
	delete local @ENV{qw(CEPH_CONF CEPH_ARGS CEPH_KEYRING)};

	require POSIX;
	$self->{deadline} = time + $timeout;
	remove_tree($dir);
	make_path(map { "$dir/$_" } qw(mon osd rgw log crash));
	chomp($self->{fsid} = `uuidgen`);
	chomp(my $osd = `uuidgen`);
	my $monitor_port = PageserverTest::free_port();
	$self->write_conf($monitor_port);

	my @keyring = ('ceph-authtool', "$dir/keyring", '--gen-key', '-n');
	$self->run('ceph-authtool', '--create-keyring', "$dir/keyring", '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *');
	$self->run(@keyring, 'client.admin', '--cap', 'mon', 'allow *', '--cap', 'osd', 'allow *', '--cap', 'mgr', 'allow *');
	$self->run(@keyring, 'osd.0', '--cap', 'mon', 'allow profile osd', '--cap', 'mgr', 'allow profile osd', '--cap', 'osd', 'allow *');
	$self->run(@keyring, 'client.rgw.s3', '--cap', 'mon', 'allow rw', '--cap', 'osd', 'allow rwx', '--cap', 'mgr', 'allow rw');
	$self->run('monmaptool', '--create', '--fsid', $self->{fsid}, '--addv', 'a', "[v2:127.0.0.1:$monitor_port]", "$dir/monmap");
	$self->run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', $osd, '--monmap', "$dir/monmap", '--no-mon-config', @conf);
	$self->run('ceph-mon', '--mkfs', '-i', 'a', '--monmap', "$dir/monmap", '--keyring', "$dir/keyring", @conf);
	$self->spawn('mon', 'ceph-mon', '-f', '-i', 'a', @conf);
	$self->run('ceph', '--connect-timeout', '20', @conf, 'osd', 'new', $osd, '0');
	$self->spawn('osd', 'ceph-osd', '-f', '-i', '0', '--no-mon-config', @conf);
	# a client that finds the OSD down waits for five seconds
	until (-e "$dir/log/osd.0.log" && PostgreSQL::Test::Utils::slurp_file("$dir/log/osd.0.log") =~ /booting -> active/)
	{
		$self->check;
		usleep(20_000);
	}
	$self->run('radosgw-admin', @conf, '--no-mon-config', 'user', 'create', '--uid=s3', '--display-name=s3',
		"--access-key=$access_key", "--secret-key=$secret_key", '--caps=buckets=*;users=*');
	$self->spawn('rgw', 'radosgw', '-f', '-n', 'client.rgw.s3', '--no-mon-config', @conf);
	until (($self->request('GET', '/'))[0] == 200)
	{
		$self->check;
		usleep(50_000);
	}
}

# Sends a request, signed, by another client than the store's: curl.  Returns status and body; the status is 0 if there
# was no answer.  The query must be sorted, with "=" after each name.
sub request
{
	my ($self, $method, $path, $query, $body) = @_;
	my $file = "$self->{dir}/answer";
	my @data = defined $body ? ('--data-binary', $body, '-H', 'Content-Type: application/octet-stream') : ();
	my @head = $method eq 'HEAD' ? ('-I') : ('-X', $method);
	my $url = $self->endpoint . $path . (defined $query && $query ne '' ? "?$query" : '');

	unlink $file;
	open my $curl, '-|', 'curl', '-s', '-m', '30', '--noproxy', '*', '-o', $file, '-w', '%{http_code}', '--aws-sigv4',
	  'aws:amz:us-east-1:s3', '-u', "$access_key:$secret_key", '-H', 'x-amz-content-sha256: UNSIGNED-PAYLOAD', @head, @data, $url
	  or croak "curl: $!";
	my $status = <$curl>;
	close $curl;
	return ($status // 0, -e $file ? PostgreSQL::Test::Utils::slurp_file($file) : '');
}

sub create_bucket
{
	my ($self, $bucket) = @_;
	my ($status, $body) = $self->request('PUT', "/$bucket");
	croak "bucket $bucket: $status $body" if $status != 200;
}

# Returns the keys of all objects of a bucket with the prefix, sorted.
sub keys
{
	my ($self, $bucket, $prefix) = @_;
	my @keys;
	my $after = '';

	while (1)
	{
		my $query = 'list-type=2&max-keys=1000' . ($prefix ? '&prefix=' . ($prefix =~ s{/}{%2F}gr) : '');
		$query .= '&start-after=' . ($after =~ s{/}{%2F}gr) if $after ne '';
		$query = join '&', sort split /&/, $query;
		my ($status, $body) = $self->request('GET', "/$bucket", $query);
		croak "list of $bucket: $status $body" if $status != 200;
		my @some = $body =~ m{<Key>([^<]*)</Key>}g;
		push @keys, @some;
		return sort @keys if !@some || $body !~ m{<IsTruncated>true</IsTruncated>};
		$after = $some[-1];
	}
}

sub signal
{
	my ($self, $signal) = @_;
	kill $signal, $self->{pids}{rgw} if $self->{pids}{rgw};
}

sub pause  { $_[0]->signal('STOP'); }
sub resume { $_[0]->signal('CONT'); }

sub stop
{
	my ($self) = @_;
	my %pids = %{ $self->{pids} };

	# there is nothing to keep
	local $?;
	kill 'KILL', $_ for values %pids;
	waitpid $_, 0 for values %pids;
	$self->{pids} = {};
}

END
{
	$_->stop for @servers;
}

1;
