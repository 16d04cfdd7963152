//! How does each server come here and start, privately, on loopback?

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tenant;
use crate::tools::{Fault, Outcome, directory, is_installed, is_root, program, run, target, workspace, write};

/// All servers listen and relay at the same two ports; only one of them runs at a time.
pub const SERVER_PORT: u16 = 2525;
pub const SINK_PORT: u16 = 2526;
/// What the generator sends from, and so what signs.
const SENDER_DOMAIN: &str = "bench.test";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Weir,
    WeirDkim,
    /// Submission over HTTP instead; the calls stay on their connections.
    WeirHttp,
    /// With a database, all events kept and counted, and webhooks that hear of them.
    WeirEvents,
    WeirDkimEvents,
    Postfix,
    PostfixOpendkim,
    Opensmtpd,
}

impl Server {
    pub const ALL: [Server; 8] = [
        Server::Weir,
        Server::WeirEvents,
        Server::WeirHttp,
        Server::Postfix,
        Server::Opensmtpd,
        Server::WeirDkim,
        Server::WeirDkimEvents,
        Server::PostfixOpendkim,
    ];

    /// Where messages are handed in over HTTP, and with which key; as in `examples/sink.toml`.
    pub fn http(self) -> Option<(&'static str, &'static str)> {
        (self == Server::WeirHttp).then_some(("127.0.0.1:8025", "sink-for-tryouts"))
    }

    pub fn name(self) -> &'static str {
        match self {
            Server::Weir => "weir",
            Server::WeirDkim => "weir+dkim",
            Server::WeirHttp => "weir+http",
            Server::WeirEvents => "weir+events",
            Server::WeirDkimEvents => "weir+dkim+events",
            Server::Postfix => "postfix",
            Server::PostfixOpendkim => "postfix+opendkim",
            Server::Opensmtpd => "opensmtpd",
        }
    }

    /// Debian's packages that make it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Server::Postfix => &["postfix"],
            Server::PostfixOpendkim => &["postfix", "opendkim"],
            Server::Opensmtpd => &["opensmtpd"],
            _ => &[],
        }
    }

    fn script(self) -> &'static str {
        match self {
            Server::Postfix | Server::PostfixOpendkim => include_str!("postfix.sh"),
            Server::Opensmtpd => include_str!("opensmtpd.sh"),
            _ => "",
        }
    }

    /// Whether webhooks hear of its mail.
    pub fn tells(self) -> bool {
        matches!(self, Server::WeirEvents | Server::WeirDkimEvents)
    }

    fn is_weir(self) -> bool {
        matches!(self, Server::Weir | Server::WeirDkim | Server::WeirHttp) || self.tells()
    }

    /// Weir's own configuration for this row: the example as it is, or with a signing domain and a fresh key, or with a database.
    fn configuration(self, state: &Path) -> Outcome<PathBuf> {
        let example = workspace().join("examples/sink.toml");
        match self {
            Server::WeirEvents => return tenant::prepare(state, None),
            Server::WeirDkimEvents => return tenant::prepare(state, Some(SENDER_DOMAIN)),
            Server::WeirDkim => {}
            _ => return Ok(example),
        }
        let key = state.join("dkim.pem");
        let domain = ["--domain", SENDER_DOMAIN, "--selector", "bench"];
        run(Command::new(target().join("release/weir")).args(["dkim", "generate", "--out"]).arg(&key).args(domain))?;
        let plain = fs::read_to_string(&example).map_err(Fault::at(example.display()))?;
        let signed = format!(
            "{plain}\n[[domain]]\nname = \"{SENDER_DOMAIN}\"\naccount = \"sink\"\n\n[[domain.dkim]]\nselector = \"bench\"\nkey = \"{}\"\n",
            key.display()
        );
        let file = state.join("weir-dkim.toml");
        write(&file, &signed)?;
        Ok(file)
    }

    /// Unpacks it; Weir is built with the bench.
    pub fn prepare(self) -> Outcome<()> {
        if self.is_weir() {
            return Ok(());
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
        let words = if self.is_weir() {
            let configuration = self.configuration(&state)?;
            let binary = target().join("release/weir");
            let data = state.join("data");
            vec![text(&binary), "serve".into(), "--config".into(), text(&configuration), "--data".into(), text(&data)]
        } else {
            let start = state.join("start.sh");
            write(&start, &self.whole_script(&state))?;
            vec!["unshare".into(), "--mount".into(), "sh".into(), text(&start)]
        };
        Ok((words, state))
    }

    fn whole_script(self, state: &Path) -> String {
        let with_dkim = u8::from(self == Server::PostfixOpendkim);
        let settings = format!(
            "peer_root='{}'\npeer_run='{}'\nserver_port={SERVER_PORT}\nsink_port={SINK_PORT}\nwith_dkim={with_dkim}\n",
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
