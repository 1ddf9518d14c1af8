# "pageserver_ctl layer dump" on the files of a real store: its output agrees with what pg_waldump and the
# server know about the table. It names damage by file and offset, and continues after it. With --json it
# reports the same.
use strict;
use warnings;
use File::Copy qw(copy);
use JSON::PP;
use MIME::Base64;
use Manifest;
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

# enough WAL after it that everything up to here is in files
my $done = lsn($c->sql('SELECT pg_current_wal_flush_lsn()'));
$c->sql("CREATE TABLE filler AS SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i");
PageserverTest::wait_until(sub { grep { /-([0-9a-f]{16})__[0-9a-f]+$/ && hex($1) > $done } glob("$timeline/layers/*") }, 'a delta file');
# The files must also be merged, because short records are then compressed with a dictionary.
PageserverTest::wait_until(sub {
	$store->ctl('branch', 'compact', 'main');
	return grep { /-([0-9a-f]{16})__[0-9a-f]+ level [1-9]/ && hex($1) > $done } @{ Manifest::state($timeline)->{layers} };
}, 'a merged file');
$c->stop;
$store->stop;
my @files = grep { !/\.tmp$/ } glob("$timeline/layers/*");

# ---- the JSON form, formatted like the text form ----
sub ratio { my ($raw, $stored) = @_; return $stored > 0 ? $raw / $stored : 1; }

sub summary_as_text
{
	my ($file, $s) = @_;
	my @lines = ([ 'Layer file', $file ], [ 'Kind', $s->{kind} ], [ 'Format version', $s->{format_version} ], [ 'Block size', $s->{block_size} ],
		map({ [ ucfirst $_, $s->{$_} ] } qw(tenant timeline number)),
		$s->{kind} eq 'image'
		? [ 'LSN', $s->{lsn} ]
		: ([ 'Level', $s->{level} ], [ 'First LSN', $s->{first_lsn} ], [ 'All LSNs are below', $s->{lsns_below} ]),
		[ 'Smallest key', $s->{smallest_key} // 'none' ], [ 'Greatest key', $s->{greatest_key} // 'none' ], [ 'Entries', $s->{entries} ],
		[ 'Codec of images', $s->{image_codec} ], [ 'Codec of records', $s->{record_codec} ],
		[ 'Dictionary', "$s->{dictionary_bytes} bytes, checksum $s->{dictionary_checksum}" ],
		[ 'Values', "from offset $s->{values_start} to $s->{values_end}" ],
		[ 'Index', "from offset $s->{index_start}, $s->{index_pages} pages, $s->{index_leaf_pages} of them leaves, $s->{index_levels} levels, root is page $s->{index_root}" ],
		[ 'File length', $s->{file_length} ], [ 'Checksum', $s->{checksum} ]);
	return join '', map { sprintf "%-21s %s\n", "$_->[0]:", $_->[1] } @lines;
}

sub totals_as_text
{
	my ($s, $t) = @_;
	my $text = sprintf "\n%-10s %-6s %12s %15s %15s %8s\n", 'Values', 'codec', 'number', 'bytes', 'in the file', 'ratio';
	my %all = (kind => 'all', codec => '', map { my $n = $_; ($n => eval { my $sum = 0; $sum += $_->{$n} for @{ $t->{values} }; $sum }) } qw(number bytes stored_bytes));
	$text .= sprintf "%-10s %-6s %12d %15d %15d %8.2f\n", @$_{qw(kind codec number bytes stored_bytes)}, ratio(@$_{qw(bytes stored_bytes)}) for @{ $t->{values} }, \%all;
	$text .= "their headers: $t->{header_bytes} bytes; not referenced by any entry: $t->{unnamed_bytes} bytes\n";
	$text .= sprintf "index: %d bytes, %.1f for each entry\n", $t->{index_bytes}, $s->{entries} ? $t->{index_bytes} / $s->{entries} : 0;
	$text .= sprintf "file: %d bytes, ratio %.2f\n", $t->{file_bytes}, ratio($all{bytes}, $t->{file_bytes});
	$text .= sprintf "\n%-22s %12s %12s %12s %12s %12s\n", 'Entries of', 'records', 'will_init', 'images', 'tombstones', 'shared';
	$text .= sprintf "%-22s %12d %12d %12d %12d %12d\n", @$_{qw(of records will_init images tombstones shared)} for @{ $t->{entries} };
	return $text;
}

sub block_as_text
{
	my ($b) = @_;
	my $image = defined $b->{image_bytes} ? ' (FPW' . ($b->{image_is_applied} ? '' : ' for WAL verification') . "), $b->{image_bytes} bytes" : '';
	return ", blkref #$b->{id}: rel $b->{relation} fork $b->{fork} blk $b->{block}$image";
}

my %value_as_text = (
	record => sub { "rmgr: $_->{rmgr}, info: $_->{info}, len: $_->{length}, tx: $_->{xid}, lsn: $_->{lsn}, prev: $_->{prev}" . join '', map { block_as_text($_) } @{ $_->{blocks} } },
	page => sub { $_->{new} ? 'page: new, ' . ($_->{zeros} ? 'zeros' : 'but not zeros')
		: "page: LSN $_->{lsn}, checksum $_->{checksum}, flags $_->{flags}, lower $_->{lower}, upper $_->{upper}, special $_->{special}, version $_->{version}, line pointers $_->{line_pointers}, prune xid $_->{prune_xid}" },
	size => sub { "blocks: $_->{blocks}" . join('', map { ", from block $_->{from_block} new since $_->{new_since}" } @{ $_->{floors} })
		. ($_->{origin} ? ", $_->{origin}{blocks} blocks begin as in $_->{origin}{tablespace}/$_->{origin}{database} at $_->{origin}{lsn}" : '') },
	state => sub { "state at: $_->{lsn}, last record: $_->{last_record}, last checkpoint: $_->{last_checkpoint}, next xid: $_->{next_xid_epoch}:$_->{next_xid}, oldest xid: $_->{oldest_xid}, next oid: $_->{next_oid}, next multixact: $_->{next_multixact}, next multixact offset: $_->{next_multixact_offset}" },
	control => sub { "system identifier: $_->{system_identifier}, checkpoint: $_->{checkpoint}" },
	slru_segment => sub { "pages: $_->{pages}" },
	origin => sub { "remote LSN: $_->{remote_lsn}" },
	text => sub { my $v = $_; join '', map { "$_: \"$v->{$_}\"" } grep { $_ ne 'type' } keys %$v },
	file => sub { "file: \"$_->{file}\", $_->{file_bytes} bytes" });

# The number of bytes is that of the entry.
my %types;
sub value_of
{
	my ($entry) = @_;
	$types{ $entry->{value}{type} } = 1 if $entry->{value};
	return () if !$entry->{value} || $entry->{value}{type} eq 'none';
	return "    $entry->{bytes} bytes\n" if $entry->{value}{type} eq 'bytes';
	return map { '    ' . $value_as_text{ $_->{type} }->() . "\n" } $entry->{value};
}

sub entry_as_text
{
	my ($e) = @_;
	my $place = "$e->{key}, lsn: $e->{lsn}, $e->{kind}" . ($e->{will_init} ? ', will_init' : '') . ($e->{shared} ? ', shared' : '') . ", offset: $e->{offset}, ";
	return "${place}DAMAGED\n" if $e->{damaged};
	return "${place}stored: $e->{stored_bytes}" . ($e->{codec} ne 'none' ? " ($e->{codec} of $e->{bytes})" : '') . "\n" . join '', value_of($e);
}

sub as_text
{
	my ($j) = @_;
	return join '', $j->{summary} ? summary_as_text($j->{file}, $j->{summary}) : '', $j->{totals} ? totals_as_text($j->{summary}, $j->{totals}) : '',
	  $j->{entries} ? ("\n", map { entry_as_text($_) } @{ $j->{entries} }) : '';
}

# Both forms report the same about the file, with or without damage; this includes standard error and the
# exit code.
sub forms_agree
{
	my ($rc, $out, $err, $file, @args) = @_;
	my ($json_rc, $json, $json_err) = $store->ctl('layer', 'dump', $file, '--json', @args);
	my $object = eval { decode_json($json) };
	my $text = $object ? as_text($object) : "no JSON: $@";
	# Damaged pages of the index are among the problems; bytes have another form.
	$out =~ s/^(\(index page \d+ is DAMAGED\)|    [0-9a-f]{6}  .*|    \*)\n//gm;
	my $same = $json_rc == $rc && $json_err eq $err && $object && $text eq $out;
	my @problems = map { /^pageserver_ctl: error: (.*)$/ ? $1 : () } split /\n/, $err;
	# The last line has their number.
	pop @problems;
	return 1 if $same && "@problems" eq join(' ', map { $_->{message} } @{ $object->{problems} });
	my @lines = split /\n/, $text;
	my ($differs) = grep { $_ ne (shift @lines // '') } split /\n/, $out;
	diag("not in JSON: $differs\nstandard error: $err\nwith JSON: $json_err");
	return 0;
}

sub dump_of
{
	my ($file, @args) = @_;
	my ($rc, $out, $err) = $store->ctl('layer', 'dump', $file, @args);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($rc, 0, 'layer dump ' . join(' ', @args)) or diag($err);
	is($err, '', 'layer dump reports no problem');
	ok(forms_agree($rc, $out, $err, $file, @args), 'JSON reports the same');
	return $out;
}

# ---- all entries, compared with what the server and its WAL say ----
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
	like($out, qr/not referenced by any entry: 0 bytes/, 'each value is referenced by an entry');
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
is(scalar keys %records, $blocks, 'there are records of each block');
is(scalar keys %images, $blocks, 'there is an image of each block');

my $wal = PageserverTest::plain_wal("$timeline/wal");
for my $block (0, int($blocks / 2), $blocks - 1)
{
	my $waldump = `pg_waldump --relation=$rel --fork=main --block=$block -p '$wal' -s $start 2>/dev/null`;
	my @expected = grep { $_ < $end } map { lsn($_) } $waldump =~ m{lsn: (\S+),}g;
	ok(@expected > 10, "pg_waldump knows records of block $block");
	is_deeply([ sort { $a <=> $b } keys %{ $records{$block} } ], \@expected, 'layer dump shows the same records');
}

# An image shows the page as its last record left it.
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
ok($out =~ /block 3,/ && $out !~ /block (?!3,)\d/, 'filter: one block');
is(() = dump_of($delta, '--limit=5') =~ /, lsn: /g, 5, 'filter: the number of entries');
like(dump_of($delta, '-R', $rel, '-F', 'main', '-B', '3', '-n', '1', '--hexdump'), qr/^    000000  ([0-9a-f]{2} ){16} \|.{16}\|$/m, 'bytes');
# values of all kinds
dump_of($_, '--values') for grep { -s $_ < 300_000 } @files;
is_deeply([ grep { $_ ne 'none' } sort keys %types ], [qw(bytes control file page record size slru_segment state text)], 'all kinds of values');
my ($entry) = @{ decode_json(($store->ctl('layer', 'dump', $delta, '-R', $rel, '-F', 'main', '-B', '3', '-n', '1', '--hexdump', '--json'))[1])->{entries} };
is_deeply([ @$entry{qw(relation fork block)} ], [ $rel, 'main', 3 ], 'JSON: the key by parts');
is(length $entry->{hex}, 2 * $entry->{bytes}, 'JSON: bytes');
ok(!exists decode_json(($store->ctl('layer', 'dump', $delta, '-n', '0', '--json'))[1])->{entries}, 'JSON: no entries');
{
	my $odd = PageserverTest::test_dir() . "/gr\xfcn";
	copy($delta, $odd) or die;
	my $json = decode_json(($store->ctl('layer', 'dump', $odd, '-n', '0', '--json'))[1]);
	is_deeply($json->{file}, { base64 => encode_base64($odd, '') }, 'JSON: a path that is not UTF-8');
}
$store->ctl_fails_like(qr/require --relation/, 'a block without a relation', 'layer', 'dump', $delta, '-B', '3');
$store->ctl_fails_like(qr/must be main, fsm, vm or init/, 'an invalid fork', 'layer', 'dump', $delta, '-R', $rel, '-F', 'x');
$store->ctl_fails_like(qr{must be TABLESPACE/DATABASE/RELFILENODE}, 'an invalid relation', 'layer', 'dump', $delta, '-R', 't');
$store->ctl_fails_like(qr/could not open layer file/, 'a file that does not exist', 'layer', 'dump', "$delta.x");
$store->ctl_fails_like(qr/is not a regular file/, 'a directory', 'layer', 'dump', "$timeline/layers");

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
	my @some = ('--values', '-R', $rel, '-F', 'main', '-B', 3);
	ok(forms_agree($store->ctl('layer', 'dump', $copy, @some), $copy, @some), "$what: JSON reports the same");
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
damaged('a file that is not a layer file', 0, 'ELF', 'is damaged at offset 0: it does not begin with', qr/^$/);

# random bytes
my $seed = $ENV{TEST_SEED} // time;
srand($seed);
note("TEST_SEED=$seed");
for my $file ($delta, (sort { -s $a <=> -s $b } grep { !/-[0-9a-f]{16}__[0-9a-f]+$/ } @files)[0])
{
	my (@unnoticed, @differ);
	for (1 .. 20)
	{
		my $at = int(rand(-s $file));
		copy($file, $copy) or die;
		open my $f, '+<', $copy or die;
		seek $f, $at, 0;
		read $f, my $byte, 1;
		seek $f, $at, 0;
		print $f $byte ^ chr(1 + int(rand(255)));
		close $f;
		my ($rc, $o, $err) = $store->ctl('layer', 'dump', $copy, '--values', '-n', '100');
		push @unnoticed, "$at: exit code $rc" if $rc != 1 || $err !~ /\Q$copy\E" (is damaged at offset|has format version)/;
		push @differ, $at if !forms_agree($rc, $o, $err, $copy, '--values', '-n', '100');
	}
	is("@differ", '', 'JSON reports the same for random damage');
	is("@unnoticed", '', 'a change of any byte is reported');
}
done_testing();
