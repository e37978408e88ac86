//! Selection, order and filter of a view's list. Each view keeps its own across changes of view.

/// How one list is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListState {
    /// Selected row.
    pub selected: usize,
    /// Column that it is sorted by, counted from the view's own default.
    pub sort: usize,
    /// Against the column's natural order.
    pub reversed: bool,
    /// Rows must contain this (lower case).
    pub filter: String,
}

impl ListState {
    /// Moves the selection within `rows` rows.
    pub fn move_by(&mut self, by: isize, rows: usize) {
        let last = rows.saturating_sub(1);
        self.selected = self.selected.min(last).saturating_add_signed(by).min(last);
    }

    /// Whether a row with this text passes the filter.
    #[must_use]
    pub fn admits(&self, text: &str) -> bool {
        self.filter.is_empty() || text.to_lowercase().contains(&self.filter)
    }

    /// First row to show so that the selected one is among `height`.
    #[must_use]
    pub fn scroll(&self, rows: usize, height: usize) -> usize {
        let selected = self.selected.min(rows.saturating_sub(1));
        let centred = selected.saturating_sub(height / 2);
        centred.min(rows.saturating_sub(height))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selection_stays_inside() {
        let mut list = ListState::default();
        list.move_by(-1, 5);
        assert_eq!(list.selected, 0);
        list.move_by(99, 5);
        assert_eq!(list.selected, 4);
        list.move_by(-1, 2);
        assert_eq!(list.selected, 0, "rows may have gone meanwhile");
        list.move_by(1, 0);
        assert_eq!(list.selected, 0);
    }

    #[test]
    fn the_selected_row_is_visible() {
        for rows in 0..30 {
            for height in 1..20 {
                for selected in 0..rows {
                    let list = ListState { selected, ..ListState::default() };
                    let top = list.scroll(rows, height);
                    assert!((top..top + height).contains(&selected));
                    assert!(top == 0 || top + height <= rows, "no empty lines at the end");
                }
            }
        }
    }
}
