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

/// Documents, buffers outside the engine's own heap, and compression, whose streams are malloc's.
pub(crate) const NODE: &str = r#"
const zlib = require('zlib');
const rounds = Math.max(1, Math.floor(Number(process.argv[2]) / 10));
let total = 0;
for (let r = 0; r < rounds; r++) {
    const people = Array.from({ length: 3000 }, (_, i) => ({ id: i, name: 'name-' + (i * 7919) % 10007,
        tags: [1, 2, 3].map((k) => String(i + k)), nested: { a: i, b: [i, i + r] } }));
    const text = JSON.stringify(people);
    const back = JSON.parse(text);
    const index = new Map();
    for (const p of back) index.set(p.name, (index.get(p.name) || 0) + p.id);
    const buffers = back.map((p) => Buffer.from((p.name + ';').repeat(50 + p.id % 200)));
    for (let i = 0; i < 200; i++) {
        const packed = zlib.deflateRawSync(buffers[(i * 31) % buffers.length], { level: 1 });
        total += zlib.inflateRawSync(packed).length;
    }
    total += text.length + index.size + Buffer.concat(buffers).length;
}
console.log(total);
"#;

/// A repository's history for `git fast-import`: files of text, of which each commit changes a few lines.
pub(crate) fn history(percent: u32) -> String {
    const FILES: usize = 60;
    const LINES: usize = 120;
    let mut state = 12345u64;
    let mut draw = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut files: Vec<Vec<String>> = (0..FILES)
        .map(|f| (0..LINES).map(|l| format!("file {f}, line {l}: {:x}\n", draw(1 << 30))).collect())
        .collect();
    let mut out = String::from("feature done\n");
    for commit in 0..percent.max(2) {
        let about = format!("change {commit}\n");
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "commit refs/heads/main\ncommitter bench <bench@example.org> {} +0000\ndata {}\n{about}",
            1_700_000_000 + commit * 60,
            about.len()
        );
        for _ in 0..8 {
            let (file, line) = (draw(FILES), draw(LINES));
            files[file][line] = format!("commit {commit}: {:x}{:x}\n", draw(1 << 30), draw(1 << 30));
            let text = files[file].concat();
            let _ =
                write!(out, "M 100644 inline dir{}/file{file}.txt\ndata {}\n{text}\n", file % 7, text.len());
        }
    }
    out.push_str("done\n");
    out
}

/// Rust source for the parser and the printer of rustfmt, laid out badly.
pub(crate) fn rust_source(percent: u32) -> String {
    let mut text = String::new();
    for i in 0..percent.max(1) {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "/// Entry {i}.\n#[derive(Debug,Clone)]pub struct Entry{i}<'a,T:Clone>{{name:&'a str,value:Option<T>,list:Vec<(usize,T)>}}
impl<'a,T:Clone+std::fmt::Debug> Entry{i}<'a,T>{{pub fn new(name:&'a str)->Self{{Self{{name,value:None,list:Vec::new()}}}}
pub fn add(&mut self,at:usize,value:T)->Result<usize,String>{{match self.list.iter().position(|(k,_)|*k==at){{Some(found)if found>{i}=>Err(format!(\"{{}} is taken by {{:?}}\",self.name,self.list[found])),
Some(found)=>{{self.list[found].1=value;Ok(found)}}None=>{{self.list.push((at,value.clone()));self.value=Some(value);Ok(self.list.len()-1)}}}}}}
pub fn sum<F>(&self,f:F)->u64 where F:Fn(&T)->u64{{self.list.iter().filter(|(k,_)|k%2=={i}%2).map(|(_,v)|f(v)).chain(self.value.iter().map(&f)).fold(0u64,|a,b|a.wrapping_mul(31).wrapping_add(b))}}}}
"
        );
    }
    text
}

/// Linear and bit-vector problems for an SMT solver: sparse pigeons, a factorisation, and a chain of arrays.
pub(crate) fn formulas(percent: u32) -> String {
    let mut text = String::from("(set-option :auto_config true)\n");
    // Writing to a String cannot fail.
    for i in 0..(percent / 10).max(1) {
        let n = 6;
        text.push_str("(push)\n");
        for p in 0..=n {
            let _ = writeln!(text, "(declare-const p{p} Int)(assert (and (<= 0 p{p}) (< p{p} {n})))");
            for q in 0..p {
                let _ = writeln!(text, "(assert (distinct p{p} p{q}))");
            }
        }
        let _ = writeln!(text, "(check-sat)\n(pop)\n(push)");
        let product = (4001 + 2 * u64::from(i)) * 5003;
        let _ = write!(
            text,
            "(declare-const a (_ BitVec 28))(declare-const b (_ BitVec 28))
(assert (= (bvmul a b) (_ bv{product} 28)))(assert (bvugt a (_ bv1 28)))(assert (bvugt b (_ bv1 28)))
(assert (bvult a (_ bv8192 28)))(assert (bvult b (_ bv8192 28)))(check-sat)\n(pop)\n(push)\n(declare-const m0 (Array Int Int))\n"
        );
        for k in 1..60 {
            let _ = writeln!(
                text,
                "(declare-const i{k} Int)(define-fun m{k} () (Array Int Int) (store m{} i{k} {}))",
                k - 1,
                k * 7 + 1
            );
        }
        let _ = write!(
            text,
            "(assert (> (select m59 i1) (select m59 i30)))(assert (distinct i1 i30))(check-sat)\n(pop)\n"
        );
    }
    text
}
