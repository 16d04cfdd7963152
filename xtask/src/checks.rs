//! Is this tree fit to be handed over?

use std::path::PathBuf;
use std::process::Command;

use crate::postgres::Postgres;
use crate::tools::{
    Fault, Outcome, answer, cargo, directory, is_installed, is_root, program, run, target, workspace, write,
};

/// Debian's packages that building and testing need, each with a program that shows it is there.
const PACKAGES: &[(&str, &str)] =
    &[("build-essential", "cc"), ("python3", "python3"), ("openssl", "openssl"), ("faketime", "faketime")];

/// What the tests check our messages and signatures with: other people's code, not ours.
const PYTHON_PACKAGES: &[&str] = &["dkimpy==1.1.8", "dnspython==2.9.2", "pynacl==1.6.2", "schemathesis==4.32.5"];

/// For the tests: the interpreter that has those packages.
const PYTHON_VARIABLE: &str = "WEIR_TEST_PYTHON";

/// For the tests: a server on which each of them makes a database of its own. To start one for each takes longer than most of them.
const POSTGRES_VARIABLE: &str = "WEIR_TEST_POSTGRES";
/// Where Debian's packages put PostgreSQL; its programs are not on the PATH.
const POSTGRES_PROGRAMS: &str = "/usr/lib/postgresql";
/// Read by Debian's package when it is installed.
const POSTGRES_SETTINGS: &str = "/etc/postgresql-common/createcluster.conf";

/// Formatting, lints, dependencies and walls.
pub fn check() -> Outcome<()> {
    format_and_lint()?;
    dependencies()?;
    run(&mut cargo(["test", "--quiet", "--package", "weir", "--test", "tidy"]))
}

/// Installs what the tests need, then checks, builds and runs them all. The runner's own lines are the last.
pub fn test() -> Outcome<()> {
    install_packages()?;
    let python = install_python_packages()?;
    format_and_lint()?;
    run(&mut cargo(["build", "--workspace", "--all-targets"]))?;
    let postgres = start_postgres()?;
    let tools = [(PYTHON_VARIABLE, python.display().to_string()), (POSTGRES_VARIABLE, postgres.url())];
    if answer(&mut cargo(["nextest", "--version"])).is_some() {
        // nextest does not run examples in the documentation; they come first, so that its summary is the end.
        run(cargo(["test", "--workspace", "--doc"]).envs(tools.clone()))?;
        run(cargo(["nextest", "run", "--workspace"]).envs(tools))
    } else {
        run(cargo(["test", "--workspace"]).envs(tools))
    }
}

/// Private, for this run; it ends with it, however it ends. Not below target: PostgreSQL's user may not reach the workspace of root.
fn start_postgres() -> Outcome<Postgres> {
    let folder = std::env::temp_dir().join(format!("weir-test-postgres-{}", std::process::id()));
    let server = Postgres::start(&folder).map_err(Fault)?;
    eprintln!("PostgreSQL for the tests: {}", server.url());
    Ok(server)
}

fn format_and_lint() -> Outcome<()> {
    run(&mut cargo(["fmt", "--all", "--check"]))?;
    run(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
}

/// Licences, sources and duplicates are known from what lies here; advisories must be fetched, and where they cannot be, nothing is
/// said about them. cargo-deny is used where it is: building it takes longer than all the rest.
fn dependencies() -> Outcome<()> {
    if answer(&mut cargo(["deny", "--version"])).is_none() {
        eprintln!(
            "UNCHECKED: licences, sources and advisories, because cargo-deny is not installed: cargo install cargo-deny --locked --version 0.20.2"
        );
        return Ok(());
    }
    run(&mut cargo(["deny", "check", "bans", "licenses", "sources"]))?;
    if let Err(Fault(why)) = run(&mut cargo(["deny", "fetch", "db"])) {
        eprintln!("UNCHECKED: advisories, because their database could not be fetched ({why})");
        return Ok(());
    }
    run(&mut cargo(["deny", "check", "advisories"]))
}

fn install_packages() -> Outcome<()> {
    let mut missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, shown_by)| !is_installed(shown_by)).map(|(name, _)| *name).collect();
    // Debian parts this from its interpreter.
    if answer(&mut program("python3", ["-c", "import ensurepip, venv"])).is_none() {
        missing.push("python3-venv");
    }
    let no_postgres = !has_postgres();
    if no_postgres {
        missing.push("postgresql");
    }
    if missing.is_empty() {
        eprintln!("Packages of the system: all there");
        return Ok(());
    }
    eprintln!("Packages of the system that are missing: {}", missing.join(" "));
    run(&mut as_root(&["apt-get", "update"]))?;
    if no_postgres {
        keep_from_starting()?;
    }
    let mut words = vec!["apt-get", "install", "--yes", "--no-install-recommends"];
    words.extend(missing);
    run(&mut as_root(&words))
}

fn has_postgres() -> bool {
    let versions = std::fs::read_dir(POSTGRES_PROGRAMS).into_iter().flatten().flatten();
    versions.into_iter().any(|version| version.path().join("bin/postgres").is_file())
}

/// The package would begin a database of its own and keep it running; the tests need its programs alone.
fn keep_from_starting() -> Outcome<()> {
    run(&mut as_root(&["apt-get", "install", "--yes", "--no-install-recommends", "postgresql-common"]))?;
    let line = format!(
        "grep -qs '^create_main_cluster' {POSTGRES_SETTINGS} || echo 'create_main_cluster = false' >> {POSTGRES_SETTINGS}"
    );
    run(&mut as_root(&["sh", "-c", &line]))
}

fn as_root(words: &[&str]) -> Command {
    let mut command = if is_root() {
        program(words[0], &words[1..])
    } else {
        program("sudo", [&["--preserve-env=DEBIAN_FRONTEND"], words].concat())
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// A virtual environment under target; made anew when the list has changed.
fn install_python_packages() -> Outcome<PathBuf> {
    let home = directory(target().join("test-tools"))?.join("python");
    let python = home.join("bin/python");
    let note = home.join("installed.txt");
    let wanted = PYTHON_PACKAGES.join("\n");
    if std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) && python.exists() {
        eprintln!("Packages of Python in {}: all there", home.display());
        return Ok(python);
    }
    run(program("python3", ["-m", "venv", "--clear"]).arg(&home))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(program(&python, pip).args(PYTHON_PACKAGES))?;
    write(&note, &wanted)?;
    Ok(python)
}

/// Runs one fuzz target, or each in turn, for so many seconds.
pub fn fuzz(words: &[String]) -> Outcome<()> {
    let mut seconds = 60;
    let mut chosen = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                let value = words.next().and_then(|value| value.parse().ok());
                seconds = value.ok_or_else(|| Fault("--seconds takes a number".into()))?;
            }
            name if !name.starts_with('-') && chosen.is_none() => chosen = Some(name.to_owned()),
            other => return Err(Fault(format!("fuzz does not know {other}"))),
        }
    }
    if !workspace().join("fuzz/Cargo.toml").exists() {
        return Err(Fault("there is no fuzz/Cargo.toml".into()));
    }
    if answer(&mut cargo(["fuzz", "--version"])).is_none() {
        run(&mut cargo(["install", "cargo-fuzz", "--locked", "--version", "0.13.2"]))?;
    }
    let listed = answer(&mut cargo(["fuzz", "list"])).ok_or_else(|| Fault("cargo fuzz list fails".into()))?;
    let targets: Vec<&str> = match &chosen {
        Some(name) if listed.lines().any(|line| line == name) => vec![name],
        Some(name) => {
            return Err(Fault(format!("no fuzz target {name}; there are: {}", listed.replace('\n', ", "))));
        }
        None => listed.lines().collect(),
    };
    for name in targets {
        // What is found goes into the first folder; the samples that some targets begin with are kept in another.
        let found = directory(workspace().join("fuzz/corpus").join(name))?;
        let samples = Some(workspace().join("fuzz/seeds").join(name)).filter(|folder| folder.is_dir());
        let mut command = cargo(["fuzz", "run", name]);
        command.arg(found).args(samples).args(["--", &format!("-max_total_time={seconds}")]);
        // The sanitizer flags are unstable; this lets the stable compiler of the workspace take them.
        run(command.env("RUSTC_BOOTSTRAP", "1"))?;
    }
    Ok(())
}
