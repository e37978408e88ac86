//! The heaviest load on a page allocator that one thread can make: map memory, touch each 4 KiB
//! page, unmap it, again and again. Every page is one order-0 allocation and one free.
//!
//! ```text
//! storm [ROUNDS [MIB]]     12 rounds of 256 MiB by default
//! ```

#![expect(unsafe_code, reason = "mmap and madvise")]

use std::error::Error;
use std::ptr::null_mut;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

const PAGE: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (rounds, mib) = (number(12)?, number(256)?);
    for _ in 0..rounds {
        round(mib << 20)?;
    }
    println!("{}", rounds * (mib << 20) / PAGE);
    Ok(())
}

pub(crate) fn round(bytes: usize) -> rustix::io::Result<()> {
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let at = unsafe { mmap_anonymous(null_mut(), bytes, rights, MapFlags::PRIVATE) }?;
    // SAFETY: the mapping just made; the advice changes no content.
    unsafe { madvise(at, bytes, Advice::LinuxNoHugepage) }?;
    for offset in (0..bytes).step_by(PAGE) {
        // SAFETY: inside the mapping, to which nothing else refers.
        unsafe { at.cast::<u8>().add(offset).write_volatile(1) };
    }
    // SAFETY: the mapping just made, to which no reference exists.
    unsafe { munmap(at, bytes) }
}
