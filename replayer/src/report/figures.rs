//! Figures, each drawn twice: for light and for dark paper.

use super::html::{Html, escaped};
use crate::plot::history::History;
use crate::plot::theme::Theme;
use crate::plot::{PlotError, pictures};

/// The pictures of a replay.
pub(super) fn put(html: &mut Html, history: &History) -> Result<(), PlotError> {
    html.element("h2", "", "Over time");
    let dark = pictures(history, Theme::Dark)?;
    for (light, dark) in pictures(history, Theme::Light)?.iter().zip(&dark) {
        put_one(html, light.caption, &light.svg, &dark.svg);
    }
    Ok(())
}

/// One figure.
pub(super) fn put_one(html: &mut Html, caption: &str, light: &str, dark: &str) {
    html.within("figure", "", |html| {
        for (class, svg) in [("light", light), ("dark", dark)] {
            let label = escaped(caption);
            html.markup(&format!("<div class=\"{class}\" role=\"img\" aria-label=\"{label}\">"));
            html.markup(svg);
            html.markup("</div>\n");
        }
        html.element("figcaption", "", caption);
    });
}
