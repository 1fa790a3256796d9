//! Plain tables and sizes for people.

use std::io::{self, Write};

/// Columns as wide as their widest cell, two blanks apart.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(titles: &[&str; N]) -> Self {
        Self { rows: vec![titles.map(str::to_owned)] }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let widths: [usize; N] =
            std::array::from_fn(|i| self.rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
        for row in &self.rows {
            let line: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(out, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// `1.5 GiB`: binary units, three digits or so.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scale = 1u64;
    while unit + 1 < UNITS.len() && count / scale >= 1024 {
        unit += 1;
        scale <<= 10;
    }
    if unit == 0 {
        return format!("{count} B");
    }
    let (whole, tenth) = (count / scale, count % scale * 10 / scale);
    if whole >= 100 { format!("{whole} {}", UNITS[unit]) } else { format!("{whole}.{tenth} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        let shown = [0, 1023, 1024, 1536, 100 << 20, (3 << 30) / 2, 5 << 40, u64::MAX].map(bytes);
        let expect = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 MiB", "1.5 GiB", "5.0 TiB", "16777215 TiB"];
        assert_eq!(shown, expect);
    }

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["long".into(), String::new()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a     b\nlong\n");
    }
}
