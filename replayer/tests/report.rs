//! The report is one well-formed page that needs nothing from elsewhere.

#![cfg(feature = "analysis")]

use fragscope_replay::compare::{Plan, compare};
use fragscope_replay::mm::settings::Settings;
use fragscope_replay::plot::history::replay;
use fragscope_replay::report::{Contents, page};
use fragscope_replay::synth::generate;
use fragscope_replay::synth::presets::preset;
use fragscope_trace::reader::TraceReader;
use roxmltree::{Document, Node, ParsingOptions};

/// The report of a small machine, and the words of its verdicts.
fn report() -> (String, Vec<String>) {
    let mut workload = preset("small", Some(2 << 30)).unwrap();
    workload.duration_s = 0.3;
    let mut trace = Vec::new();
    generate(&workload, 1, &mut trace, |_| {}).unwrap();
    let open = || TraceReader::new(&trace[..]);
    let plan = Plan::full(&Settings::default(), 2);
    let comparison = compare(open, &plan).unwrap();
    let history = replay(open, plan.tracks, 100_000_000, |_| {}).unwrap();
    let command = "fragscope-replay report <\u{1}&\"odd\".fst";
    let contents = Contents { comparison: &comparison, history: &history, command };
    let verdicts = comparison.verdicts.iter().map(|verdict| verdict.text.clone());
    (page(&contents).unwrap(), verdicts.collect())
}

/// Elements that fetch or run something.
const FETCHING: [&str; 12] = [
    "script", "link", "img", "image", "iframe", "object", "embed", "use", "audio", "video",
    "source", "base",
];

/// Why an element reaches outside of the page, if it does.
fn reaches_out(node: &Node<'_, '_>) -> Option<String> {
    let name = node.tag_name().name();
    if FETCHING.contains(&name) {
        return Some(format!("<{name}>"));
    }
    let points_away =
        |value: &str| value.contains("url(") || value.contains("@import") || value.contains("//");
    let style = node.text().filter(|text| name == "style" && points_away(text));
    let attribute = node.attributes().find(|attribute| {
        let refers = matches!(attribute.name(), "href" | "src" | "srcset" | "data" | "action");
        refers || attribute.name().starts_with("on") || points_away(attribute.value())
    });
    style.map(str::to_owned).or(attribute.map(|attribute| format!("{attribute:?}")))
}

#[test]
fn a_report_is_well_formed_self_contained_and_says_the_verdict() {
    let (page, verdicts) = report();
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&page, options).unwrap();
    let outside: Vec<_> = document.descendants().filter_map(|node| reaches_out(&node)).collect();
    assert_eq!(outside, Vec::<String>::new());
    let texts: Vec<_> = document.descendants().filter_map(|node| node.text()).collect();
    assert_eq!(verdicts.len(), 2);
    for verdict in &verdicts {
        assert!(texts.contains(&verdict.as_str()), "{verdict}");
    }
    for word in ["Verdict", "How sure this is", "Method", "Limits", "lost events"] {
        assert!(texts.contains(&word), "{word}");
    }
    let of_class = |class: &str| {
        let is = |node: &Node<'_, '_>| node.attribute("class") == Some(class);
        document.descendants().filter(is).count()
    };
    assert_eq!(of_class("light"), of_class("dark"));
    assert_eq!(document.descendants().filter(|node| node.has_tag_name("figure")).count(), 7);
}
