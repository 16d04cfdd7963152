//! Which configuration does the demo run on? One such as an operator would write, in a folder of its own.

use crate::commands::{Done, Failure};
use crate::world::Senders;
use aws_lc_rs::rand;
use mail::dkim::{KeyKind, generate};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where it listens if nobody else does.
const SMTP_USUAL: u16 = 2525;
const HTTP_USUAL: u16 = 8025;
const HOST: &str = "mail.weir.test";

/// A tenant with its secrets, made anew for each demo.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub account: &'static str,
    pub domain: &'static str,
    pub pool: Pool,
    pub user: String,
    pub password: String,
    pub key: String,
}

/// Three IPs, the last of them new: no provider knows it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub id: &'static str,
    pub kind: &'static str,
    first: u8,
}

const POOLS: [Pool; 2] =
    [Pool { id: "acme", kind: "dedicated", first: 1 }, Pool { id: "shared", kind: "shared", first: 4 }];

impl Pool {
    pub fn ips(self) -> [IpAddr; 3] {
        [0, 1, 2].map(|place| IpAddr::from([127, 0, 1, self.first + place]))
    }

    pub fn new_ip(self) -> IpAddr {
        self.ips()[2]
    }

    pub fn words(self, sender: &str) -> String {
        match self.kind {
            "dedicated" => format!("the pool of {sender}, which nobody else sends from"),
            _ => format!("the shared pool, which {sender} sends from"),
        }
    }
}

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

/// Everything that the configuration is written from.
pub struct Plan {
    pub tenants: [Tenant; 2],
    pub operator_key: String,
    keys: Vec<DkimKey>,
}

struct DkimKey {
    domain: &'static str,
    selector: &'static str,
    private_pem: String,
    record: String,
}

impl DkimKey {
    fn file(&self) -> String {
        format!("{}.{}.pem", self.selector, self.domain)
    }
}

impl Plan {
    pub fn make() -> Result<Plan, Failure> {
        let tenant = |account, domain, pool| -> Result<Tenant, Failure> {
            Ok(Tenant {
                account,
                domain,
                pool,
                user: account.to_owned(),
                password: secret()?,
                key: format!("{account}-{}", secret()?),
            })
        };
        let tenants = [tenant("acme", "acme.test", POOLS[0])?, tenant("example-shop", "example-shop.test", POOLS[1])?];
        let mut keys = Vec::new();
        for tenant in &tenants {
            for (selector, kind) in [("rsa", KeyKind::Rsa2048), ("ed", KeyKind::Ed25519)] {
                let pair = generate(kind)?;
                let (private_pem, record) = (pair.private_pem, pair.record);
                keys.push(DkimKey { domain: tenant.domain, selector, private_pem, record });
            }
        }
        Ok(Plan { tenants, operator_key: format!("operator-{}", secret()?), keys })
    }

    /// What the world has to know of those who send.
    pub fn senders(&self) -> Senders {
        let records = self.keys.iter();
        Senders {
            known: POOLS.iter().flat_map(|pool| pool.ips().into_iter().filter(|ip| *ip != pool.new_ip())).collect(),
            records: records
                .map(|key| (format!("{}._domainkey.{}", key.selector, key.domain), key.record.clone()))
                .collect(),
        }
    }

    /// Writes the keys that the file names into the folder.
    pub fn write_keys(&self, folder: &Path) -> Done {
        self.keys.iter().try_for_each(|key| write_private(&folder.join(key.file()), &key.private_pem))
    }

    /// Writes the file into the folder.
    pub fn write(&self, folder: &Path, dns: SocketAddr, delivery_port: u16, doors: Doors) -> Result<PathBuf, Failure> {
        let path = folder.join("weir.toml");
        write_private(&path, &self.text(dns, delivery_port, doors))?;
        Ok(path)
    }

    fn text(&self, dns: SocketAddr, delivery_port: u16, doors: Doors) -> String {
        let mut text = format!(
            r#"# The configuration of this demo; `weir serve` runs on such a file.
host = "{HOST}"

[[listener]]
address = "127.0.0.1:{}"
tls = "starttls"

[http]
address = "127.0.0.1:{}"
operator_key = "{}"

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
            self.operator_key,
            8 << 20,
        );
        for tenant in &self.tenants {
            self.write_tenant(tenant, &mut text);
        }
        for pool in POOLS {
            for ip in pool.ips() {
                let name = ip.to_string().replace('.', "-");
                let _ = write!(text, "\n[[ip]]\naddress = \"{ip}\"\nehlo = \"ip-{name}.weir.test\"\n");
            }
            let owner = self.tenants.iter().find(|tenant| tenant.pool == pool && pool.kind == "dedicated");
            let kind = match owner {
                Some(tenant) => format!("kind = \"standard\"\naccount = \"{}\"", tenant.account),
                None => "kind = \"shared\"".to_owned(),
            };
            let ips = pool.ips().map(|ip| format!("\"{ip}\"")).join(", ");
            let _ = write!(text, "\n[[pool]]\nid = \"{}\"\n{kind}\nips = [{ips}]\n", pool.id);
        }
        text
    }

    fn write_tenant(&self, tenant: &Tenant, text: &mut String) {
        let Tenant { account, domain, pool, user, password, key } = tenant;
        let _ = write!(text, "\n[[account]]\nid = \"{account}\"\n");
        if pool.kind == "dedicated" {
            let _ = writeln!(text, "default_pool = \"{}\"", pool.id);
        }
        let _ = write!(
            text,
            "\n[[credential]]\naccount = \"{account}\"\nuser = \"{user}\"\npassword = \"{password}\"\n\
             \n[[credential]]\naccount = \"{account}\"\nkey = \"{key}\"\n\
             \n[[domain]]\nname = \"{domain}\"\naccount = \"{account}\"\nreturn_path = \"bounces.{domain}\"\n"
        );
        for key in self.keys.iter().filter(|key| key.domain == *domain) {
            let _ = write!(text, "\n[[domain.dkim]]\nselector = \"{}\"\nkey = \"{}\"\n", key.selector, key.file());
        }
    }
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
