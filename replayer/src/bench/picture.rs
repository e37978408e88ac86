//! A [`GrowthReport`] as a picture: cost of an event over the size of the machine, as SVG.

use std::fmt::Write;

use super::growth::{GrowthReport, SUBJECTS, Size};

/// Width and height, and the space around the lines: left, top, right, bottom. In pixels.
const SIZE: (f64, f64) = (720.0, 420.0);
const AROUND: (f64, f64, f64, f64) = (64.0, 64.0, 150.0, 56.0);
/// Least distance of two labels, in pixels.
const LINE: f64 = 17.0;

const NAMES: [&str; 4] = ["stock", "SPB, linear walk", "SPB, hints", "SPB, bitmaps"];
const COLOURS: [&str; 4] = ["#5f6b7a", "#c4402f", "#b07a12", "#1f6fb4"];

/// Where values are in the picture.
struct Axes {
    /// log2 of the smallest and the largest memory.
    log2: (f64, f64),
    /// Largest cost, in ns, and the distance of two lines of the grid.
    most_ns: f64,
    step_ns: f64,
}

impl Axes {
    fn new(sizes: &[Size]) -> Axes {
        let log2 = |size: Option<&Size>| size.map_or(0.0, |size| (size.memory_bytes as f64).log2());
        let costs = sizes.iter().flat_map(|size| SUBJECTS.map(|subject| size.median(subject)));
        let most = costs.fold(1.0, f64::max);
        let step_ns = [1.0, 2.0, 5.0, 10.0, 20.0, 25.0, 50.0, 100.0, 200.0, 500.0]
            .into_iter()
            .find(|step| most / step <= 8.0)
            .unwrap_or(most / 8.0);
        let most_ns = (most / step_ns).ceil() * step_ns;
        Axes { log2: (log2(sizes.first()), log2(sizes.last())), most_ns, step_ns }
    }

    fn x(&self, memory_bytes: u64) -> f64 {
        let (first, last) = self.log2;
        let part = ((memory_bytes as f64).log2() - first) / (last - first).max(1e-9);
        AROUND.0 + part * (SIZE.0 - AROUND.0 - AROUND.2)
    }

    fn y(&self, ns: f64) -> f64 {
        SIZE.1 - AROUND.3 - ns / self.most_ns * (SIZE.1 - AROUND.1 - AROUND.3)
    }
}

/// Draws the report.
#[must_use]
pub fn svg(report: &GrowthReport) -> String {
    let axes = Axes::new(&report.sizes);
    let (width, height) = SIZE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"sans-serif\" \
         font-size=\"13\">\n\
         <title>Cost of an event over the size of the machine</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, (20.0, 26.0), "start", "#1b2430\" font-size=\"16", &title());
    text(&mut svg, (20.0, 46.0), "start", "#5f6b7a", &subtitle(report));
    grid(&mut svg, &axes, &report.sizes);
    for (number, subject) in SUBJECTS.iter().enumerate() {
        line(&mut svg, &axes, &report.sizes, subject, COLOURS[number]);
    }
    labels(&mut svg, &axes, &report.sizes);
    svg.push_str("</svg>\n");
    svg
}

fn title() -> String {
    "CPU time per event of a replay, by size of the machine".to_owned()
}

fn subtitle(report: &GrowthReport) -> String {
    let GrowthReport { workload, duration_s, repeats, .. } = report;
    let runs =
        if *repeats == 1 { "one run".to_owned() } else { format!("median of {repeats} runs") };
    format!("workload {workload}, {duration_s} s; {runs}")
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, fill: &str, text: &str) {
    let (x, y) = at;
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{text}</text>"
    );
}

fn grid(svg: &mut String, axes: &Axes, sizes: &[Size]) {
    let (left, right) = (AROUND.0, SIZE.0 - AROUND.2);
    for step in 0..=(axes.most_ns / axes.step_ns).round() as u32 {
        let ns = f64::from(step) * axes.step_ns;
        let y = axes.y(ns);
        let _ = writeln!(
            svg,
            "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#dfe4ea\" fill=\"none\"/>"
        );
        text(svg, (left - 8.0, y + 4.0), "end", "#5f6b7a", &format!("{ns} ns"));
    }
    for size in sizes {
        let at = (axes.x(size.memory_bytes), SIZE.1 - AROUND.3 + 20.0);
        text(svg, at, "middle", "#5f6b7a", &memory(size.memory_bytes));
    }
    let middle = ((left + right) / 2.0, SIZE.1 - 14.0);
    text(svg, middle, "middle", "#5f6b7a", "memory of the machine");
}

/// `16 GiB`, `1 TiB`.
fn memory(bytes: u64) -> String {
    match bytes >> 30 {
        gib if gib >= 1 << 10 && gib % (1 << 10) == 0 => format!("{} TiB", gib >> 10),
        0 => format!("{} MiB", bytes >> 20),
        gib => format!("{gib} GiB"),
    }
}

fn line(svg: &mut String, axes: &Axes, sizes: &[Size], subject: &str, colour: &str) {
    let at = |size: &Size| (axes.x(size.memory_bytes), axes.y(size.median(subject)));
    let mut path = String::new();
    for (x, y) in sizes.iter().map(at) {
        let begin = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{begin}{x:.1} {y:.1}");
    }
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"2.5\" fill=\"none\"/>"
    );
    for (x, y) in sizes.iter().map(at) {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
    }
}

/// The name of each line at its right end; names that would meet are moved down.
fn labels(svg: &mut String, axes: &Axes, sizes: &[Size]) {
    let Some(last) = sizes.last() else { return };
    let end = |number: usize| axes.y(last.median(SUBJECTS[number])) + 4.0;
    let mut by_height: Vec<usize> = (0..SUBJECTS.len()).collect();
    by_height.sort_by(|a, b| end(*a).total_cmp(&end(*b)));
    let mut lowest = f64::MIN;
    for number in by_height {
        lowest = end(number).max(lowest + LINE);
        let at = (SIZE.0 - AROUND.2 + 12.0, lowest);
        let name = format!("{} {:.0}", NAMES[number], last.median(SUBJECTS[number]));
        text(svg, at, "start", COLOURS[number], &name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::growth::tests::report;
    use super::*;

    #[test]
    fn every_line_has_a_point_for_each_size_inside_the_picture() {
        let figures = [(1 << 34, [25.0, 40.0, 30.0, 31.0]), (1 << 40, [26.0, 90.0, 33.0, 32.0])];
        let svg = svg(&report(&figures));
        let document = roxmltree::Document::parse(&svg).expect("well-formed");
        let points: Vec<_> = document.descendants().filter(|n| n.has_tag_name("circle")).collect();
        assert_eq!(points.len(), figures.len() * SUBJECTS.len());
        for point in points {
            let at = |name| point.attribute(name).and_then(|text| text.parse::<f64>().ok());
            let (x, y) = (at("cx").expect("a number"), at("cy").expect("a number"));
            assert!((AROUND.0..=SIZE.0 - AROUND.2).contains(&x), "{x}");
            assert!((AROUND.1..=SIZE.1 - AROUND.3).contains(&y), "{y}");
        }
    }

    #[test]
    fn names_of_lines_never_meet() {
        let svg = svg(&report(&[(1 << 34, [25.0; 4]), (1 << 40, [25.0; 4])]));
        let document = roxmltree::Document::parse(&svg).expect("well-formed");
        let is_name = |n: &roxmltree::Node<'_, '_>| {
            n.text().is_some_and(|text| NAMES.iter().any(|name| text.starts_with(name)))
        };
        let mut heights: Vec<f64> = document
            .descendants()
            .filter(|n| n.has_tag_name("text") && is_name(n))
            .map(|n| n.attribute("y").and_then(|y| y.parse().ok()).expect("a number"))
            .collect();
        heights.sort_by(f64::total_cmp);
        assert_eq!(heights.len(), SUBJECTS.len());
        assert!(heights.windows(2).all(|two| two[1] - two[0] >= LINE - 0.1), "{heights:?}");
    }

    #[test]
    fn memory_is_named_in_whole_units() {
        assert_eq!([1 << 29, 1 << 34, 1 << 40].map(memory), ["512 MiB", "16 GiB", "1 TiB"]);
    }
}
