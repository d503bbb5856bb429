//! Tables for people: columns line up, and one column gives way where the terminal is narrow.
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::output::Style;

const GAP: &str = "  ";
/// The narrowest that a column which gives way becomes.
const ELASTIC_MIN: usize = 12;

/// Which side a column's text stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

/// Rows under a header; an empty header is not shown.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    sides: Vec<Side>,
    /// The column that is shortened where the terminal is narrow.
    elastic: usize,
    rows: Vec<Vec<Cell>>,
    /// Columns are at least as wide, so that tables that follow each other line up.
    widths_min: Vec<usize>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            style: Style::Plain,
        }
    }
}

/// A cell with a meaning.
pub(crate) fn styled(style: Style, text: impl Into<String>) -> Cell {
    Cell {
        text: text.into(),
        style,
    }
}

impl Table {
    /// Columns by name; a name that ends in `>` stands on the right, one that ends in `…` gives way.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        let elastic = columns
            .iter()
            .position(|name| name.ends_with('…'))
            .unwrap_or(columns.len().saturating_sub(1));
        let side = |name: &&str| {
            if name.ends_with('>') {
                Side::Right
            } else {
                Side::Left
            }
        };
        Self {
            sides: columns.iter().map(side).collect(),
            header: columns
                .iter()
                .map(|name| name.trim_end_matches(['>', '…']))
                .collect(),
            elastic,
            rows: Vec::new(),
            widths_min: Vec::new(),
        }
    }

    /// Makes the first columns at least this wide.
    pub(crate) fn at_least(self, widths: &[usize]) -> Self {
        Self {
            widths_min: widths.to_vec(),
            ..self
        }
    }

    /// Adds a row of as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(
            cells.len(),
            self.header.len(),
            "a row has a cell for every column"
        );
        self.rows.push(cells);
    }

    /// Takes the last column away where no row says anything in it.
    pub(crate) fn without_empty_last(mut self) -> Self {
        let is_empty = |row: &Vec<Cell>| row.last().is_none_or(|cell| cell.text.is_empty());
        if self.rows.iter().all(is_empty) {
            self.header.pop();
            self.rows.iter_mut().for_each(|row| drop(row.pop()));
        }
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, one line a row. `width` is the terminal's; `None` shortens nothing.
    pub(crate) fn render(
        &self,
        width: Option<usize>,
        paint: &dyn Fn(Style, &str) -> String,
    ) -> String {
        let widths = self.widths(width);
        let mut out = String::new();
        if self.header.iter().any(|name| !name.is_empty()) {
            let header: Vec<Cell> = self
                .header
                .iter()
                .map(|name| styled(Style::Faint, *name))
                .collect();
            self.write_row(&mut out, &header, &widths, paint);
        }
        for row in &self.rows {
            self.write_row(&mut out, row, &widths, paint);
        }
        out
    }

    fn widths(&self, width: Option<usize>) -> Vec<usize> {
        let least = self.widths_min.iter().copied().chain(std::iter::repeat(0));
        let mut widths: Vec<usize> = self
            .header
            .iter()
            .zip(least)
            .map(|(name, least)| name.width().max(least))
            .collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        let total = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        if let (Some(limit), Some(elastic)) = (width, widths.get_mut(self.elastic)) {
            let over = total.saturating_sub(limit);
            *elastic = elastic.saturating_sub(over).max(ELASTIC_MIN.min(*elastic));
        }
        widths
    }

    fn write_row(
        &self,
        out: &mut String,
        row: &[Cell],
        widths: &[usize],
        paint: &dyn Fn(Style, &str) -> String,
    ) {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let width = widths.get(index).copied().unwrap_or(0);
            let text = shorten(&cell.text, width);
            let pad = " ".repeat(width.saturating_sub(text.width()));
            if index > 0 {
                line.push_str(GAP);
            }
            let (before, after) = match self.sides.get(index) {
                Some(Side::Right) => (pad.as_str(), ""),
                _ => ("", pad.as_str()),
            };
            line.push_str(before);
            line.push_str(&if text.is_empty() {
                String::new()
            } else {
                paint(cell.style, &text)
            });
            line.push_str(after);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// Cuts text to a number of columns, the last of them an ellipsis.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(_: Style, text: &str) -> String {
        text.to_owned()
    }

    fn log() -> Table {
        let mut table = Table::new(&["SEQ>", "KIND", "WHAT…", "AGE>"]);
        table.row(vec![
            "9".into(),
            "commit.recorded".into(),
            "cart: batch price lookups".into(),
            "2 h".into(),
        ]);
        table.row(vec![
            "1840".into(),
            "flag.changed".into(),
            "価格".into(),
            "11 m".into(),
        ]);
        table
    }

    #[test]
    fn columns_line_up_also_for_wide_characters() {
        let expected = " SEQ  KIND             WHAT                        AGE
   9  commit.recorded  cart: batch price lookups   2 h
1840  flag.changed     価格                       11 m
";
        assert_eq!(log().render(None, &plain), expected);
    }

    #[test]
    fn one_column_gives_way_to_a_narrow_terminal_and_the_others_do_not() {
        let text = log().render(Some(46), &plain);
        assert!(text.lines().all(|line| line.width() <= 46), "{text}");
        assert!(
            text.contains("commit.recorded  cart: batch pric…"),
            "{text}"
        );
    }

    #[test]
    fn never_narrower_than_can_be_read() {
        assert!(log().render(Some(5), &plain).contains("cart: batch…"));
    }

    #[test]
    fn a_last_column_that_says_nothing_is_taken_away() {
        let table = |told: &'static str| {
            let mut table = Table::new(&["SEQ>", "WHAT…", "SENDER"]);
            table.row(vec!["1".into(), "a".into(), "".into()]);
            table.row(vec!["2".into(), "b".into(), told.into()]);
            table.without_empty_last().render(None, &plain)
        };
        assert_eq!(table(""), "SEQ  WHAT\n  1  a\n  2  b\n");
        assert_eq!(table("ci"), "SEQ  WHAT  SENDER\n  1  a\n  2  b     ci\n");
    }

    #[test]
    fn shortens_at_whole_characters() {
        assert_eq!(shorten("価格表", 5), "価格…");
        assert_eq!(shorten("abc", 3), "abc");
    }
}
