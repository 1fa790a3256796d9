//! What the real programs are given to do. Deterministic: each prints a digest of its results, equal under every allocator.

use std::fmt::Write;

/// Objects of every size that python makes, through `malloc` (the environment sets `PYTHONMALLOC=malloc`).
pub(crate) const PYTHON: &str = r#"
import json, sys
percent = int(sys.argv[1])
total = 0
for r in range(max(1, percent // 10)):
    people = [{"id": i, "name": "name-%d" % (i * 7919 % 10007), "tags": [str(i + k) for k in range(5)],
               "score": i / 7.0, "nested": {"a": i, "b": [i, i + 1]}} for i in range(4000)]
    text = json.dumps(people)
    back = json.loads(text)
    index = {}
    for p in back:
        index.setdefault(p["name"], []).append(p["id"])
    words = " ".join(sorted(index)).split()
    joined = "".join(w[::-1] for w in words)
    total += len(text) + len(index) + len(joined) + sum(len(v) for v in index.values())
    total += hash(tuple(words[:100])) & 0xffff
print(total)
"#;

/// Word counts, sorting and string building.
pub(crate) const PERL: &str = r#"
use strict; use warnings;
my $rounds = int($ARGV[0] / 10) || 1;
my ($state, $total) = (12345, 0);
sub draw { $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $_[0]; }
for my $r (1 .. $rounds) {
    my (%count, %where, @lines);
    for my $i (1 .. 4000) {
        my $line = join ' ', map { 'w' . draw(3000) . ('x' x draw(20)) } 1 .. 8;
        push @lines, $line;
        for my $w (split / /, $line) { $count{$w}++; push @{ $where{$w} }, $i; }
    }
    my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
    (my $text = join "\n", @lines) =~ s/w(\d+)/<$1>/g;
    $total += length($text) + @top + @{ $where{ $top[0] } };
}
print "$total\n";
"#;

/// An in-memory database filled, indexed, updated, queried and thinned out.
pub(crate) fn sqlite(percent: u32) -> String {
    let rows = 400 * percent;
    format!(
        "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-200000;
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, owner INTEGER, body TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<{rows})
INSERT INTO item SELECT i, 'name-'||(i*7919%{rows}), i*31%997, substr(hex(i*i)||hex(i*7919)||hex(i*104729),1,20+i%60) FROM n;
COMMIT;
CREATE INDEX by_name ON item(name);
CREATE INDEX by_owner ON item(owner, id);
UPDATE item SET body = body||'-'||upper(name) WHERE id%3=0;
DELETE FROM item WHERE id%7=0;
SELECT count(*), sum(length(body)), min(name), max(name) FROM item;
SELECT sum(c) FROM (SELECT owner, count(*) c, group_concat(name) FROM item GROUP BY owner);
SELECT count(*) FROM item a JOIN item b ON a.name='name-'||b.id;
SELECT sum(length(j)) FROM (SELECT json_group_array(json_object('id',id,'name',name)) j FROM item GROUP BY owner);
"
    )
}

/// A C++ file that includes much of the standard library and instantiates some of it; more percent, more instances.
pub(crate) fn translation_unit(percent: u32) -> String {
    let mut text = String::from(
        "#include <algorithm>\n#include <map>\n#include <string>\n#include <vector>\n#include <unordered_map>\n",
    );
    for i in 0..percent / 10 {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "struct K{i} {{ int k; std::string s; bool operator<(const K{i} &o) const {{ return k < o.k; }} }};
int f{i}(std::vector<K{i}> &v, std::unordered_map<std::string, int> &m) {{
    std::map<K{i}, std::vector<int>> t;
    for (auto &x : v) t[x].push_back(m[x.s]);
    std::sort(v.begin(), v.end());
    int sum = {i};
    for (auto &e : t) sum += e.second.size() + e.first.s.size();
    return sum;
}}
"
        );
    }
    text
}
