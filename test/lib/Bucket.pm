# Bucket.pm: what object storage in a directory has of a tenant (src/pageserver/bucket/, src/pageserver/upload/).
package Bucket;

use strict;
use warnings;
use IPC::Run ();
use JSON::PP;
use Manifest;
use PostgreSQL::Test::Utils ();

# An entry of the tenant's log: its fields, and its JSON.
sub entry
{
	my ($file) = @_;
	open my $f, '<:raw', $file or die "$file: $!\n";
	my $data = do { local $/; <$f> };
	my (undef, undef, undef, $fields, $length) = unpack 'NNNNQ>', $data;
	my (undef, $generation, $number, $builds_on, undef, $flags) = unpack 'a16Q>Q>Q>Q>N', substr($data, 24, $fields);
	my ($in, $out) = (substr($data, 24 + $fields), '');
	IPC::Run::run [ 'zstd', '-dc' ], '<', \$in, '>', \$out or die "zstd: $?";
	die "$file: length" if length $out != $length;
	return { generation => $generation, number => $number, builds_on => $builds_on, full => $flags & 1, json => decode_json($out) };
}

sub merge
{
	my ($into, $from) = @_;
	for my $name (keys %$from)
	{
		if (!defined $from->{$name}) { delete $into->{$name}; }
		elsif (ref $from->{$name} eq 'HASH' && ref $into->{$name} eq 'HASH') { merge($into->{$name}, $from->{$name}); }
		else { $into->{$name} = $from->{$name}; }
	}
}

# The newest state: { timeline id => record }, in which "layers" is sorted.
sub state
{
	my ($bucket, $tenant) = @_;
	my @path;
	# the store may delete entries meanwhile
	for (1 .. 20)
	{
		my ($newest) = sort glob "$bucket/t/$tenant/m/*";
		return undef unless defined $newest;
		@path = ();
		eval {
			@path = entry($newest);
			while (!$path[0]{full})
			{
				unshift @path, entry(sprintf '%s/t/%s/m/%016x-%016x', $bucket, $tenant, ~$path[0]{generation}, ~$path[0]{builds_on});
			}
			1;
		} and last;
		die $@ if $_ == 20;
	}
	my $state = {};
	for my $timelines (map { $_->{json}{timelines} } @path)
	{
		for my $id (keys %$timelines)
		{
			my $change = $timelines->{$id};
			if (!defined $change) { delete $state->{$id}; next; }
			my %layers = map { ((split ' ')[0] => $_) } @{ $state->{$id}{layers} // [] };
			if ($change->{layers})
			{
				$state->{$id} = {};
				%layers = map { ((split ' ')[0] => $_) } @{ delete $change->{layers} };
			}
			delete @layers{ @{ delete $change->{drop} // [] } };
			$layers{ (split ' ')[0] } = $_ for @{ delete $change->{add} // [] };
			merge($state->{$id}, $change);
			$state->{$id}{layers} = [ sort values %layers ];
		}
	}
	return $state;
}

# Compares the newest state with the directory of the tenant, and each file that it names with the local one.  Returns
# what differs, '' if nothing does.
sub compare
{
	my ($bucket, $tenant_dir) = @_;
	my ($tenant) = $tenant_dir =~ m{([^/]+)$};
	my $state = Bucket::state($bucket, $tenant);
	my @differ;
	return 'no log' unless defined $state;
	for my $dir (glob "$tenant_dir/timelines/*")
	{
		my ($id) = $dir =~ m{([^/]+)$};
		my $there = delete $state->{$id};
		my $here = Manifest::state($dir);
		if (!$there) { push @differ, "timeline $id is missing"; next; }
		for my $name (qw(name disk_consistent_lsn gc_cutoff generation owner ancestor start_lsn))
		{
			push @differ, "$id $name: $there->{$name}, here $here->{$name}" if $there->{$name} ne $here->{$name};
		}
		push @differ, "$id deleted" if !!$there->{deleted} ne !!-e "$dir/deleted";
		push @differ, "$id protected" if !!$there->{protected} ne !!-e "$dir/protected";
		push @differ, "$id layers: @{$there->{layers}}, here @{$here->{layers}}" if "@{$there->{layers}}" ne "@{$here->{layers}}";
		for my $layer (map { (split ' ')[0] } @{ $there->{layers} })
		{
			my $object = object($bucket, $tenant, $id, $layer);
			push @differ, "$object" if !-e $object || system('cmp', '-s', $object, "$dir/layers/$layer") != 0;
		}
	}
	push @differ, "timeline $_ is not here" for keys %$state;
	return join "\n", @differ;
}

# The file of a layer.
sub object
{
	my ($bucket, $tenant, $timeline, $layer) = @_;
	my ($number) = $layer =~ /__([0-9a-f]+)$/;
	return sprintf '%s/t/%s/l/%s/%016x', $bucket, $tenant, $timeline, hex $number;
}

1;
