//! The heaviest load on a page allocator that one thread can make: map memory, touch each 4 KiB
//! page, unmap it, again and again. Every page is one order-0 allocation and one free.
//!
//! ```text
//! storm [ROUNDS [MIB]]     12 rounds of 256 MiB by default
//! ```

use std::error::Error;

use fragscope_agent::bpf::memory::touch_fresh_pages;
use fragscope_trace::page::PAGE_SIZE;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (rounds, mib) = (number(12)?, number(256)?);
    for _ in 0..rounds {
        touch_fresh_pages(mib << 20)?;
    }
    println!("{}", (rounds * (mib << 20)) as u64 / PAGE_SIZE);
    Ok(())
}
