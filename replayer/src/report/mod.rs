//! The report: one page about a recording that says everything and needs nothing else. No script,
//! no font, no picture from elsewhere; figures are drawn for light and dark paper, and the
//! browser shows those that fit its setting.

mod figures;
mod html;
mod method;
mod recording;
mod verdict;

use self::html::Html;
use crate::compare::Comparison;
use crate::plot::PlotError;
use crate::plot::history::History;

/// What a report is made of.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The tracks at the end.
    pub comparison: &'a Comparison,
    /// The tracks over time.
    pub history: &'a History,
    /// The command that makes this report again.
    pub command: &'a str,
}

/// Writes the page.
///
/// # Errors
/// If a figure cannot be drawn.
pub fn page(contents: &Contents<'_>) -> Result<String, PlotError> {
    let trace = &contents.comparison.trace;
    let title = format!("1 GiB pages on {}", trace.hostname);
    let mut body = Html::default();
    recording::put_heading(&mut body, &title, trace);
    verdict::put(&mut body, contents.comparison)?;
    figures::put(&mut body, contents.history)?;
    verdict::put_tables(&mut body, contents.comparison);
    recording::put(&mut body, trace);
    method::put(&mut body, contents);
    let mut page = Html::default();
    page.markup("<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n");
    page.within("head", "", |head| {
        head.markup("<meta charset=\"utf-8\"/>\n");
        head.markup("<meta name=\"viewport\" content=\"width=device-width\"/>\n");
        head.markup("<meta name=\"color-scheme\" content=\"light dark\"/>\n");
        head.element("title", "", &title);
        head.within("style", "", |style| style.markup(include_str!("style.css")));
    });
    page.within("body", "", |html| {
        html.within("main", "", |main| main.markup(&body.into_text()));
    });
    page.markup("</html>\n");
    Ok(page.into_text())
}
