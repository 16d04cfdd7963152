//! Where does a test's PostgreSQL come from? From the programs found on this machine, run privately in a folder of its own.
//!
//! The tests of the control plane, those of the whole house and `cargo xtask test` read this file: there is one way to start it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A test server is up within a second or two; on a machine under load it takes its time.
const START_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A server at work. It ends, and its folder goes, when this is dropped.
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    user: Option<(u32, u32)>,
    process: Option<Child>,
}

impl Postgres {
    /// In this folder, which is made, and must be one that PostgreSQL's own user can reach where root asks.
    pub fn start(folder: &Path) -> Result<Postgres, String> {
        let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let programs = installed
            .map(|entry| entry.path().join("bin"))
            .find(|programs| programs.join("postgres").exists())
            .ok_or("no PostgreSQL here: `cargo xtask test` installs it, or name a server in WEIR_TEST_POSTGRES")?;
        fs::create_dir_all(folder).map_err(|fault| format!("{}: {fault}", folder.display()))?;
        // PostgreSQL does not run as root.
        let user = postgres_user();
        if let Some((user, group)) = user {
            chown(folder, Some(user), Some(group)).map_err(|fault| format!("{}: {fault}", folder.display()))?;
        }
        let mut server = Postgres { programs, folder: folder.to_owned(), port: free_port()?, user, process: None };
        let mut make = server.command("initdb");
        make.args(["--auth=trust", "--username=weir", "--no-sync", "--encoding=UTF8", "--locale=C", "--pgdata"]);
        let made =
            make.arg(server.data()).stdout(Stdio::null()).status().map_err(|fault| format!("initdb: {fault}"))?;
        if !made.success() {
            return Err(format!("initdb: {made}"));
        }
        server.start_again()?;
        Ok(server)
    }

    /// Without the name of a database.
    pub fn url(&self) -> String {
        format!("postgres://weir@127.0.0.1:{}", self.port)
    }

    /// At once, as when its machine fails.
    #[allow(dead_code)] // Only some of the readers of this file stop it in between.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }

    /// On the same port, with what it had.
    pub fn start_again(&mut self) -> Result<(), String> {
        let port = self.port.to_string();
        let mut run = self.command("postgres");
        run.arg("-D").arg(self.data()).args(["-p", &port, "-h", "127.0.0.1", "-k", ""]);
        // A test's data need not outlive the machine.
        run.args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]);
        let process = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(process.map_err(|fault| format!("postgres: {fault}"))?);
        for _ in 0..START_WITHIN.as_millis() / LOOK_EVERY.as_millis() {
            let ready =
                Command::new(self.programs.join("pg_isready")).args(["-q", "-h", "127.0.0.1", "-p", &port]).status();
            if ready.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            // What is waited for is another program's start; it tells nobody when it is done.
            std::thread::park_timeout(LOOK_EVERY);
        }
        Err(format!("PostgreSQL did not start on port {port}"))
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir("/");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> Result<u16, String> {
    let probe = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    probe.map(|address| address.port()).map_err(|fault| format!("127.0.0.1: {fault}"))
}

/// The user that Debian's package makes, where this process may become another.
fn postgres_user() -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let passwd = fs::read_to_string("/etc/passwd").ok().filter(|_| is_root)?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
