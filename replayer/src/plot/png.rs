//! SVG to PNG.

use std::sync::Arc;

use resvg::{tiny_skia, usvg};

use super::{PlotError, drawing};

/// Pixels of a point: twice as many as on a plain screen.
const SCALE: f32 = 2.0;
/// Family of the font that comes along.
const FAMILY: &str = "Ubuntu";

/// The picture of an SVG as PNG.
///
/// # Errors
/// If the SVG cannot be drawn.
pub fn png(svg: &str) -> Result<Vec<u8>, PlotError> {
    let tree = usvg::Tree::from_str(svg, &options()).map_err(drawing)?;
    let size = tree.size();
    let (width, height) = ((size.width() * SCALE) as u32, (size.height() * SCALE) as u32);
    let mut pixels =
        tiny_skia::Pixmap::new(width, height).ok_or_else(|| drawing("a picture without size"))?;
    let scale = tiny_skia::Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    pixels.encode_png().map_err(drawing)
}

fn options() -> usvg::Options<'static> {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.set_sans_serif_family(FAMILY);
    usvg::Options {
        font_family: FAMILY.to_owned(),
        fontdb: Arc::new(fonts),
        ..usvg::Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(text: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"40\" height=\"20\">\
             <text x=\"2\" y=\"16\" font-family=\"sans-serif\" font-size=\"16\">{text}</text></svg>"
        )
    }

    #[test]
    fn letters_are_drawn() {
        let (empty, written) = (png(&svg("")).unwrap(), png(&svg("M")).unwrap());
        assert!(written.starts_with(b"\x89PNG"));
        assert_ne!(empty, written);
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        assert!(png("<svg").is_err());
    }
}
