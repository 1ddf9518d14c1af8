# Manifest.pm: what the manifest of a timeline says (src/pageserver/timeline/manifest_log.h).
package Manifest;

use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Utils ();

# The members of its whole state, changes applied; "layers" is a list of "NAME level N entries N bytes N".
sub state
{
	my ($timeline_dir) = @_;
	my ($first, @changes) = PostgreSQL::Test::Utils::slurp_file("$timeline_dir/timeline.log") =~ /^[0-9a-f]{8} (.*)\n/mg;
	my $manifest = decode_json($first)->{timeline};
	my %layers = map { ((split ' ')[0] => $_) } @{ $manifest->{layers} };
	for my $change (map { decode_json($_) } @changes)
	{
		$layers{ (split ' ')[0] } = $_ for @{ delete $change->{add} // [] };
		delete @layers{ @{ delete $change->{drop} // [] } };
		%$manifest = (%$manifest, %$change);
	}
	$manifest->{layers} = [ sort values %layers ];
	return $manifest;
}

# The directory of the timeline of a branch, which has not been deleted.
sub directory
{
	my ($store, $branch) = @_;
	my ($dir) = grep { !-e "$_/deleted" && Manifest::state($_)->{name} eq $branch } glob "$store->{dir}/tenants/*/timelines/*";
	die "the store has no branch $branch" unless defined $dir;
	return $dir;
}

1;
