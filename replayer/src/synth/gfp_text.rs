//! Allocation flags as people write them: `KERNEL|ACCOUNT|ZERO`.

use fragscope_trace::gfp::Gfp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Flags that a configuration spells out by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GfpText(pub Gfp);

const USER: Gfp = Gfp::KERNEL.union(Gfp::HARDWALL);
const HUGE_LIGHT: Gfp = Gfp::HIGHUSER_MOVABLE
    .union(Gfp::COMP)
    .union(Gfp::NOMEMALLOC)
    .union(Gfp::NOWARN)
    .difference(Gfp::DIRECT_RECLAIM)
    .difference(Gfp::KSWAPD_RECLAIM);

/// Combinations that the kernel names; one that contains another comes before it.
const COMBINATIONS: [(&str, Gfp); 13] = [
    ("TRANSHUGE", HUGE_LIGHT.union(Gfp::DIRECT_RECLAIM)),
    ("TRANSHUGE_LIGHT", HUGE_LIGHT),
    ("HIGHUSER_MOVABLE", Gfp::HIGHUSER_MOVABLE),
    ("HIGHUSER", USER.union(Gfp::HIGHMEM)),
    ("USER", USER),
    ("KERNEL_ACCOUNT", Gfp::KERNEL.union(Gfp::ACCOUNT)),
    ("KERNEL", Gfp::KERNEL),
    ("NOFS", Gfp::DIRECT_RECLAIM.union(Gfp::KSWAPD_RECLAIM).union(Gfp::IO)),
    ("NOIO", Gfp::DIRECT_RECLAIM.union(Gfp::KSWAPD_RECLAIM)),
    ("RECLAIM", Gfp::DIRECT_RECLAIM.union(Gfp::KSWAPD_RECLAIM)),
    ("ATOMIC", Gfp::ATOMIC),
    ("NOWAIT", Gfp::NOWAIT),
    ("none", Gfp::empty()),
];

impl GfpText {
    /// Reads names joined by `|`, with or without `GFP_` and `__GFP_`.
    ///
    /// # Errors
    /// Says which name is none, and what names there are.
    pub fn parse(text: &str) -> Result<GfpText, String> {
        let mut gfp = Gfp::empty();
        for name in text.split('|').map(str::trim).filter(|name| !name.is_empty()) {
            let short = name.trim_start_matches('_').trim_start_matches("GFP_");
            let combination = COMBINATIONS.iter().find(|(known, _)| *known == short);
            gfp |= combination
                .map(|(_, flags)| *flags)
                .or_else(|| Gfp::from_name(short))
                .ok_or_else(|| {
                    format!("no allocation flag is named {name:?}; there are: {}", known_names())
                })?;
        }
        Ok(GfpText(gfp))
    }

    /// The flags by name; combinations first.
    #[must_use]
    pub fn print(self) -> String {
        let mut left = self.0;
        let mut names = Vec::new();
        let named = COMBINATIONS.iter().find(|(_, flags)| left.contains(*flags));
        if let Some((name, flags)) = named.filter(|(_, flags)| !flags.is_empty()) {
            names.push(*name);
            left -= *flags;
        }
        names.extend(left.iter_names().map(|(name, _)| name));
        names.join("|")
    }
}

fn known_names() -> String {
    let flags = Gfp::all();
    let names = COMBINATIONS.iter().map(|(name, _)| *name);
    names.chain(flags.iter_names().map(|(name, _)| name)).collect::<Vec<_>>().join(", ")
}

impl Serialize for GfpText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.print())
    }
}

impl<'de> Deserialize<'de> for GfpText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GfpText, D::Error> {
        GfpText::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bits: u32) {
            let gfp = Gfp::from_bits_truncate(bits);
            prop_assert_eq!(GfpText::parse(&GfpText(gfp).print()), Ok(GfpText(gfp)));
        }
    }

    #[test]
    fn kernel_spelling_is_understood() {
        assert_eq!(GfpText::parse("GFP_KERNEL | __GFP_ZERO").unwrap().0.bits(), 0xdc0);
        assert_eq!(GfpText::parse("GFP_KERNEL_ACCOUNT").unwrap().0, Gfp::KERNEL | Gfp::ACCOUNT);
        assert!(GfpText::parse("KERNEL|FOO").unwrap_err().contains("\"FOO\""));
    }
}
