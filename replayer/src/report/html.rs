//! A small writer of HTML that is well-formed XML as well, so that any parser can check it.

/// A page, or a part of one.
#[derive(Debug, Default)]
pub(super) struct Html {
    text: String,
}

impl Html {
    /// Adds markup as it is.
    pub(super) fn markup(&mut self, markup: &str) {
        self.text.push_str(markup);
    }

    /// Adds an element with text in it.
    pub(super) fn element(&mut self, tag: &str, class: &str, text: &str) {
        self.within(tag, class, |html| html.text.push_str(&escaped(text)));
    }

    /// Adds an element with what `inner` adds in it. `class` may be empty.
    pub(super) fn within(&mut self, tag: &str, class: &str, inner: impl FnOnce(&mut Html)) {
        self.text.push('<');
        self.text.push_str(tag);
        if !class.is_empty() {
            self.text.push_str(&format!(" class=\"{}\"", escaped(class)));
        }
        self.text.push('>');
        inner(self);
        self.text.push_str(&format!("</{tag}>\n"));
    }

    /// Adds a table: names of columns, then rows whose first cell names them.
    pub(super) fn table(&mut self, columns: &[&str], rows: &[Vec<String>]) {
        self.within("table", "", |html| {
            html.within("thead", "", |html| html.row("th", columns.iter().copied()));
            html.within("tbody", "", |html| {
                rows.iter().for_each(|row| html.row("td", row.iter().map(String::as_str)));
            });
        });
    }

    fn row<'a>(&mut self, tag: &str, cells: impl Iterator<Item = &'a str>) {
        self.within("tr", "", |html| cells.for_each(|cell| html.element(tag, "", cell)));
    }

    /// The text.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// Text that is safe inside elements and attributes. Characters that XML does not know at all
/// (names of processes may hold any) become the replacement character.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\t' | '\n' => safe.push(character),
            control if control.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&control) => {
                safe.push('\u{fffd}');
            }
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_text_makes_a_well_formed_page_that_says_it(text in "\\PC*", control in ".*") {
            let mut html = Html::default();
            html.within("p", &control, |html| html.element("b", "", &text));
            let page = html.into_text();
            let parsed = roxmltree::Document::parse(&page).unwrap();
            let said = parsed.root_element().first_element_child().unwrap().text();
            proptest::prop_assert_eq!(said.unwrap_or_default(), escapeless(&text));
        }
    }

    /// What is left of a text when characters that XML does not know are replaced.
    fn escapeless(text: &str) -> String {
        let known = |c: char| !matches!(c, '\u{fffe}' | '\u{ffff}');
        text.chars().map(|c| if known(c) { c } else { '\u{fffd}' }).collect()
    }
}
