# ClusterCompare: compares two data directories that should hold the same data, page by page.
package ClusterCompare;

use strict;
use warnings;

use Exporter 'import';
use File::Find;

our @EXPORT = qw(compare_clusters read_control);

sub slurp
{
	my ($path) = @_;
	open my $f, '<:raw', $path or die "$path: $!";
	local $/;
	return <$f> // '';
}

sub relation_files
{
	my ($dir) = @_;
	my %files;
	my %unlogged;
	find({ no_chdir => 1, follow => 1, follow_skip => 2, wanted => sub {
				return if $File::Find::name eq $dir;
				my $path = substr($File::Find::name, length($dir) + 1);
				return unless $path =~ m{^(?:base/\d+|global|pg_tblspc/\d+/PG_[^/]+/\d+)/(\d+)(_\w+)?(\.\d+)?$};
				$files{$path} = -s $File::Find::name;
				$unlogged{$1} = 1 if defined $2 && $2 eq '_init';
			} }, $dir);
	# a start creates the main forks of unlogged relations again; the free space map is not in WAL
	for my $path (keys %files)
	{
		$path =~ m{/(\d+)(_\w+)?(\.\d+)?$};
		delete $files{$path} if (defined $2 && $2 eq '_fsm') || ($unlogged{$1} && (!defined $2 || $2 ne '_init'));
	}
	return \%files;
}

sub read_control
{
	my ($dir) = @_;
	local $ENV{LC_ALL} = 'C';
	my %control;
	for (`pg_controldata '$dir'`)
	{
		$control{$1} = $2 if /^(.*?):\s*(.*)$/;
	}
	return \%control;
}

# compare_clusters(STOCK, EXPORT, SETTINGS) returns the number of pages compared and a list of the differences.
# Oracle.pm says what is compared and what is not.  SETTINGS is read_control() of a stock server that has the settings
# of the WAL, because STOCK has its own.
sub compare_clusters
{
	my ($stock, $export, $settings) = @_;
	my @bad;
	my $pages = 0;
	my $a = relation_files($stock);
	my $b = relation_files($export);

	for my $path (sort keys %{ { %$a, %$b } })
	{
		# an empty file can be that of a dropped relation, until the next checkpoint
		if (!defined $a->{$path} || !defined $b->{$path})
		{
			push @bad, "$path is only in " . (defined $a->{$path} ? 'stock' : 'export') if ($a->{$path} // $b->{$path}) > 0;
			next;
		}
		push @bad, "$path has $a->{$path} bytes in stock, $b->{$path} in export" if $a->{$path} != $b->{$path};
		open my $fa, '<:raw', "$stock/$path" or die "$stock/$path: $!";
		open my $fb, '<:raw', "$export/$path" or die "$export/$path: $!";
		my $blk = 0;
		while (1)
		{
			my ($pa, $pb);
			my $na = read $fa, $pa, 8192;
			my $nb = read $fb, $pb, 8192;
			last if $na < 8192 || $nb < 8192;
			if ($pa ne $pb)
			{
				my $i = 0;
				$i++ while substr($pa, $i, 1) eq substr($pb, $i, 1);
				push @bad, sprintf("%s block %d differs from byte %d on: LSN %s in stock, %s in export", $path, $blk, $i,
					map { sprintf '%X/%X', unpack 'VV', $_ } $pa, $pb);
			}
			$pages++;
			$blk++;
		}
	}

	for my $dir ('pg_xact', 'pg_multixact/offsets', 'pg_multixact/members', 'pg_commit_ts', 'pg_twophase')
	{
		my %names;
		for my $side ($stock, $export)
		{
			opendir my $d, "$side/$dir" or die "$side/$dir: $!";
			$names{$_} = 1 for grep { !/^\./ } readdir $d;
		}
		for my $name (sort keys %names)
		{
			my @c = map { -e "$_/$dir/$name" ? slurp("$_/$dir/$name") : undef } ($stock, $export);
			if (!defined $c[0] || !defined $c[1])
			{
				push @bad, "$dir/$name is only in " . (defined $c[0] ? 'stock' : 'export');
			}
			elsif ($c[0] ne $c[1])
			{
				my $i = 0;
				$i++ while $i < length($c[0]) && $i < length($c[1]) && substr($c[0], $i, 1) eq substr($c[1], $i, 1);
				push @bad, sprintf('%s/%s differs from byte %d on (%d and %d bytes)', $dir, $name, $i, length($c[0]), length($c[1]));
			}
		}
	}

	my @maps;
	find({ no_chdir => 1, follow => 1, follow_skip => 2, wanted => sub { push @maps, substr($File::Find::name, length($stock) + 1) if /pg_filenode\.map$/ } }, $stock);
	for my $path (sort @maps)
	{
		if (!-e "$export/$path")
		{
			push @bad, "$path is not in export";
		}
		elsif (slurp("$stock/$path") ne slurp("$export/$path"))
		{
			push @bad, "$path differs";
		}
	}

	my ($ca, $cb) = (read_control($stock), read_control($export));
	for my $name (sort keys %$ca)
	{
		next unless $name =~ /^Latest checkpoint's (Next|oldest(XID|Multi)|newestCommitTs|oldestCommitTs)|^Database system identifier|setting$|^WAL block|^Data page checksum/;
		my $expected = $name =~ /setting$/ ? $settings->{$name} : $ca->{$name};
		push @bad, "pg_control: $name is $expected in stock, $cb->{$name} in export" if $expected ne ($cb->{$name} // '');
	}
	return ($pages, @bad);
}

1;
