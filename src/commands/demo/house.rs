//! Which configuration does the demo run on? One such as an operator would write, in a folder of its own.

use crate::commands::{Done, Failure};
use crate::world::World;
use aws_lc_rs::rand;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where it listens if nobody else does.
const SMTP_USUAL: u16 = 2525;
const HTTP_USUAL: u16 = 8025;
pub const HOST: &str = "mail.weir.test";
/// Where complaints come back to.
const BACK: &str = "back.weir.test";
const BLOCK_LISTS: &str = "block-lists.toml";

/// The ports it listens on; 0 lets the kernel choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doors {
    smtp: u16,
    http: u16,
}

impl Doors {
    pub const ANY: Doors = Doors { smtp: 0, http: 0 };

    /// The usual ports, where they are free at this moment.
    pub fn usual() -> Doors {
        Doors { smtp: free_or_any(SMTP_USUAL), http: free_or_any(HTTP_USUAL) }
    }
}

/// Writes the file into the folder; `world` is what the house finds outside: the name server and the port that providers listen on.
pub fn write(folder: &Path, world: &World, doors: Doors) -> Result<PathBuf, Failure> {
    let path = folder.join("weir.toml");
    write_private(&folder.join(BLOCK_LISTS), "# No block list is in this world.\n")?;
    write_private(&path, &text(world.dns(), world.port, doors))?;
    Ok(path)
}

fn text(dns: SocketAddr, delivery_port: u16, doors: Doors) -> String {
    format!(
        r#"# The configuration of this demo; `weir serve` runs on such a file.
host = "{HOST}"

[[listener]]
address = "127.0.0.1:{}"
tls = "starttls"

[http]
address = "127.0.0.1:{}"

# Accounts, IPs, pools, domains and keys are in a database in the data folder.
[control]
block_lists = "{BLOCK_LISTS}"
# A program on this machine hears of what happens to acme's mail.
webhooks_allow_private = ["127.0.0.0/8"]

# What providers send back, and readers complain of, comes in here.
[returns]
address = "127.0.0.1:0"
domain = "{BACK}"
unsubscribe_origin = "https://{HOST}"

# Who follows a link of acme's newsletter comes by here.
[tracking]
address = "127.0.0.1:0"

[limits]
stop_s = 5

[spool]
segment_bytes = {}

# The providers of this demo and their name server are on loopback addresses.
[delivery]
port = {delivery_port}
allow_private = ["127.0.2.0/24"]
retry_minutes = [1, 2, 5]

[dns]
servers = ["{dns}"]
"#,
        doors.smtp,
        doors.http,
        8 << 20,
    )
}

/// The address that readers complain to.
pub fn feedback() -> String {
    format!("feedback@{BACK}")
}

/// A folder that is gone when the demo is.
pub struct Folder(PathBuf);

impl Folder {
    pub fn make() -> Result<Folder, Failure> {
        let path = std::env::temp_dir().join(format!("weir-demo-{}", secret()?));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|fault| Failure(format!("{} cannot be made: {fault}", path.display())))?;
        Ok(Folder(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(fault) = fs::remove_dir_all(&self.0) {
            eprintln!("weir: {} is left behind: {fault}", self.0.display());
        }
    }
}

/// Twelve characters that need no quoting anywhere.
fn secret() -> Result<String, Failure> {
    let mut octets = [0u8; 6];
    rand::fill(&mut octets).map_err(|_| Failure("this machine gives no randomness".to_owned()))?;
    Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}

fn free_or_any(port: u16) -> u16 {
    TcpListener::bind(("127.0.0.1", port)).map_or(0, |_| port)
}

fn write_private(path: &Path, text: &str) -> Done {
    use std::io::Write as _;
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    written
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|fault| Failure(format!("{} cannot be written: {fault}", path.display())))
}
