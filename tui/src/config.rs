//! The configuration file: keys, colours, and what else stays the same from day to day.
//!
//! TOML. Where it is looked for: `--config`, else `fragscope/config.toml` below
//! `$XDG_CONFIG_HOME` or `~/.config`. Arguments and `NO_COLOR` go before it.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use ratatui::style::Color;
use serde::Deserialize;

use crate::input::command::{COMMANDS, named};
use crate::input::{Chord, KeyMap};
use crate::view::theme::{Palette, Theme};

/// What the file may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    mouse: bool,
    colour: bool,
    ascii: bool,
    colours: BTreeMap<String, String>,
    keys: BTreeMap<String, Vec<String>>,
}

impl Default for File {
    fn default() -> File {
        let (colours, keys) = Default::default();
        File { mouse: true, colour: true, ascii: false, colours, keys }
    }
}

/// What is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How things look.
    pub theme: Theme,
    /// Which key does what.
    pub keys: KeyMap,
    /// Whether the mouse is listened to.
    pub mouse: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config { theme: Theme::default(), keys: KeyMap::default(), mouse: true }
    }
}

impl Config {
    /// Reads the file at `path`, or the user's own if there is one.
    ///
    /// # Errors
    /// If a file that was asked for can't be read, or one says something that is not understood.
    pub fn load(path: Option<&Path>) -> Result<Config> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => match own_path().filter(|p| p.exists()) {
                Some(path) => path,
                None => return Ok(Config::default()),
            },
        };
        let name = path.display();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        Config::parse(&text).with_context(|| format!("in {name}"))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// If it says something that is not understood.
    pub fn parse(text: &str) -> Result<Config> {
        let file: File = toml::from_str(text).map_err(|e| anyhow!(e.to_string()))?;
        let mut config = Config { mouse: file.mouse, ..Config::default() };
        (config.theme.colour, config.theme.ascii) = (file.colour, file.ascii);
        for (name, text) in &file.colours {
            let colour = text.parse::<Color>().map_err(|_| bad_colour(text))?;
            *slot(&mut config.theme.palette, name)? = colour;
        }
        let mut wanted = Vec::new();
        for (name, keys) in &file.keys {
            let command = named(name).ok_or_else(|| unknown_command(name))?;
            let chords = keys.iter().map(|k| k.parse::<Chord>()).collect::<Result<Vec<_>, _>>()?;
            wanted.push((command.action, chords));
        }
        config.keys.rebind(&wanted)?;
        Ok(config)
    }
}

fn own_path() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(base.join("fragscope").join("config.toml"))
}

fn bad_colour(text: &str) -> anyhow::Error {
    anyhow!("`{text}` is no colour: expected a name (red, lightblue), #rrggbb, or 0 to 255")
}

fn unknown_command(name: &str) -> anyhow::Error {
    let known: Vec<&str> = COMMANDS.iter().map(|c| c.name).collect();
    anyhow!("`{name}` is no command that a key can do: expected one of {}", known.join(", "))
}

/// Names of the colours, what they mean, and where they are.
type Slot = (&'static str, &'static str, fn(&mut Palette) -> &mut Color);

const SLOTS: [Slot; 8] = [
    ("free", "obtainable now", |p| &mut p.free),
    ("movable", "obtainable by moving pages", |p| &mut p.movable),
    ("tainted", "tainted, and what is wrong", |p| &mut p.tainted),
    ("notable", "uncertain, or to be noticed", |p| &mut p.notable),
    ("grey", "not ours, and text of less weight", |p| &mut p.grey),
    ("kernel", "the kernel's track", |p| &mut p.kernel),
    ("stock", "the stock track", |p| &mut p.stock),
    ("spb", "the superpageblock track", |p| &mut p.spb),
];

fn slot<'a>(palette: &'a mut Palette, name: &str) -> Result<&'a mut Color> {
    match SLOTS.iter().find(|(known, ..)| *known == name) {
        Some((_, _, of)) => Ok(of(palette)),
        None => {
            let known: Vec<&str> = SLOTS.iter().map(|(known, ..)| *known).collect();
            bail!("`{name}` is nothing that has a colour: expected one of {}", known.join(", "))
        }
    }
}

/// A file that says what holds without one.
#[must_use]
pub fn default_text() -> String {
    let Config { mut theme, keys, mouse } = Config::default();
    let mut out = String::from("# fragscope's configuration: everything here is the default.\n\n");
    let mut put = |text: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = out.write_fmt(text);
    };
    put(format_args!("# Listen to the mouse (shift selects text then).\nmouse = {mouse}\n"));
    put(format_args!(
        "# Use colours; NO_COLOR turns them off as well.\ncolour = {}\n",
        theme.colour
    ));
    put(format_args!("# Only ASCII characters, as --ascii.\nascii = {}\n", theme.ascii));
    put(format_args!("\n# Names, \"#rrggbb\", or numbers from \"0\" to \"255\".\n[colours]\n"));
    for (name, meaning, of) in SLOTS {
        let colour = of(&mut theme.palette).to_string().to_lowercase();
        put(format_args!("{name} = \"{colour}\" # {meaning}\n"));
    }
    put(format_args!(
        "\n# Naming a command here replaces all its keys. \"^c\" is control and c.\n"
    ));
    put(format_args!("[keys]\n"));
    for command in &COMMANDS {
        let chords = keys.chords_of(command.action);
        let names: Vec<String> = chords.iter().map(|c| format!("{:?}", c.to_string())).collect();
        let help = command.help;
        put(format_args!("{} = [{}] # {help}\n", command.name, names.join(", ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Action;

    #[test]
    fn the_default_file_says_what_holds_without_one() {
        let text = default_text();
        assert_eq!(Config::parse(&text).expect("it is understood"), Config::default(), "{text}");
    }

    #[test]
    fn keys_and_colours_are_replaced() {
        let text =
            "mouse = false\n[colours]\nfree = \"#00ff7f\"\n[keys]\nquit = [\"^x\", \"f10\"]\n";
        let config = Config::parse(text).expect("it is understood");
        assert_eq!(config.theme.palette.free, Color::Rgb(0, 255, 127));
        assert_eq!(config.keys.chords_of(Action::Quit).len(), 2);
        assert_eq!(config.keys.key_of(Action::Quit).map(|c| c.to_string()), Some("^x".into()));
        assert!(!config.mouse);
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("[keys]\nfly = [\"f\"]", "`fly` is no command"),
            ("[keys]\nquit = [\"ctrl-alt-x\"]", "`ctrl-alt-x` is no key"),
            ("[keys]\nquit = [\"s\"]", "`s` is bound to both"),
            ("[keys]\nquit = []", "quit has no key"),
            ("[colours]\nfree = \"greenish\"", "`greenish` is no colour"),
            ("[colours]\nwater = \"blue\"", "`water` is nothing"),
            ("speed = 2", "unknown field `speed`"),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", Config::parse(text).expect_err(text));
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
