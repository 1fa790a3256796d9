//! The name of a file, kept in place. Zone: cold; `core` only, no allocation.

use core::fmt;

/// The name of a file, of at most [`FileName::LONGEST`] bytes; or none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FileName {
    bytes: [u8; FileName::LONGEST],
    length: u8,
}

impl FileName {
    /// The most bytes that a name may have.
    pub const LONGEST: usize = 255;

    /// No file.
    pub const EMPTY: FileName = FileName { bytes: [0; FileName::LONGEST], length: 0 };

    /// The file with this name; `None` if it is too long.
    pub(super) fn new(name: &[u8]) -> Option<FileName> {
        let mut file = FileName { length: u8::try_from(name.len()).ok()?, ..FileName::EMPTY };
        file.bytes[..name.len()].copy_from_slice(name);
        Some(file)
    }

    /// Its bytes; empty = no file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_bytes().escape_ascii(), f)
    }
}
