//! How does xtask run other programs, and where does it put things?

use std::env;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What went wrong, as a sentence for the person at the terminal.
#[derive(Debug)]
pub struct Fault(pub String);

pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    pub fn at(what: impl Display) -> impl FnOnce(io::Error) -> Fault {
        move |fault| Fault(format!("{what}: {fault}"))
    }
}

pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the workspace").to_owned()
}

/// As cargo sees it.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(path) => workspace().join(path),
        None => workspace().join("target"),
    }
}

/// Creates the directory with all above it.
pub fn directory(path: PathBuf) -> Outcome<PathBuf> {
    fs::create_dir_all(&path).map_err(Fault::at(path.display()))?;
    Ok(path)
}

pub fn write(path: &Path, text: &str) -> Outcome<()> {
    fs::write(path, text).map_err(Fault::at(path.display()))
}

/// Cargo, in the workspace.
pub fn cargo<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(workspace());
    command
}

pub fn program<S: AsRef<OsStr>>(name: impl AsRef<OsStr>, words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(name);
    command.args(words).current_dir(workspace());
    command
}

/// Says what it runs, runs it, and is content only with success.
pub fn run(command: &mut Command) -> Outcome<()> {
    let words = shown(command);
    eprintln!("+ {words}");
    let status = command.status().map_err(Fault::at(&words))?;
    if status.success() { Ok(()) } else { Err(Fault(format!("{words}: {status}"))) }
}

/// What the command prints; `None` when it fails or is not there.
pub fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a program of this name is on the PATH.
pub fn is_installed(name: &str) -> bool {
    let paths = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&paths).any(|path| path.join(name).is_file())
}

pub fn is_root() -> bool {
    answer(&mut program("id", ["-u"])).as_deref() == Some("0")
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
