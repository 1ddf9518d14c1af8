# Layer files are opened when something in them is read, and not because a branch gets upkeep. A damaged or
# missing file affects only its own contents, and nothing any more once it is repaired. The number of open files stays within
# max_open_layer_files and the limit of the system.
use strict;
use warnings;
use IPC::Run ();
use PageserverTest;
use PostgreSQL::Test::Utils ();
use Test::More;

my $bound = 8;
my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 1MB\ntarget_file_size = 1MB\npage_cache_size = 0\nmax_open_layer_files = $bound\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my %conf = (conf => "autovacuum = off\nfull_page_writes = off\npageserver_smgr.cache_size = 1MB\nshared_buffers = 1MB\n");
my $c = $store->start_compute('main', %conf);
my ($dir) = glob("$store->{dir}/tenants/*/timelines/*/layers");

sub open_files
{
	return grep { defined && m{^\Q$dir\E/[^.]+$} } map { readlink } glob("/proc/$store->{pid}/fd/*");
}

my @tables = qw(a b c);
for my $t (@tables)
{
	$c->sql("CREATE TABLE $t (i int, v text)");
	$c->sql("INSERT INTO $t SELECT i, md5(i::text) || repeat('$t', 150) FROM generate_series(1, 40000) i");
}
my %sum = map { $_ => $c->sql("SELECT count(*) || ' ' || sum(hashtext(v)) FROM $_") } @tables;
my $b = $c->sql("SELECT format('03%s%s%s00', lpad(to_hex(t.oid::int), 8, '0'), lpad(to_hex(d.oid::int), 8, '0'), lpad(to_hex(pg_relation_filenode('b')::int), 8, '0'))
	FROM pg_tablespace t, pg_database d WHERE spcname = 'pg_default' AND datname = 'postgres'");
my $row = $c->sql("SELECT v FROM b WHERE ctid = '(0,1)'");
$store->ctl_ok('compact', 'branch', 'compact', 'main');
$c->stop;
$store->stop;
my @files = glob("$dir/*");
cmp_ok(scalar @files, '>', 2 * $bound, 'there are many files');
# Images of blocks of b other than the first that are read: no newer image has one of their blocks. Merges have created
# others during the inserts.
my @images = map { m{/([0-9a-f]{36})-([0-9a-f]{36})__([0-9a-f]{16})__} ? [ $1, $2, $3, $_ ] : () } @files;
my @of_b;
for my $image (@images)
{
	my ($first, $last, $lsn, $file) = @$image;
	next unless $first =~ /^$b(?!0{8})/ && $last =~ /^$b/;
	push @of_b, $file unless grep { $_->[2] gt $lsn && $_->[0] le $last && $_->[1] ge $first } @images;
}
cmp_ok(scalar @of_b, '>=', 2, 'some files contain only blocks of one table') or diag("b is $b", "\n", join "\n", @files);

# ---- the bound, and what is open after a start ----
$store->start;
cmp_ok(scalar(open_files()), '<=', 1, 'a start does not open layer files');
$c = $store->start_compute('main', %conf);
for my $t (@tables)
{
	$c->sql_is("SELECT count(*) || ' ' || sum(hashtext(v)) FROM $t", $sum{$t}, "$t can be read, a file at a time");
	PageserverTest::wait_until(sub { open_files() <= $bound }, "no more than $bound open layer files");
}
$c->stop;
$store->stop;

# ---- damage ----
my ($damaged, $missing) = @of_b;
open my $f, '+<:raw', $damaged or die;
seek $f, 100, 0;
read $f, my $right, 8;
seek $f, 100, 0;
print $f 'damaged!';
close $f;
rename $missing, "$store->{dir}/moved" or die;
$store->start;
$c = $store->start_compute('main', %conf);
like($store->log_content, qr/WARNING.*1 layer files are missing, the first is "\Q$missing\E"/, 'a missing file is noticed at once');
$c->sql_is("SELECT count(*) || ' ' || sum(hashtext(v)) FROM $_", $sum{$_}, "$_ can be read") for qw(a c);
my ($rc, $out, $err) = $c->psql("SELECT count(*) || ' ' || sum(hashtext(v)) FROM b");
isnt($rc, 0, 'b cannot be read');
like($err, qr/layer file "(\Q$damaged\E" is damaged at offset \d+|\Q$missing\E")/, 'the error names the file, and the offset');
$c->sql_is("SELECT v FROM b WHERE ctid = '(0,1)'", $row, 'rows of b that are in other files can be read');
$c->sql('INSERT INTO a VALUES (0)');

# repaired, without a restart
open $f, '+<:raw', $damaged or die;
seek $f, 100, 0;
print $f $right;
close $f;
rename "$store->{dir}/moved", $missing or die;
$c->sql_is("SELECT count(*) || ' ' || sum(hashtext(v)) FROM b", $sum{b}, 'b, mended');
$c->stop;
$store->stop;

# ---- the limit of the system ----
sub start_with_limit
{
	my ($n) = @_;
	my $log = PageserverTest::test_dir() . "/limit_$n.log";
	my $out = '';
	IPC::Run::run [ 'bash', '-c', "ulimit -n $n; exec pageserver_ctl start -D '$store->{dir}' -l '$log'" ], '>', \$out, '2>', \$out;
	return ($? >> 8, $out . PostgreSQL::Test::Utils::slurp_file($log));
}

$store->append_conf("max_open_layer_files = 4000\n");
($rc, $out) = start_with_limit(600);
isnt($rc, 0, 'the store does not start with too few file descriptors');
like($out, qr/the system allows 600 open files, but at least 808 are needed: 500 for connections/, 'the error says how many file descriptors it needs');
($rc, $out) = start_with_limit(810);
is($rc, 0, 'the store starts with few file descriptors') or diag($out);
like($out, qr/WARNING.*the system allows 810 open files: at most 10 layer files are kept open, not 4000/, 'the log says that fewer layer files are kept open');
($store->{pid}) = split /\n/, PostgreSQL::Test::Utils::slurp_file("$store->{dir}/pageserver.pid");
$c = $store->start_compute('main', %conf);
$c->sql_is("SELECT count(*) || ' ' || sum(hashtext(v)) FROM c", $sum{c}, 'everything can be read with few open layer files');
PageserverTest::wait_until(sub { open_files() <= 10 }, 'no more than 10 open layer files');
$c->stop;

# ---- what upkeep reads after a start, of a branch in which nothing has changed ----
$store->ctl_ok('compact again', 'branch', 'compact', 'main');
$store->stop;
$store->append_conf("log_level = debug\n");
$store->start;
$c = $store->start_compute('main', %conf);
PageserverTest::wait_until(sub { $store->log_content =~ /branch "main": finished upkeep/ }, 'upkeep of the branch');
# user tables, which the start of a compute does not read: their blocks, and nothing else
my @of_tables = grep { m{/03([0-9a-f]{24})[0-9a-f]{2}[0-9a-f]{8}-03([0-9a-f]{24})} && hex(substr $1, 16) >= 16384 && hex(substr $2, 16) >= 16384 } glob("$dir/*");
my %open = map { $_ => 1 } open_files();
cmp_ok(scalar @of_tables, '>', $bound, 'many files have nothing but blocks of tables');
is(scalar(grep { $open{$_} } @of_tables), 0, 'none of them is open after upkeep');
$c->sql_is("SELECT count(*) || ' ' || sum(hashtext(v)) FROM $_", $sum{$_}, "$_ is there") for qw(b c);
%open = map { $_ => 1 } open_files();
cmp_ok(scalar(grep { $open{$_} } @of_tables), '>', 3, 'and these when they are read');
$c->stop;
$store->stop;
done_testing();
