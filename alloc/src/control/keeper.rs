//! Keeps what was learnt in a file (`TERRACE_PROFILE`), for the next run of the same program.
//!
//! Zone: control. The file is read when the control thread starts, and written after [`FIRST`], then after twice as long each time up to
//! [`LONGEST`]: a program may end at any time, and does not wait for us.
//!
//! Invariant: a file that is no profile, or is another program's, is never changed; and at every moment the name stands for a whole profile,
//! the old one or the new one (rename(2)).

use super::sites;
use super::system::System;
use super::tick::Plane;
use crate::config::Config;
use crate::heat::clock::now_ns;
use crate::heat::profile::{BadLine, Profile, TITLE};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const S: u64 = 1_000_000_000;

/// Time until the file is first written, and the longest between two times, ns.
const FIRST: u64 = 10 * S;
const LONGEST: u64 = 160 * S;

/// Most bytes of a profile: that of a heap of 4 TiB.
const MOST: u64 = 1 << 30;

/// The keeper of one file.
pub(super) struct Keeper {
    path: PathBuf,
    /// How it begins.
    head: String,
    pause: u64,
    due: u64,
}

impl Keeper {
    /// The keeper of the file that `config` names, and what it holds; `None` if there is no such file to be kept, which is said if that is
    /// not as the user wanted it.
    pub(super) fn open(config: &Config, system: &dyn System) -> Option<(Keeper, Profile)> {
        let name = config.profile.as_bytes();
        if name.is_empty() {
            return None;
        }
        let program = std::env::current_exe().ok()?.file_name()?.to_string_lossy().into_owned();
        // The program may go elsewhere later.
        let path = std::path::absolute(Path::new(OsStr::from_bytes(name))).ok()?;
        let profile = match read(&path, &program) {
            Ok(profile) => profile,
            Err(why) => {
                system.say(&format!("profile {}: {why}: not used, not changed", path.display()));
                return None;
            }
        };
        if profile.program != program {
            // Usual: all that a shell starts has the same environment.
            if config.verbose {
                let other = &profile.program;
                system.say(&format!(
                    "profile {} is {other}'s, not {program}'s: not used, not changed",
                    path.display()
                ));
            }
            return None;
        }
        if config.verbose {
            system.say(&format!(
                "profile {}: {} extents of an earlier run",
                path.display(),
                profile.extents()
            ));
        }
        sites::recall(&profile.sites);
        let head = profile.head();
        Some((Keeper { path, head, pause: FIRST, due: system.now() + FIRST }, profile))
    }

    /// Writes the file if it is time and enough is known; whether it can still be kept.
    pub(super) fn keep(&mut self, plane: &Plane, system: &dyn System) -> bool {
        if system.now() < self.due {
            return true;
        }
        self.due = system.now() + self.pause;
        self.pause = (2 * self.pause).min(LONGEST);
        let Some(text) = plane.next_profile(sites::take_stock) else { return true };
        // Another program may have begun when there was no file, too.
        let written = self.is_ours().and_then(|ours| match ours {
            true => replace(&self.path, &text),
            false => Err(io::Error::other("another program's by now")),
        });
        if let Err(e) = &written {
            system.say(&format!("profile {}: {e}: not kept", self.path.display()));
        }
        written.is_ok()
    }

    /// Whether the file is this program's, or nobody's.
    fn is_ours(&self) -> io::Result<bool> {
        let Some(file) = open(&self.path)? else { return Ok(true) };
        let mut head = Vec::new();
        file.take(self.head.len() as u64).read_to_end(&mut head)?;
        Ok(head == self.head.as_bytes())
    }
}

/// The file at `path`, to read; `None` if there is none, or nothing in it yet.
fn open(path: &Path) -> io::Result<Option<File>> {
    // Without waiting for who may write to a pipe.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    Ok((metadata.len() > 0).then_some(file))
}

/// What the file at `path` holds; nothing, if there is none.
fn read(path: &Path, program: &str) -> Result<Profile, String> {
    let plain = |e: io::Error| e.to_string();
    let Some(file) = open(path).map_err(plain)? else { return Ok(Profile::new(program)) };
    let bad = |line: BadLine| line.to_string();
    let mut text = String::new();
    let mut file = file.take(TITLE.len() as u64);
    file.read_to_string(&mut text).map_err(|_| bad(BadLine(1)))?;
    if text != TITLE {
        return Err(bad(BadLine(1)));
    }
    file.set_limit(MOST);
    file.read_to_string(&mut text).map_err(plain)?;
    Profile::parse(&text).map_err(bad)
}

/// Has `path` hold `text`, or, if that fails, what it held.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    // Others may share the directory, and, in a container, our number.
    beside.push(format!(".{}-{:x}", std::process::id(), now_ns()));
    let beside = PathBuf::from(beside);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&beside)?;
    let replaced = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&beside, path));
    replaced.inspect_err(|_| drop(fs::remove_file(&beside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let directory = std::env::temp_dir().join(format!("terrace-keeper-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("profile");
        replace(&path, "one").unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
        assert!(replace(&directory.join("none/profile"), "x").is_err());
        assert!(replace(&directory, "x").is_err());
        assert!(directory.is_dir());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_is_no_profile_is_refused_and_what_is_not_there_is_empty() {
        let directory = std::env::temp_dir().join(format!("terrace-keeper-read-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("profile");
        assert!(read(&path, "p").is_ok_and(|profile| profile.program == "p" && profile.extents() == 0));
        for bad in [&[0xff, 0][..], b"some notes\n"] {
            fs::write(&path, bad).unwrap();
            assert!(read(&path, "p").is_err());
        }
        fs::write(&path, "terrace profile 1\nprogram q\n").unwrap();
        assert!(read(&path, "p").is_ok_and(|profile| profile.program == "q"));
        assert!(read(&directory, "p").is_err());
        assert!(read(Path::new("/dev/zero"), "p").is_err());
        fs::write(&path, "").unwrap();
        assert!(read(&path, "p").is_ok_and(|profile| profile.program == "p"));
    }

    #[test]
    fn a_file_that_another_program_has_begun_meanwhile_is_its_own() {
        let directory = std::env::temp_dir().join(format!("terrace-keeper-two-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("profile");
        let keeper = Keeper { path: path.clone(), head: Profile::new("p").head(), pause: 0, due: 0 };
        assert!(keeper.is_ours().unwrap());
        for (text, ours) in
            [("terrace profile 1\nprogram p\n", true), ("terrace profile 1\nprogram pp\n", false)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(keeper.is_ours().unwrap(), ours);
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
