//! How the figures came about, and what they cannot say.

use super::Contents;
use super::html::Html;

const METHOD: &[&str] = &[
    "The recording holds every page allocation and free that the kernel's tracepoints report, and \
     the state of every page when it began.",
    "kernel: placement replay. Every request takes the very pages that the kernel took; the result \
     is compared with the kernel's own later state.",
    "stock and spb: policy replay. Each allocator is given the same requests and frees and places \
     them itself; pages are followed one by one. Time comes from the recording, so the same \
     recording and settings give the same figures on every machine.",
    "As found begins with each page where the kernel had it. From boot begins with an empty machine \
     that is filled through a seeded history (free memory once falls below 5 %, then filler goes \
     in random order) until the recording's own pages are left; both policies see the same history. \
     Ideal places only those pages on an empty machine: a bound, no forecast.",
    "Obtainable is the largest set of regions whose movable pages fit outside the set above the \
     watermarks. Evacuable counts each region by itself. The floor is the largest amount of \
     non-movable memory in whole GiB: no policy taints fewer regions.",
];

const LIMITS: &[&str] = &[
    "The superpageblock allocator is written from descriptions of a patch series that no kernel \
     has merged; what could not be read is a named setting with a default.",
    "A recording shows the requests that the stock kernel's workload made. A workload that reacts \
     to the allocator (retries, reclaim, compaction) would have made others; refaults of pages \
     that a policy reclaims are not seen.",
    "Some paths have no tracepoint (bulk allocation, compaction targets, contiguous allocation, \
     memory that arrives later). They are repaired from other events and from snapshots, and every \
     repair is counted above.",
    "From boot invents a history: read it as a range over histories, not as this host's past.",
    "A verdict is about the recorded time. Fragmentation grows over days; a short recording sees \
     little of that.",
];

/// Method, limits, and how to make the report again.
pub(super) fn put(html: &mut Html, contents: &Contents<'_>) {
    put_list(html, "Method", METHOD);
    put_list(html, "Limits", LIMITS);
    html.element("h2", "", "Made with");
    html.element("pre", "", contents.command);
    html.element("p", "faint", concat!("fragscope-replay ", env!("CARGO_PKG_VERSION")));
}

fn put_list(html: &mut Html, title: &str, items: &[&str]) {
    html.element("h2", "", title);
    html.within("ul", "", |html| items.iter().for_each(|item| html.element("li", "", item)));
}
