//! Which files a confined thread may open: by Landlock, where the kernel has it.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath,
    PathFd, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus,
    Scope,
};

use super::{Needs, SandboxError};

/// The newest rules that are asked for; older kernels enforce what they know of them.
const NEWEST: ABI = ABI::V6;
/// What is read for as long as tracing goes on.
const READ_ALWAYS: [&str; 2] = ["/proc", "/sys"];

/// The rules of one program.
#[derive(Debug)]
pub(super) struct Files {
    rules: Mutex<RulesetCreated>,
}

impl Files {
    pub(super) fn new(needs: &Needs) -> Result<Files, SandboxError> {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::AbstractUnixSocket)?
            .create()?;
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        for path in READ_ALWAYS.map(Path::new).into_iter().chain(paths(&needs.read)) {
            rules = allow(rules, path, read)?;
        }
        let write = AccessFs::ReadFile
            | AccessFs::ReadDir
            | AccessFs::WriteFile
            | AccessFs::MakeReg
            | AccessFs::RemoveFile
            | AccessFs::Truncate;
        for path in paths(&needs.write_in) {
            rules = allow(rules, path, write)?;
        }
        for path in paths(&needs.remove_in) {
            rules = allow(rules, path, AccessFs::RemoveFile.into())?;
        }
        Ok(Files { rules: Mutex::new(rules) })
    }

    /// Confines the calling thread. Returns whether the kernel can.
    pub(super) fn enter(&self) -> Result<bool, SandboxError> {
        let rules = self.rules.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rules = rules.try_clone().map_err(SandboxError::Descriptor)?;
        Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
    }
}

fn paths(list: &[PathBuf]) -> impl Iterator<Item = &Path> {
    list.iter().map(PathBuf::as_path)
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, SandboxError> {
    let file =
        PathFd::new(path).map_err(|source| SandboxError::Path { path: path.to_owned(), source })?;
    // Rights of folders mean nothing for a file.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
    Ok(rules.add_rule(PathBeneath::new(file, access))?)
}
