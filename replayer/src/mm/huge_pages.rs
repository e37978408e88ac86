//! Large tables on huge pages.
//!
//! The next operation's frame may be anywhere in a table of 16 bytes a frame, so with small pages
//! nearly every step also looks up a translation that the processor does not have at hand.

use rustix::mm::{Advice, madvise};

/// Smaller tables do not fill a few huge pages.
const LEAST_BYTES: usize = 8 << 20;

/// Asks the kernel to back a table by huge pages. A hint: where they are switched off, or none is
/// free, small pages serve.
#[expect(unsafe_code, reason = "advice about memory is given by address")]
pub(crate) fn advise<T>(table: &[T]) {
    let bytes = size_of_val(table);
    let page = rustix::param::page_size();
    let start = table.as_ptr().cast_mut().cast::<u8>();
    let before_page = start.align_offset(page);
    if bytes < LEAST_BYTES || before_page > bytes {
        return;
    }
    let whole = (bytes - before_page) / page * page;
    // SAFETY: `before_page + whole` is at most `bytes`, so the range lies in the table; the advice
    // changes neither what is in it nor who may use it.
    let _ = unsafe { madvise(start.add(before_page).cast(), whole, Advice::LinuxHugepage) };
}
