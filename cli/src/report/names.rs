//! From a place in a file to a function and a line, as far as the file has symbols.

use std::collections::HashMap;
use std::fs::File;

use addr2line::Loader;
use object::{Object, ObjectSegment, ReadCache};

/// The files looked into so far.
#[derive(Default)]
pub(super) struct Names {
    files: HashMap<String, Option<Symbols>>,
}

struct Symbols {
    loader: Loader,
    /// Offset in the file, length, and address of each segment.
    segments: Vec<(u64, u64, u64)>,
}

impl Names {
    /// The function that holds the byte before `offset` in `file`, where a call returns to, and the call's line.
    pub(super) fn of(&mut self, file: &str, offset: u64) -> (Option<String>, Option<String>) {
        let symbols = self.files.entry(file.to_owned()).or_insert_with(|| Symbols::load(file));
        symbols.as_ref().and_then(|symbols| symbols.look_up(offset.checked_sub(1)?)).unwrap_or_default()
    }
}

impl Symbols {
    fn load(file: &str) -> Option<Symbols> {
        let data = ReadCache::new(File::open(file).ok()?);
        let object = object::File::parse(&data).ok()?;
        let segment = |s: object::Segment<'_, '_, _>| (s.file_range().0, s.file_range().1, s.address());
        let segments = object.segments().map(segment).collect();
        Some(Symbols { loader: Loader::new(file).ok()?, segments })
    }

    fn look_up(&self, offset: u64) -> Option<(Option<String>, Option<String>)> {
        let inside = |&&(from, length, _): &&(u64, u64, u64)| (from..from + length).contains(&offset);
        let &(from, _, address) = self.segments.iter().find(inside)?;
        let address = address + (offset - from);
        let mut frames = self.loader.find_frames(address).ok()?;
        let frame = frames.next().ok().flatten();
        let function =
            frame.as_ref().and_then(|f| f.function.as_ref()?.demangle().ok().map(|n| n.into_owned()));
        let location = frame.and_then(|f| f.location);
        let line = location.and_then(|l| Some(format!("{}:{}", l.file?, l.line?)));
        let symbol = || {
            let name = self.loader.find_symbol(address)?;
            Some(addr2line::demangle_auto(name.into(), None).into_owned())
        };
        Some((function.or_else(symbol), line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_this_program_is_found_by_its_place_in_the_file() {
        let file = std::env::current_exe().unwrap().to_string_lossy().into_owned();
        let here = a_function_of_this_program_is_found_by_its_place_in_the_file as *const () as u64;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let offset = maps.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = words[0].split_once('-').unwrap();
            (number(start)..number(end)).contains(&here).then(|| number(words[2]) + here - number(start))
        });
        let (function, line) = Names::default().of(&file, offset.unwrap() + 5);
        assert!(function.is_some_and(|name| name.contains("a_function_of_this_program")), "{line:?}");
        assert!(line.is_some_and(|line| line.contains("names.rs:")));
    }

    #[test]
    fn what_has_no_symbols_has_no_names() {
        assert_eq!(Names::default().of("/etc/passwd", 10), (None, None));
        assert_eq!(Names::default().of("/no/such/file", 10), (None, None));
        assert_eq!(Names::default().of("/proc/self/exe", 0), (None, None));
    }
}
