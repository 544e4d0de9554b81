//! Tables that fit: of the columns there are as many as the width takes, those
//! with the lowest rank first. Nothing here knows of terminals.

/// The least width of a column of numbers, so that it does not move with them.
const NUMBER_WIDTH_MIN: usize = 6;
/// The first column is cut off where it takes more than one part of so many.
const FIRST_SHARE: usize = 3;

/// Spaces between columns; twice as many where there is room.
const GAP: usize = 1;

/// How a text is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Dim,
    Good,
    Warning,
    Bad,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// Parts of one line, without spaces to add.
pub(super) type Line = Vec<Cell>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Numbers are at the right.
    pub(super) is_number: bool,
    pub(super) rank: u8,
}

#[derive(Debug, Clone)]
pub(super) enum Row {
    /// One for each column.
    Cells(Vec<Cell>),
    /// Over the whole width.
    Line(Line),
}

#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
}

impl Cell {
    /// What comes from elsewhere must not be able to steer a terminal.
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Cell {
        let mut text: String = text.into();
        if text.contains(char::is_control) {
            text = text.replace(char::is_control, " ");
        }
        Cell { text, tone }
    }

    pub(super) fn plain(text: impl Into<String>) -> Cell {
        Cell::new(text, Tone::Plain)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl Table {
    /// The line with the titles, and those of the rows.
    pub(super) fn lines(&self, width: usize) -> (Line, Vec<Line>) {
        let chosen = self.choose(width);
        let taken: usize = chosen.iter().map(|(_, width)| width + GAP).sum();
        let gap = match taken + chosen.len() <= width {
            true => 2 * GAP,
            false => GAP,
        };
        let titles = self.columns.iter().map(|one| Cell::plain(one.title));
        let titles: Vec<Cell> = titles.collect();
        let lines = self.rows.iter().map(|row| match row {
            Row::Cells(cells) => self.line(cells, &chosen, gap),
            Row::Line(line) => line.clone(),
        });
        (self.line(&titles, &chosen, gap), lines.collect())
    }

    /// Which columns are shown, and how wide each is.
    fn choose(&self, width: usize) -> Vec<(usize, usize)> {
        let needed: Vec<usize> = (0..self.columns.len())
            .map(|column| self.needed(column, width))
            .collect();
        let mut by_rank: Vec<usize> = (0..self.columns.len()).collect();
        by_rank.sort_by_key(|column| self.columns[*column].rank);
        let (mut chosen, mut left) = (Vec::new(), width.saturating_add(GAP));
        for column in by_rank {
            if let Some(rest) = left.checked_sub(needed[column] + GAP) {
                left = rest;
                chosen.push((column, needed[column]));
            }
        }
        chosen.sort_unstable();
        chosen
    }

    fn needed(&self, column: usize, width: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| match row {
            Row::Cells(cells) => cells.get(column).map(Cell::width),
            Row::Line(_) => None,
        });
        let Column {
            title, is_number, ..
        } = self.columns[column];
        let least = if is_number { NUMBER_WIDTH_MIN } else { 0 };
        let needed = cells.max().unwrap_or(0).max(title.len()).max(least);
        match column {
            0 => needed.min((width / FIRST_SHARE).max(title.len())),
            _ => needed,
        }
    }

    fn line(&self, cells: &[Cell], chosen: &[(usize, usize)], gap: usize) -> Line {
        let mut line = Vec::with_capacity(2 * chosen.len());
        for (place, (column, width)) in chosen.iter().enumerate() {
            let cell = &cells[*column];
            let text = shortened(&cell.text, *width);
            let text = match self.columns[*column].is_number {
                true => format!("{text:>width$}"),
                false => format!("{text:<width$}"),
            };
            if place > 0 {
                line.push(Cell::plain(" ".repeat(gap)));
            }
            let tone = cell.tone;
            line.push(Cell { text, tone });
        }
        line
    }
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column {
            title: "NAME",
            is_number: false,
            rank: 0,
        },
        Column {
            title: "MORE",
            is_number: true,
            rank: 2,
        },
        Column {
            title: "MOST",
            is_number: true,
            rank: 1,
        },
    ];

    fn text(line: &Line) -> String {
        line.iter().map(|cell| cell.text.as_str()).collect()
    }

    #[test]
    fn columns_are_left_out_by_rank() {
        let cells = ["a-long-name", "1", "23"].map(Cell::plain);
        let table = Table {
            title: "T",
            columns: COLUMNS,
            rows: vec![
                Row::Cells(cells.to_vec()),
                Row::Line(vec![Cell::plain("over all of it")]),
            ],
        };
        for (width, titles, row) in [
            (
                40,
                "NAME           MORE    MOST",
                "a-long-name       1      23",
            ),
            (25, "NAME       MORE   MOST", "a-long-…      1     23"),
            (16, "NAME     MOST", "a-lo…      23"),
            (12, "NAME   MOST", "a-l…     23"),
            (6, "NAME", "a-l…"),
            (2, "", ""),
        ] {
            let (header, lines) = table.lines(width);
            assert_eq!(text(&header).trim_end(), titles, "{width}");
            assert_eq!(text(&lines[0]).trim_end(), row, "{width}");
            assert_eq!(text(&lines[1]), "over all of it");
        }
    }

    #[test]
    fn control_characters_are_taken_out() {
        assert_eq!(Cell::plain("a\u{1b}[2Jb\nc").text, "a [2Jb c");
    }
}
