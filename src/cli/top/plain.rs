//! The same as text without escape codes, for pipes, files and `--once`.

use super::model::Model;
use super::table::{Line, Table};
use super::view;
use std::io::{self, Write};

/// Writes all of it; `width` leaves columns out that don't fit.
pub(super) fn print(model: &Model, now: &str, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let summary = text(&view::summary(model));
    writeln!(out, "wal-sidecar top  {now}  {summary}")?;
    for table in [view::sources(model, false), view::sidecars(model)] {
        writeln!(out)?;
        print_table(&table, width, out)?;
    }
    out.flush()
}

fn print_table(table: &Table, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let (titles, lines) = table.lines(width);
    writeln!(out, "{}", text(&titles))?;
    for line in &lines {
        writeln!(out, "{}", text(line))?;
    }
    Ok(())
}

fn text(line: &Line) -> String {
    let text: String = line.iter().map(|cell| cell.text.as_str()).collect();
    text.trim_end().to_owned()
}
