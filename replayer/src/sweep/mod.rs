//! A grid of settings, replayed over recordings.
//!
//! Every axis is a list of choices; the grid is their product. Patches are switched off one group
//! at a time, beside a run with all of them on: an ablation, not a power set.

#[cfg(feature = "analysis")]
pub mod output;
pub mod run;
pub mod table;

use crate::mm::settings::{SettingError, Settings};

/// One point of the grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// What differs from the defaults, as `name=value`, in the order of the axes.
    pub changes: Vec<(String, String)>,
    /// All settings.
    pub settings: Settings,
}

impl Variant {
    /// Its changes in one word; `defaults` for none.
    #[must_use]
    pub fn name(&self) -> String {
        if self.changes.is_empty() {
            return "defaults".to_owned();
        }
        let parts = self.changes.iter().map(|(name, value)| format!("{name}={value}"));
        parts.collect::<Vec<_>>().join(" ")
    }
}

/// What the grid spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// Settings with the values that each takes.
    pub axes: Vec<(String, Vec<String>)>,
    /// Groups of patches, each switched off by itself.
    pub disabled: Vec<Vec<String>>,
}

impl Grid {
    /// All points, the first axis slowest.
    ///
    /// # Errors
    /// If there is no such setting, or a value does not fit it.
    pub fn variants(&self) -> Result<Vec<Variant>, SettingError> {
        let mut points: Vec<Vec<(String, String)>> = vec![Vec::new()];
        for (name, values) in &self.axes {
            points = extended(&points, values, |value| vec![(name.clone(), value.clone())]);
        }
        if !self.disabled.is_empty() {
            let mut groups = vec![Vec::new()];
            groups.extend(self.disabled.iter().cloned());
            points = extended(&points, &groups, |group| {
                group.iter().map(|patch| (patch.clone(), "off".to_owned())).collect()
            });
        }
        points.into_iter().map(variant).collect()
    }
}

/// Every point with every choice added.
fn extended<T>(
    points: &[Vec<(String, String)>],
    choices: &[T],
    changes: impl Fn(&T) -> Vec<(String, String)>,
) -> Vec<Vec<(String, String)>> {
    let with = |point: &Vec<(String, String)>, choice| [point.clone(), changes(choice)].concat();
    points
        .iter()
        .flat_map(|point| choices.iter().map(move |c| (point, c)))
        .map(|(p, c)| with(p, c))
        .collect()
}

fn variant(changes: Vec<(String, String)>) -> Result<Variant, SettingError> {
    let mut settings = Settings::default();
    for (name, value) in &changes {
        settings.set(name, value)?;
    }
    Ok(Variant { changes, settings })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let values = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect();
        Grid {
            axes: vec![
                ("reserve_divisor".to_owned(), values(&["16", "32"])),
                ("spb_index".to_owned(), values(&["linear", "hint", "bitmap"])),
            ],
            disabled: vec![values(&["p20"]), values(&["p21", "p27"])],
        }
    }

    #[test]
    fn a_grid_is_the_product_of_its_axes() {
        let variants = grid().variants().unwrap();
        assert_eq!(variants.len(), 2 * 3 * 3);
        let mut names: Vec<_> = variants.iter().map(Variant::name).collect();
        assert_eq!(names[0], "reserve_divisor=16 spb_index=linear");
        assert_eq!(names[17], "reserve_divisor=32 spb_index=bitmap p21=off p27=off");
        names.dedup();
        assert_eq!(names.len(), variants.len());
        assert!(
            !variants[17].settings.p21 && !variants[17].settings.p27 && variants[17].settings.p20
        );
    }

    #[test]
    fn no_axis_is_one_point() {
        let variants = Grid::default().variants().unwrap();
        assert_eq!((variants.len(), variants[0].name().as_str()), (1, "defaults"));
    }

    #[test]
    fn an_unknown_setting_is_named() {
        let grid = Grid { disabled: vec![vec!["p99".to_owned()]], ..Grid::default() };
        assert!(grid.variants().unwrap_err().to_string().contains("p99"));
    }
}
