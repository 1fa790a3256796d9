//! A source file as the rules see it: without comments, string literals and `#[cfg(test)]` items, lines kept.

use std::fs;
use std::path::Path;

/// One file under `src/`.
pub(crate) struct Source {
    /// Its path below `src/`.
    pub(crate) name: String,
    /// The top-level module it belongs to.
    pub(crate) module: String,
    /// Whether the whole file is tests.
    pub(crate) is_test: bool,
    /// The file as it is.
    pub(crate) text: String,
    /// The file with everything blanked that is not code of the library.
    code: String,
    /// How many modules deep it is: `slab.rs` and `slab/mod.rs` 1, `slab/a.rs` 2.
    depth: usize,
}

/// Every `.rs` file below `root`.
pub(crate) fn sources(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(Source::of(&name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

impl Source {
    pub(crate) fn of(name: &str, text: &str) -> Self {
        let mut parts: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        let file = *parts.last().unwrap();
        Source {
            name: name.to_owned(),
            module: parts[0].to_owned(),
            is_test: file == "tests" || file.ends_with("_tests"),
            text: text.to_owned(),
            code: without_tests(without_comments_and_strings(text)),
            depth: parts.len(),
        }
    }

    /// Where `name` stands as a whole word, by line: `word` anywhere, `word!` as a macro, `word::` at a path's begin.
    pub(crate) fn words<'a>(&'a self, name: &'a str) -> impl Iterator<Item = usize> + 'a {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let begins = name.ends_with("::");
        self.code.match_indices(name).filter_map(move |(at, _)| {
            let (before, after) = (&self.code[..at], &self.code[at + name.len()..]);
            let whole = !before.ends_with(part) && (!name.ends_with(part) || !after.starts_with(part));
            (whole && !(begins && before.ends_with("::"))).then(|| line_of(&self.code, at))
        })
    }

    /// The paths taken from the root of the crate, with their lines: through `crate::`, or through as many `super::` as
    /// lead out of the top-level module. Groups are taken apart.
    pub(crate) fn crate_paths(&self) -> Vec<(usize, Vec<String>)> {
        let outward = "super::".repeat(self.depth);
        let mut paths = Vec::new();
        for root in ["crate::", &outward] {
            for (at, _) in self.code.match_indices(root) {
                let before = &self.code[..at];
                if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let line = line_of(&self.code, at);
                let mut found = Vec::new();
                take_path(&self.code[at + root.len()..], &mut Vec::new(), &mut found);
                paths.extend(found.into_iter().map(|path| (line, path)));
            }
        }
        paths
    }
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Follows a path, or each of a `{…}` group, from behind a `::`; returns what stands behind it.
fn take_path<'a>(rest: &'a str, above: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let rest = rest.trim_start();
    if let Some(mut group) = rest.strip_prefix('{') {
        loop {
            group = group.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            match group.strip_prefix('}') {
                Some(behind) => return behind,
                None if group.is_empty() => return group,
                None => group = take_path(group, above, found),
            }
        }
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (name, mut behind) = rest.split_at(end);
    above.push(name.to_owned());
    if let Some(deeper) = behind.strip_prefix("::") {
        behind = take_path(deeper, above, found);
    } else {
        found.push(above.clone());
        // `name as other`, and whatever else does not belong to the path, up to the next item of a group.
        let next = behind.find([',', '}', ';']).unwrap_or(behind.len());
        behind = &behind[next..];
    }
    above.pop();
    behind
}

/// Blanks comments, string and character literals; newlines stay, so lines keep their numbers.
fn without_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(hashes) = raw_string(rest).filter(|_| !out.ends_with(char::is_alphanumeric)) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = rest.find('"').unwrap() + 1;
            rest[body..].find(&end).map_or(rest.len(), |e| body + e + end.len())
        } else if rest.starts_with('"') {
            quoted(rest, '"')
        } else if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') && rest.starts_with('\'') {
            quoted(rest, '\'')
        } else {
            let c = rest.chars().next().unwrap();
            out.push(c);
            at += c.len_utf8();
            continue;
        };
        out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        at += length;
    }
    out
}

/// The length of a block comment, which may hold others.
fn block_comment(rest: &str) -> usize {
    let (mut at, mut nested) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            nested += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            nested -= 1;
            at += 2;
            if nested == 0 {
                break;
            }
        } else {
            at += rest[at..].chars().next().unwrap().len_utf8();
        }
    }
    at
}

/// How many `#` a raw string that begins here has.
fn raw_string(rest: &str) -> Option<usize> {
    let body = ["r", "br", "cr"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let hashes = body.bytes().take_while(|&b| b == b'#').count();
    body[hashes..].starts_with('"').then_some(hashes)
}

/// The length of a literal with escapes, both quotes counted.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Blanks every item behind `#[cfg(test)]` (or `cfg(all(test, …))`): to its closing brace, or to its semicolon.
fn without_tests(code: String) -> String {
    let mut code = code;
    while let Some(at) = ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|mark| code.find(mark)).min() {
        let mut nested = 0usize;
        let mut end = code.len();
        let from = at + code[at..].find(']').unwrap_or(0);
        for (offset, c) in code[from..].char_indices() {
            match c {
                '{' => nested += 1,
                '}' if nested == 1 => {
                    end = from + offset + 1;
                    break;
                }
                '}' => nested = nested.saturating_sub(1),
                ';' if nested == 0 => {
                    end = from + offset + 1;
                    break;
                }
                _ => {}
            }
        }
        let blank: String = code[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(at..end, &blank);
    }
    code
}
