//! In what kernels differ, asked of the running one: a row of `docs/KERNELS.md` each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fragscope_agent::bpf::tracefs::with_tracefs;
use fragscope_agent::btf::Btf;
use fragscope_agent::machine::read_machine;
use fragscope_agent::snapshot::{Limits, kpageflags};
use fragscope_trace::snapshot::SnapshotRole;

/// Answers by row.
pub(crate) type Facts = BTreeMap<String, String>;

const EVENTS: [&str; 6] = [
    "kmem/mm_page_alloc",
    "kmem/mm_page_free",
    "kmem/mm_page_alloc_extfrag",
    "pagemap/mm_lru_insertion",
    "migrate/mm_migrate_pages",
    "compaction/mm_compaction_begin",
];

/// All answers of this kernel.
pub(crate) fn of_this_kernel() -> Facts {
    let btf = Btf::of_kernel().expect("a kernel with BTF");
    let mut facts = Facts::new();
    let mut row = |name: &str, answer: String| facts.insert(name.to_owned(), answer);
    for (name, answer) in page_rows(&btf).into_iter().chain(list_rows(&btf)) {
        row(name, answer);
    }
    row("free pages in `/proc/kpageflags`", buddy_bits());
    let fields = with_tracefs(|tracefs| EVENTS.map(|event| fields_of(tracefs, event)));
    for (event, fields) in EVENTS.into_iter().zip(fields.expect("tracefs")) {
        row(&format!("fields of `{event}`"), fields);
    }
    facts
}

/// The first that the kernel has.
fn first<'a>(choices: &[(bool, &'a str)]) -> &'a str {
    choices.iter().find(|(has, _)| *has).map_or("none", |(_, answer)| answer)
}

fn page_rows(btf: &Btf) -> Vec<(&'static str, String)> {
    let has_type = |name: &str| btf.enum_value("pagetype", name).is_ok();
    let has_flag = |name: &str| btf.enum_value("pageflags", name).is_ok();
    let has = |of: &str, member: &str| btf.offset_of(of, member).is_ok();
    let buddy = match btf.enum_value("pagetype", "PGTY_buddy") {
        Ok(value) => format!("top byte {value:#x} of `page_type`"),
        Err(_) => "bit 0x80 of `page_type` cleared".to_owned(),
    };
    let slab = [(has_type("PGTY_slab"), "`PGTY_slab`"), (has_flag("PG_slab"), "flag `PG_slab`")];
    let hugetlb = [
        (has_type("PGTY_hugetlb"), "`PGTY_hugetlb`"),
        (has_flag("PG_hugetlb"), "flag `PG_hugetlb` of the second page"),
        (has("page", "compound_dtor"), "`compound_dtor` of the second page"),
    ];
    let order = [
        (has("page", "compound_order"), "`page.compound_order`"),
        (has("folio", "_flags_1"), "low byte of `folio._flags_1`"),
    ];
    let pins = [
        (has("folio", "_pincount"), "`folio._pincount`"),
        (has("page", "compound_pincount"), "`page.compound_pincount`"),
    ];
    let movable =
        [(has_flag("PG_movable_ops"), "flag `PG_movable_ops`"), (true, "bit 1 of `mapping`")];
    let kmalloc = [(has_type("PGTY_large_kmalloc"), "`PGTY_large_kmalloc`")];
    vec![
        ("a free block's first page", buddy),
        ("slab", first(&slab).to_owned()),
        ("hugetlb", first(&hugetlb).to_owned()),
        ("large kmalloc", first(&kmalloc).to_owned()),
        ("order of a large folio", first(&order).to_owned()),
        ("pins of a large folio", first(&pins).to_owned()),
        ("movable by its driver", first(&movable).to_owned()),
    ]
}

fn list_rows(btf: &Btf) -> Vec<(&'static str, String)> {
    let count = |of: &str, member: &str| {
        btf.member_len(of, member).map_or("none".to_owned(), |n| n.to_string())
    };
    let bits = ["__NR_PAGEBLOCK_BITS", "NR_PAGEBLOCK_BITS"]
        .into_iter()
        .find_map(|name| btf.enum_value("pageblock_bits", name).ok())
        .map_or_else(|| "none".to_owned(), |n| n.to_string());
    let has = |member: &str| btf.offset_of("per_cpu_pages", member).is_ok();
    let members = ["free_factor", "free_count", "alloc_factor", "high_min", "high_max"];
    let members: Vec<String> =
        members.into_iter().filter(|m| has(m)).map(|m| format!("`{m}`")).collect();
    vec![
        ("orders of free lists", count("zone", "free_area")),
        ("types of free lists", count("free_area", "free_list")),
        ("lists of a CPU", count("per_cpu_pages", "lists")),
        ("what tunes them", members.join(" ")),
        ("`NR_PAGEBLOCK_BITS`", bits),
    ]
}

/// Whether all pages of a free block are marked, or the first.
fn buddy_bits() -> String {
    let machine = read_machine().expect("a machine");
    let snapshot = kpageflags::take(machine, SnapshotRole::Standalone, &Limits::default());
    let notes = snapshot.expect("root may read it").notes;
    let heads = notes.iter().any(|note| note.contains("marks only the first page"));
    (if heads { "the first of a block" } else { "all" }).to_owned()
}

/// The event's own fields in their order.
fn fields_of(tracefs: &Path, event: &str) -> String {
    let text = fs::read_to_string(tracefs.join("events").join(event).join("format"));
    let text = text.unwrap_or_default();
    let name = |line: &str| {
        let declaration = line.trim().strip_prefix("field:")?.split(';').next()?.to_owned();
        let name = declaration.rsplit([' ', '*']).next()?.to_owned();
        (!name.starts_with("common_")).then_some(name)
    };
    text.lines().filter_map(name).collect::<Vec<_>>().join(" ")
}
