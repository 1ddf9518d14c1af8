# "pageserver_ctl layer dump" on the files of a real store: what it shows is
# what pg_waldump and the server know of the table; what is damaged it names,
# with file and offset, and goes on behind it.
use strict;
use warnings;
use File::Copy qw(copy);
use PageserverTest;
use Test::More;

my $store = PageserverTest->new_store('main', conf => "checkpoint_distance = 1MB\nimage_delta_percent = 1\nimage_delta_layers = 1\ncompaction_threshold = 2\n");
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main');
$c->sql('CREATE TABLE t (i int PRIMARY KEY, v text)');
$c->sql("INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 4000) i");
$c->sql("UPDATE t SET v = 'changed' WHERE i % 7 = 0");
$c->sql('VACUUM t');
my $rel = $c->sql("SELECT format('%s/%s/%s', t.oid, d.oid, pg_relation_filenode('t')) FROM pg_tablespace t, pg_database d WHERE spcname = 'pg_default' AND datname = 'postgres'");
my $blocks = $c->sql("SELECT pg_relation_size('t') / 8192");
my ($timeline) = glob("$store->{dir}/tenants/*/timelines/*");
sub lsn { my ($hi, $lo) = map { hex } split m{/}, $_[0]; return $hi << 32 | $lo; }

# enough WAL behind it that what was done until here is in files
my $done = lsn($c->sql('SELECT pg_current_wal_flush_lsn()'));
$c->sql("CREATE TABLE filler AS SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i");
PageserverTest::wait_until(sub { grep { /-([0-9a-f]{16})__[0-9a-f]+$/ && hex($1) > $done } glob("$timeline/layers/*") }, 'a delta file');
# and merged: then short records are compressed with a dictionary
PageserverTest::wait_until(sub {
	$store->ctl('branch', 'compact', 'main');
	return PostgreSQL::Test::Utils::slurp_file("$timeline/timeline.json") =~ /-([0-9a-f]{16})__[0-9a-f]+ level [1-9]/ && hex($1) > $done;
}, 'a merged file');
$c->stop;
$store->stop;
my @files = grep { !/\.tmp$/ } glob("$timeline/layers/*");

sub dump_of
{
	my ($file, @args) = @_;
	my ($rc, $out, $err) = $store->ctl('layer', 'dump', $file, @args);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($rc, 0, 'layer dump ' . join(' ', @args)) or diag($err);
	is($err, '', 'it complains of nothing');
	return $out;
}

# ---- all of it, beside what the server and its WAL say ----
my (%records, %images, $size, $size_lsn, $start, $end);

for my $file (@files)
{
	my $out = dump_of($file, '--values', '-R', $rel, '--fork', 'main');
	my ($name) = $file =~ m{([^/]+)$};
	my ($entries) = $out =~ /^Entries: +(\d+)$/m;
	my ($length) = $out =~ /^File length: +(\d+)$/m;
	is($length, -s $file, "length of $name");
	my $counted = 0;
	$counted += $1 + $2 + $3 while $out =~ /^(?:blocks of|sizes of|SLRU|databases|relation maps|states|control|files|two-phase|tablespaces|replication).*? +(\d+) +\d+ +(\d+) +(\d+) +\d+$/mg;
	is($counted, $entries, 'each entry is counted');
	like($out, qr/named by no entry: 0 bytes/, 'each value is named');
	my ($image) = $out =~ m{^LSN: +(\S+)$}m;
	$start = $image if defined $image && (!defined $start || lsn($image) < lsn($start));
	my ($below) = $out =~ m{^All LSNs are below: +(\S+)$}m;
	$end = lsn($below) if defined $below && (!defined $end || lsn($below) > $end);
	while ($out =~ m{^relation \Q$rel\E fork 0 block (\d+), lsn: (\S+), (record|image)(.*)\n    (.*)$}mg)
	{
		my ($block, $lsn, $kind, $value) = ($1, $2, $3, $5);
		if ($kind eq 'image')
		{
			my ($page_lsn) = $value =~ m{^page: LSN (\S+),};
			push @{ $images{$block} }, [ lsn($lsn), lsn($page_lsn) ];
		}
		else
		{
			my ($start) = $value =~ m{^rmgr: \w+, .* lsn: (\S+), .*blkref #\d+: rel \Q$rel\E fork main blk $block\b}
			  or fail("a record of block $block names the block: $value");
			$records{$block}{ lsn($start) } = lsn($lsn);
		}
	}
	while ($out =~ m{^size of relation \Q$rel\E fork 0, lsn: (\S+), image.*\n    blocks: (\d+)}mg)
	{
		($size, $size_lsn) = ($2, lsn($1)) if !defined $size_lsn || lsn($1) >= $size_lsn;
	}
}
is($size, $blocks, 'the size of the table');
is(scalar keys %records, $blocks, 'records of each of its blocks');
is(scalar keys %images, $blocks, 'an image of each of its blocks');

my $wal = PageserverTest::plain_wal("$timeline/wal");
for my $block (0, int($blocks / 2), $blocks - 1)
{
	my $waldump = `pg_waldump --relation=$rel --fork=main --block=$block -p '$wal' -s $start 2>/dev/null`;
	my @expected = grep { $_ < $end } map { lsn($_) } $waldump =~ m{lsn: (\S+),}g;
	ok(@expected > 10, "pg_waldump knows records of block $block");
	is_deeply([ sort { $a <=> $b } keys %{ $records{$block} } ], \@expected, 'and so does layer dump');
}

# an image is of the page as its last record left it
my $bad = 0;
for my $block (keys %images)
{
	for my $image (@{ $images{$block} })
	{
		my ($last) = sort { $b <=> $a } grep { $_ <= $image->[0] } values %{ $records{$block} };
		$bad++ if $last != $image->[1];
	}
}
is($bad, 0, 'each image has the LSN of the last record before it');

# ---- filters ----
my ($delta) = grep { dump_of($_, '-R', $rel, '-F', 'main', '-B', '3') =~ /^Level: +[1-9].*block 3,/ms } @files;
my $out = dump_of($delta, '-R', $rel, '-F', 'main', '-B', '3');
ok($out =~ /block 3,/ && $out !~ /block (?!3,)\d/, 'one block');
is(() = dump_of($delta, '--limit=5') =~ /, lsn: /g, 5, 'so many entries');
like(dump_of($delta, '-R', $rel, '-F', 'main', '-B', '3', '-n', '1', '--hexdump'), qr/^    000000  ([0-9a-f]{2} ){16} \|.{16}\|$/m, 'bytes');
$store->ctl_fails_like(qr/need a relation/, 'a block of no relation', 'layer', 'dump', $delta, '-B', '3');
$store->ctl_fails_like(qr/main, fsm, vm or init is expected/, 'a fork that is none', 'layer', 'dump', $delta, '-R', $rel, '-F', 'x');
$store->ctl_fails_like(qr{TABLESPACE/DATABASE/RELFILENODE is expected}, 'a relation that is none', 'layer', 'dump', $delta, '-R', 't');
$store->ctl_fails_like(qr/could not open layer file/, 'a file that is not there', 'layer', 'dump', "$delta.x");
$store->ctl_fails_like(qr/is no file/, 'a directory', 'layer', 'dump', "$timeline/layers");

# ---- damage ----
my $copy = PageserverTest::test_dir() . '/copy';
my ($values_end) = $out =~ /^Values: .* to (\d+)$/m;
my ($index, $pages) = $out =~ /^Index: +from offset (\d+), (\d+) pages/m;

sub damaged
{
	my ($what, $offset, $bytes, $message, $shown) = @_;
	copy($delta, $copy) or die;
	if (defined $bytes)
	{
		open my $f, '+<', $copy or die;
		seek $f, $offset, 0;
		print $f $bytes;
		close $f;
	}
	else
	{
		truncate $copy, $offset;
	}
	my ($rc, $o, $err) = $store->ctl('layer', 'dump', $copy);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($rc, 1, "$what: exit code");
	like($err, qr/layer file "\Q$copy\E" $message/, "$what: file and place");
	like($o, $shown, "$what: the rest is shown");
}
my ($offset, $stored) = $out =~ /offset: (\d+), stored: (\d+)/;
damaged('a value', $offset + 17 + $stored - 1, "\xff", "is damaged at offset $offset: checksum of the value", qr/block 3, .*DAMAGED\n(?!.*DAMAGED)/);
damaged('an index page', $index + 8192 + 4000, "\x5a\xa5", 'is damaged at offset ' . ($index + 8192) . ': checksum of index page 1',
	qr/\(index page 1 is DAMAGED\)\n.*, lsn: /);
my ($dictionary) = $out =~ /^Dictionary: +(\d+) bytes/m;
damaged('the dictionary', 8192 + 1000, "\x5a\xa5", 'is damaged at offset 8192: checksum of the dictionary', qr/, lsn: .*DAMAGED/) if ok($dictionary > 1000, 'there is a dictionary');
damaged('between values and index', $values_end, 'x', "is damaged at offset $values_end: byte between", qr/, lsn: /) if $values_end < $index;
damaged('the summary', 152, "\x01", 'is damaged at offset 0: checksum of the summary', qr/^Kind: +delta.*, lsn: /ms);
damaged('a short file', $index + 8192, undef, 'is damaged at offset ' . ($index + 8192) . ': the file ends here', qr/, lsn: .*\(index page 1 is DAMAGED\)/s);
damaged('a shorter one', 4000, undef, 'is damaged at offset 4000: the file ends here', qr/^$/);
damaged('another version', 8, pack('N', 99), 'has format version 99', qr/^$/);
damaged('no layer file', 0, 'ELF', 'is damaged at offset 0: it does not begin with', qr/^$/);

# any byte
my $seed = $ENV{TEST_SEED} // time;
srand($seed);
note("TEST_SEED=$seed");
for my $file ($delta, (sort { -s $a <=> -s $b } grep { !/-[0-9a-f]{16}__[0-9a-f]+$/ } @files)[0])
{
	my @unnoticed;
	for (1 .. 25)
	{
		my $at = int(rand(-s $file));
		copy($file, $copy) or die;
		open my $f, '+<', $copy or die;
		seek $f, $at, 0;
		read $f, my $byte, 1;
		seek $f, $at, 0;
		print $f $byte ^ chr(1 + int(rand(255)));
		close $f;
		my ($rc, undef, $err) = $store->ctl('layer', 'dump', $copy, '--values');
		push @unnoticed, "$at: exit code $rc" if $rc != 1 || $err !~ /\Q$copy\E" (is damaged at offset|has format version)/;
	}
	is("@unnoticed", '', 'whatever byte is changed, it is told of');
}
done_testing();
