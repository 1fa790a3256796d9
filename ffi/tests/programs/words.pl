# Hashes, regular expressions, sorting and long strings.
use strict;
use warnings;

my (%count, @lines);
my $seed = 12345;
sub random { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return $seed >> 8 }

for my $i (1 .. 20000) {
    my $line = join ' ', map { 'word' . random() % 5000 } 1 .. 8;
    push @lines, $line;
    $count{$1}++ while $line =~ /(word\d+)/g;
}
my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print scalar(@top), " words\n";
print "$_ $count{$_}\n" for @top[0 .. 19];
my $text = join "\n", sort @lines;
$text =~ s/word(\d)(\d+)/$2-$1/g;
print length($text), ' ', unpack('%32C*', $text), "\n";
my %tree;
for (0 .. 50000) { push @{ $tree{ random() % 1000 }{ random() % 10 } }, $_ }
my $sum = 0;
for my $k (sort keys %tree) { $sum += @{ $tree{$k}{$_} } * $_ for sort keys %{ $tree{$k} } }
print "$sum\n";
delete @tree{ grep { $_ % 2 } keys %tree };
print scalar(keys %tree), "\n";
