//! Free blocks of one region by order and type, in each track.

use fragscope_replay::observe::FreeBlocks;
use fragscope_trace::page::Migratetype;
use ratatui::text::{Line, Span};

use super::blocks::TrackBlocks;
use super::{Context, numbers};
use crate::format::{count, cut, pages};

const ORDERS: usize = FreeBlocks::MAX_ORDER as usize + 1;

/// Columns of names, types, each order, and the sum.
#[derive(Clone, Copy)]
struct Widths {
    name: usize,
    kind: usize,
    order: usize,
    sum: usize,
}

const WIDE: Widths = Widths { name: 16, kind: 12, order: 6, sum: 10 };
const NARROW: Widths = Widths { name: 7, kind: 13, order: 5, sum: 8 };

impl Widths {
    fn total(self) -> usize {
        self.name + self.kind + ORDERS * self.order + self.sum
    }
}

/// A heading, and a line for each type of each track; nothing where there is no room for all
/// orders.
#[must_use]
pub fn lines(context: Context<'_>, tracks: &[TrackBlocks], width: usize) -> Vec<Line<'static>> {
    let Some(widths) = [WIDE, NARROW].into_iter().find(|w| w.total() <= width) else {
        return Vec::new();
    };
    if tracks.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![heading(context, widths)];
    for track in tracks {
        let style = context.theme.track(track.kind);
        let short = widths.name < WIDE.name;
        let name = numbers::track_name(track.kind, track.start, short);
        let mut name = Some(name);
        let mut lists = track.free_lists();
        if lists.is_empty() {
            lists.push((None, [0; ORDERS]));
        }
        for (kind, blocks) in lists {
            let name = name.take().unwrap_or_default();
            let name = Span::styled(format!("{name:<0$}", widths.name), style);
            lines.push(Line::from(vec![name, Span::raw(row(context, kind, &blocks, widths))]));
        }
    }
    lines
}

fn heading(context: Context<'_>, widths: Widths) -> Line<'static> {
    let first = widths.name + widths.kind;
    let title = cut("free blocks by order", first, context.theme.ellipsis());
    let orders: String = (0..ORDERS).map(|order| format!("{order:>0$}", widths.order)).collect();
    Line::from(vec![
        Span::styled(format!("{title:<first$}"), context.theme.strong()),
        Span::styled(format!("{orders}{:>1$}", "sum", widths.sum), context.theme.grey()),
    ])
}

fn row(
    context: Context<'_>,
    kind: Option<Migratetype>,
    blocks: &[u64; ORDERS],
    widths: Widths,
) -> String {
    let all: u64 = blocks.iter().enumerate().map(|(order, n)| n << order).sum();
    let kind = match kind {
        Some(kind) => kind.name(),
        None if all == 0 => "none free",
        None => "not known",
    };
    let kind = cut(kind, widths.kind - 1, context.theme.ellipsis());
    let number = |n: &u64| if *n == 0 { "-".to_owned() } else { count(*n) };
    let orders: String =
        blocks.iter().map(|n| format!("{:>1$}", number(n), widths.order)).collect();
    format!("{kind:<0$}{orders}{1:>2$}", widths.kind, pages(all), widths.sum)
}
