//! The configuration file of `serve`: each key is a flag without its dashes.
//!
//! What the file says is put before what was typed, and parsed with it: so a key knows the same
//! values as its flag, a new flag is a new key, and a flag that was typed wins. Lists in the file
//! stand for flags that may be given several times.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _};
use toml::{Table, Value};

use crate::cli::{Cli, Command, ConfigArgs, ServeArgs};

/// Read if it exists and no other is named.
pub(crate) const DEFAULT_PATH: &str = "/etc/fragscope/agent.toml";
/// The subcommand that has one.
const SUBCOMMAND: &str = "serve";
/// Flags that are no settings.
const NO_KEYS: [&str; 2] = ["config", "help"];
/// Permission bits of a file that others than its owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The arguments of `serve`: those typed, which `argv` begins with the program's name, and those of
/// the configuration file.
///
/// # Errors
/// If the file can't be read, or says what can't be typed either.
pub(crate) fn serve_args(argv: &[OsString]) -> Result<ServeArgs> {
    let typed = Cli::command().try_get_matches_from(argv)?;
    let typed = typed.subcommand_matches(SUBCOMMAND).context("not called to serve")?;
    let Some(path) = path_of(typed) else {
        return Ok(ServeArgs::from_arg_matches(typed)?);
    };
    let table = read(&path)?;
    let flags = flags(&table, typed).with_context(|| path.display().to_string())?;
    parse(argv, flags).with_context(|| path.display().to_string())
}

/// The file that was named, or the usual one.
fn path_of(typed: &ArgMatches) -> Option<PathBuf> {
    let named = typed.get_one::<PathBuf>("config").cloned();
    named.or_else(|| Some(PathBuf::from(DEFAULT_PATH)).filter(|path| path.exists()))
}

/// Reads a file that only root or this user can have written: it says who may follow.
fn read(path: &Path) -> Result<Table> {
    let named = || path.display().to_string();
    let metadata = fs::metadata(path).with_context(named)?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own || metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        bail!(
            "{}: others may write this file (user {}, mode {:04o}); chown root and chmod go-w it",
            path.display(),
            metadata.uid(),
            metadata.mode() & 0o7777
        );
    }
    fs::read_to_string(path).with_context(named)?.parse().with_context(named)
}

/// What would have been typed, but for what was.
fn flags(table: &Table, typed: &ArgMatches) -> Result<Vec<OsString>> {
    let mut flags = Vec::new();
    let known = settings();
    for (key, value) in table {
        let Some(setting) = known.iter().find(|arg| arg.get_long() == Some(key)) else {
            let keys: Vec<&str> = known.iter().filter_map(Arg::get_long).collect();
            bail!("unknown key `{key}`; known are {}", keys.join(", "));
        };
        let was_typed = typed.value_source(setting.get_id().as_str());
        if was_typed != Some(ValueSource::CommandLine) {
            flags.extend(flags_of(key, value, setting)?);
        }
    }
    Ok(flags)
}

fn flags_of(key: &str, value: &Value, setting: &Arg) -> Result<Vec<OsString>> {
    let typed = |text: &str| OsString::from(format!("--{key}={text}"));
    let one = |value: &Value| match value {
        Value::String(text) => Ok(typed(text)),
        Value::Integer(number) => Ok(typed(&number.to_string())),
        other => bail!("`{key}`: expected text or a whole number, found {}", other.type_str()),
    };
    match (value, setting.get_action()) {
        (Value::Boolean(true), ArgAction::SetTrue) => Ok(vec![format!("--{key}").into()]),
        (Value::Boolean(false), ArgAction::SetTrue) => Ok(Vec::new()),
        (_, ArgAction::SetTrue) => bail!("`{key}`: expected true or false"),
        (Value::Array(values), ArgAction::Append) => values.iter().map(one).collect(),
        (value, _) => Ok(vec![one(value)?]),
    }
}

/// Parses `argv` with `flags` put right after the subcommand.
fn parse(argv: &[OsString], flags: Vec<OsString>) -> Result<ServeArgs> {
    let at = argv.iter().position(|part| part == SUBCOMMAND).context("not called to serve")?;
    let (before, after) = argv.split_at(at + 1);
    let all = before.iter().cloned().chain(flags).chain(after.iter().cloned());
    let matches = Cli::command().try_get_matches_from(all)?;
    match Cli::from_arg_matches(&matches)?.command {
        Command::Serve(args) => Ok(args),
        _ => bail!("not called to serve"),
    }
}

/// The flags that can be keys.
fn settings() -> Vec<Arg> {
    let mut command = Cli::command();
    command.build();
    let serve = command.find_subcommand(SUBCOMMAND);
    let all = serve.into_iter().flat_map(clap::Command::get_arguments);
    let is_key = |arg: &&Arg| {
        arg.get_long().is_some_and(|long| !NO_KEYS.contains(&long)) && !arg.is_global_set()
    };
    all.filter(is_key).cloned().collect()
}

/// Runs the subcommand `config`.
pub(crate) fn run(args: &ConfigArgs) -> Result<ExitCode> {
    let text = if args.default {
        default_file()
    } else {
        let path = args.file.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        let argv = ["fragscope-agent", SUBCOMMAND, "--config"].map(OsString::from);
        let argv: Vec<_> = argv.into_iter().chain([path.as_os_str().to_owned()]).collect();
        serve_args(&argv)?;
        format!("{}: good\n", path.display())
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// A file that changes nothing and says what could be changed.
fn default_file() -> String {
    let mut text = format!(
        "# Settings of `fragscope-agent serve`; read from {DEFAULT_PATH} unless --config names\n\
         # another file. Each is a flag, too, and flags win. What is set here is what holds without.\n"
    );
    for setting in settings() {
        let help = setting.get_long_help().or(setting.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        let key = setting.get_long().unwrap_or_default();
        text.push('\n');
        for line in help.lines() {
            text.push_str(format!("# {line}").trim_end());
            text.push('\n');
        }
        text.push_str(&format!("# {key} = {}\n", default_of(&setting)));
    }
    text
}

/// A setting's default as a value of the file.
fn default_of(setting: &Arg) -> String {
    let default = setting.get_default_values().first();
    match (default.map(|value| value.to_string_lossy()), setting.get_action()) {
        (_, ArgAction::SetTrue) => "false".to_owned(),
        (_, ArgAction::Append) => "[]".to_owned(),
        (Some(number), _) if !number.starts_with('0') && number.parse::<u64>().is_ok() => {
            number.into_owned()
        }
        (text, _) => format!("\"{}\"", text.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::Address;

    fn args(file: &str, typed: &[&str]) -> Result<ServeArgs> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        fs::write(&path, file).unwrap();
        let named = ["fragscope-agent", "serve", "--config"].map(OsString::from);
        let argv: Vec<_> = named
            .into_iter()
            .chain([path.into_os_string()])
            .chain(typed.iter().map(OsString::from))
            .collect();
        serve_args(&argv)
    }

    fn error(file: &str) -> String {
        format!("{:#}", args(file, &[]).unwrap_err())
    }

    #[test]
    fn the_file_holds_unless_a_flag_says_otherwise() {
        let file = r#"
            listen = ["unix:/run/one", "tls:127.0.0.1:9469"]
            snapshot-every = "1m"
            max-clients = 3
            no-sandbox = true
        "#;
        let from_file = args(file, &[]).unwrap();
        assert_eq!(from_file.listen.len(), 2);
        assert_eq!(from_file.snapshot_every, Some(Duration::from_secs(60)));
        assert_eq!((from_file.max_clients, from_file.guard.no_sandbox), (3, true));
        let typed = args(file, &["--max-clients", "5", "--listen", "unix:/run/two"]).unwrap();
        assert_eq!((typed.max_clients, typed.listen), (5, vec![Address::Unix("/run/two".into())]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(error("listne = []").contains("unknown key `listne`; known are listen, "));
        assert!(error("max-clients = true").contains("whole number"));
        assert!(error("no-sandbox = 1").contains("true or false"));
        assert!(error("listen = [\"tcp:1.2.3.4:5\"]").contains("unix:PATH"));
        assert!(error("listen = ").contains("agent.toml"));
        assert!(error("config = \"x\"").contains("unknown key"));
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("mode 0620"), "{error}");
    }

    /// What the default file says holds without it, and every setting is in it.
    #[test]
    fn the_default_file_changes_nothing() {
        let text = default_file();
        let uncommented = text.lines().map(|line| match line.strip_prefix("# ") {
            // Settings without a default are shown as empty text.
            Some(setting) if setting.contains(" = ") && !setting.ends_with("\"\"") => setting,
            _ => line,
        });
        let said = args(&uncommented.collect::<Vec<_>>().join("\n"), &[]).unwrap();
        let without = args("", &[]).unwrap();
        let plain = |args: &ServeArgs| {
            let text = format!("{args:?}");
            let at = text.find("config: Some(").unwrap();
            let end = at + text[at..].find(')').unwrap();
            format!("{}{}", &text[..at], &text[end..])
        };
        assert_eq!(plain(&said), plain(&without));
        for setting in settings() {
            let key = format!("\n# {} = ", setting.get_long().unwrap());
            assert!(text.contains(&key), "{key}");
        }
    }
}
