//! Every named setting of the allocators: its meaning, default and where the default comes from.
//!
//! The table below is the only place where a setting is declared. It makes the typed struct that
//! the allocators read, the list that people read, and the names that can be set by text.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

/// How sure the default of a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Seen in the source that is named.
    Read,
    /// Deduced; a hypothesis to vary.
    Infer,
    /// A choice of this model; no kernel has it.
    Model,
}

/// One setting as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingInfo {
    /// Its name.
    pub name: &'static str,
    /// What it decides, with units.
    pub meaning: &'static str,
    /// Present value, as text that [`Settings::set`] takes.
    pub value: String,
    /// Default value.
    pub default: String,
    /// Values it takes.
    pub values: &'static str,
    /// Where the default comes from.
    pub source: &'static str,
    /// How sure that is.
    pub certainty: Certainty,
}

/// A setting could not be set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingError {
    /// No such name.
    #[error("no setting is named {name:?}; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// Not a value of its type.
    #[error("setting {name}: expected {expected}, found {found:?}")]
    Value {
        /// Which setting.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        found: String,
    },
}

/// A type that a setting can have.
trait Value: Sized + ToString {
    const EXPECTED: &'static str;
    fn parse(text: &str) -> Option<Self>;
}

impl Value for u64 {
    const EXPECTED: &'static str = "a whole number of 0 or more";
    fn parse(text: &str) -> Option<u64> {
        text.parse().ok()
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "on or off (also true, false, 1, 0)";
    fn parse(text: &str) -> Option<bool> {
        match text {
            "on" | "true" | "1" => Some(true),
            "off" | "false" | "0" => Some(false),
            _ => None,
        }
    }
}

macro_rules! settings {
    ($($name:ident: $type:ty = $default:expr, $certainty:ident, $source:literal, $meaning:literal;)*) => {
        /// What the allocators are told; see [`Settings::list`] for meanings and sources.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $(#[doc = $meaning] pub $name: $type,)*
        }

        impl Default for Settings {
            fn default() -> Settings {
                Settings { $($name: $default,)* }
            }
        }

        impl Settings {
            /// All names, in the order of the table.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// Sets one by name.
            ///
            /// # Errors
            /// If there is no such setting, or the text is not a value of its type.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
                match name {
                    $(stringify!($name) => self.$name = parse(stringify!($name), value)?,)*
                    _ => return Err(SettingError::Unknown {
                        name: name.to_owned(),
                        known: Settings::NAMES.join(", "),
                    }),
                }
                Ok(())
            }

            /// All settings with their present values.
            #[must_use]
            pub fn list(&self) -> Vec<SettingInfo> {
                let default = Settings::default();
                vec![$(SettingInfo {
                    name: stringify!($name),
                    meaning: $meaning,
                    value: self.$name.to_string(),
                    default: default.$name.to_string(),
                    values: <$type as Value>::EXPECTED,
                    source: $source,
                    certainty: Certainty::$certainty,
                },)*]
            }
        }
    };
}

fn parse<T: Value>(name: &'static str, text: &str) -> Result<T, SettingError> {
    T::parse(text).ok_or_else(|| SettingError::Value {
        name,
        expected: T::EXPECTED,
        found: text.to_owned(),
    })
}

settings! {
    // Stock: values that the traced host tells. 0 means "as on the host".
    min_free_kbytes: u64 = 0, Read, "mm/page_alloc.c: min_free_kbytes",
        "vm.min_free_kbytes in KiB; 0: the traced host's, or the kernel's formula";
    watermark_scale_factor: u64 = 0, Read, "mm/page_alloc.c: watermark_scale_factor",
        "distance between watermarks in 1/10000 of a zone; 0: the traced host's, else 10";
    percpu_pagelist_high_fraction: u64 = 0, Read,
        "mm/page_alloc.c: percpu_pagelist_high_fraction",
        "fixes pcp->high at managed/fraction/cpus; 0: the traced host's, else auto-tuning";
    host_watermarks: bool = true, Model, "/proc/zoneinfo of the traced host",
        "take watermarks and lowmem reserves from the trace where it has them";
    // Stock: sysctls.
    watermark_boost: bool = true, Read, "mm/page_alloc.c: boost_watermark",
        "raise watermarks after a fallback into another type's pageblock";
    watermark_boost_factor: u64 = 15_000, Read, "mm/page_alloc.c: watermark_boost_factor",
        "largest boost in 1/10000 of the high watermark";
    defrag_mode: bool = false, Read, "mm/page_alloc.c: defrag_mode",
        "vm.defrag_mode: keep NOFRAGMENT until reclaim and compaction have failed";
    grouping: bool = true, Read, "mm/page_alloc.c: page_group_by_mobility_disabled",
        "group pages by mobility (off where a machine has too few pageblocks)";
    pcp_batch_scale_max: u64 = 5, Read, "CONFIG_PCP_BATCH_SCALE_MAX",
        "largest doubling of a per-CPU refill, and scale of a per-CPU drain";
    pcp_decay_interval_ms: u64 = 1000, Read, "mm/vmstat.c: sysctl_stat_interval",
        "virtual time between decays of per-CPU lists; 0 switches them off";
    highatomic_reserve: bool = true, Read, "mm/page_alloc.c: reserve_highatomic_pageblock",
        "reserve pageblocks for high-order atomic requests";
    // Stock: compaction.
    compaction: bool = true, Read, "mm/compaction.c",
        "compact directly when a high-order request fails";
    compaction_proactiveness: u64 = 20, Read, "mm/compaction.c: sysctl_compaction_proactiveness",
        "vm.compaction_proactiveness, 0 to 100; 0 switches proactive compaction off";
    extfrag_threshold: u64 = 500, Read, "mm/compaction.c: sysctl_extfrag_threshold",
        "fragmentation index in 1/1000 below which a failure is lack of memory";
    kcompactd_interval_ms: u64 = 500, Read, "mm/compaction.c: kcompactd",
        "virtual time between checks of the proactive compactor; 0 switches it off";
    compact_unevictable: bool = true, Read, "mm/compaction.c: compact_unevictable_allowed",
        "mlocked pages may migrate (they are not told apart in a trace)";
    // The model's own reclaim: the kernel's reclaim is in the trace already.
    direct_reclaim: bool = true, Model, "reclaim beyond what the trace shows",
        "drop file pages when a request that may reclaim would fail otherwise";
    kswapd_reclaim: bool = false, Model, "the kernel's own background reclaim is in the trace",
        "reclaim in the background up to the high watermark once the low one is passed";
    reclaim_movable: bool = true, Model, "most pages seen allocated are not known to be file or anon",
        "reclaim may also take movable pages of unknown kind, after file pages";
    swap: bool = false, Model, "swap is off on most hosts with 1 GiB pages",
        "reclaim may also take anonymous pages, last";
}

impl fmt::Display for SettingInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} (default {}): ", self.name, self.value, self.default)?;
        write!(f, "{} [{:?}: {}]", self.meaning, self.certainty, self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_takes_its_own_value_back() {
        let mut settings = Settings::default();
        for info in Settings::default().list() {
            settings.set(info.name, &info.value).unwrap();
            assert_eq!(info.value, info.default);
        }
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.list().len(), Settings::NAMES.len());
    }

    #[test]
    fn a_set_value_is_listed() {
        let mut settings = Settings::default();
        settings.set("extfrag_threshold", "700").unwrap();
        settings.set("defrag_mode", "on").unwrap();
        assert_eq!((settings.extfrag_threshold, settings.defrag_mode), (700, true));
        let info = settings.list().into_iter().find(|i| i.name == "extfrag_threshold").unwrap();
        assert_eq!((info.value.as_str(), info.default.as_str()), ("700", "500"));
    }

    #[test]
    fn mistakes_name_what_exists() {
        let mut settings = Settings::default();
        let unknown = settings.set("defragmode", "1").unwrap_err().to_string();
        assert!(unknown.contains("defrag_mode"), "{unknown}");
        let value = settings.set("defrag_mode", "maybe").unwrap_err().to_string();
        assert!(value.contains("on or off") && value.contains("maybe"), "{value}");
    }
}
