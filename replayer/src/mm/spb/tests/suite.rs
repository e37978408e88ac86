//! The suite that every allocator must pass.

use crate::mm::flavour::{Smp, Up};
use crate::mm::page_alloc::Mm;
use crate::mm::pcp::StockPcp;
use crate::mm::pcp_buddy::PcpBuddy;
use crate::mm::spb::Spb;
use crate::mm::stock::Stock;

crate::mm::testing::allocator_suite! {
    spb: Mm<Up, Spb<Up>, PcpBuddy<Up>>;
    spb_of_threads: Mm<Smp, Spb<Smp>, PcpBuddy<Smp>>;
    spb_with_stock_pcp: Mm<Up, Spb<Up>, StockPcp<Up>>;
    stock_with_pcp_buddy: Mm<Up, Stock, PcpBuddy<Up>>;
}
