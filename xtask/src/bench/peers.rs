//! How does each server come here and start, privately, on loopback?

use std::fs;
use std::path::{Path, PathBuf};

use crate::tools::{Fault, Outcome, cargo, directory, is_installed, is_root, program, run, target, workspace, write};

/// All servers listen and relay at the same two ports; only one of them runs at a time.
pub const SERVER_PORT: u16 = 2525;
pub const SINK_PORT: u16 = 2526;
const MILTER_PORT: u16 = 2528;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Weir,
    WeirDkim,
    Postfix,
    PostfixOpendkim,
    Opensmtpd,
}

impl Server {
    pub const ALL: [Server; 5] =
        [Server::Weir, Server::Postfix, Server::Opensmtpd, Server::WeirDkim, Server::PostfixOpendkim];

    pub fn name(self) -> &'static str {
        match self {
            Server::Weir => "weir",
            Server::WeirDkim => "weir+dkim",
            Server::Postfix => "postfix",
            Server::PostfixOpendkim => "postfix+opendkim",
            Server::Opensmtpd => "opensmtpd",
        }
    }

    /// Debian's packages that make it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Server::Weir | Server::WeirDkim => &[],
            Server::Postfix => &["postfix"],
            Server::PostfixOpendkim => &["postfix", "opendkim"],
            Server::Opensmtpd => &["opensmtpd"],
        }
    }

    fn script(self) -> &'static str {
        match self {
            Server::Weir | Server::WeirDkim => "",
            Server::Postfix | Server::PostfixOpendkim => include_str!("postfix.sh"),
            Server::Opensmtpd => include_str!("opensmtpd.sh"),
        }
    }

    /// Weir's own configuration for this row.
    fn configuration(self) -> Option<PathBuf> {
        match self {
            Server::Weir => Some(workspace().join("examples/sink.toml")),
            Server::WeirDkim => Some(workspace().join("bench/configs/weir-dkim.toml")),
            Server::Postfix | Server::PostfixOpendkim | Server::Opensmtpd => None,
        }
    }

    /// Builds or unpacks it.
    pub fn prepare(self) -> Outcome<()> {
        if let Some(configuration) = self.configuration() {
            if !configuration.exists() {
                return Err(Fault(format!("there is no {}", configuration.display())));
            }
            return run(&mut cargo(["build", "--release", "--package", "weir", "--bin", "weir"]));
        }
        if !is_root() {
            return Err(Fault("the peers start in a mount namespace, which takes root".into()));
        }
        for tool in ["apt-get", "dpkg-deb", "unshare"] {
            if !is_installed(tool) {
                return Err(Fault(format!("{tool} is not installed")));
            }
        }
        unpack(self.packages(), &self.root())
    }

    /// The command that starts it with an empty queue, and the directory where that queue lies.
    pub fn command(self) -> Outcome<(Vec<String>, PathBuf)> {
        let state = target().join("bench/runs").join(self.name());
        if state.exists() {
            fs::remove_dir_all(&state).map_err(Fault::at(state.display()))?;
        }
        let state = directory(state)?;
        let words = match self.configuration() {
            Some(configuration) => {
                let binary = target().join("release/weir");
                vec![
                    text(&binary),
                    "serve".into(),
                    "--config".into(),
                    text(&configuration),
                    "--data".into(),
                    text(&state),
                ]
            }
            None => {
                let start = state.join("start.sh");
                write(&start, &self.whole_script(&state))?;
                vec!["unshare".into(), "--mount".into(), "sh".into(), text(&start)]
            }
        };
        Ok((words, state))
    }

    fn whole_script(self, state: &Path) -> String {
        let with_dkim = u8::from(self == Server::PostfixOpendkim);
        let settings = format!(
            "peer_root='{}'\npeer_run='{}'\nserver_port={SERVER_PORT}\nsink_port={SINK_PORT}\nmilter_port={MILTER_PORT}\nwith_dkim={with_dkim}\n",
            self.root().display(),
            state.display()
        );
        [&settings, include_str!("preamble.sh"), self.script()].concat()
    }

    fn root(self) -> PathBuf {
        target().join("bench/peers").join(self.name()).join("root")
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Downloads the packages with what the machine lacks of their dependencies, and unpacks them without installing: Postfix and
/// OpenSMTPD exclude each other, and no package's script shall start a service here.
fn unpack(packages: &[&str], root: &Path) -> Outcome<()> {
    let done = root.with_file_name("unpacked.txt");
    if done.exists() {
        return Ok(());
    }
    let archives = directory(root.with_file_name("archives/partial"))?;
    let archives = archives.parent().expect("it was made with one").to_owned();
    let options = ["--yes", "--no-install-recommends", "--download-only", "--reinstall", "install"];
    let download = || {
        let mut command = program("apt-get", ["-qq", "-o"]);
        command.arg(format!("Dir::Cache::archives={}", archives.display())).args(options).args(packages);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    };
    if download().is_err() {
        // The list of packages may be old, or not there yet.
        run(&mut program("apt-get", ["-qq", "update"]))?;
        download()?;
    }
    let root = directory(root.to_owned())?;
    for entry in fs::read_dir(&archives).map_err(Fault::at(archives.display()))? {
        let path = entry.map_err(Fault::at(archives.display()))?.path();
        if path.extension().is_some_and(|it| it == "deb") {
            run(program("dpkg-deb", ["--extract"]).arg(&path).arg(&root))?;
        }
    }
    write(&done, &packages.join("\n"))
}
