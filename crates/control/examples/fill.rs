//! A data folder with a town of tenants in it, for figures: so many accounts, credentials, pools, IPs, domains, suppressed addresses.
//!
//! `cargo run --release -p control --example fill -- DATA [ACCOUNTS] [CREDENTIALS] [SUPPRESSED]`
//!
//! The rows are written as they would stand after years of calls, in one transaction. `DATA/keys.txt` holds keys that may do
//! everything in an account of their own, one a line.

use aws_lc_rs::rand;
use control::archive::Archive;
use control::inventory::NewIps;
use control::office::Setting;
use control::seal::Sealer;
use control::store::{Location, Store};
use control::{Actor, Office, id};
use engine::id::RegionId;
use engine::time::Timestamp;
use mail::dkim::{KeyKind, generate};
use net::dns::{FixedAnswers, FixedDns};
use sqlx::{AnyConnection, Connection as _, Executor as _};
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const REGION: &str = "local";
const IPS: u32 = 5_000;
const POOLS_PER_ACCOUNT: u32 = 5;
const IPS_PER_LEASE: u32 = 4;
/// A fixed present, 2026-11-01: whatever is due later is due long after any measurement.
const NOW: i64 = 1_793_491_200_000_000;
const NEVER: i64 = NOW + 86_400_000_000 * 3_650;
const KEYS_SHOWN: u32 = 2_000;

type Done = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Done {
    let mut words = std::env::args().skip(1);
    let data = PathBuf::from(words.next().ok_or("which folder?")?);
    let mut number = |usual: u32| words.next().map_or(Ok(usual), |word| word.parse());
    let (accounts, credentials, suppressed) = (number(10_000)?, number(100_000)?, number(1_000_000)?);
    std::fs::create_dir_all(&data)?;
    let path = data.join("control.db");
    let sealer = Sealer::of_file(&data.join("master.key"))?;
    begin(&path, &sealer).await?;
    let mut conn = AnyConnection::connect(&format!("sqlite://{}", path.display())).await?;
    conn.execute("PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; BEGIN").await?;
    let mut town = Town { conn, sealer, keys: String::new() };
    town.accounts(accounts).await?;
    town.ips(accounts).await?;
    town.domains(accounts).await?;
    town.credentials(accounts, credentials).await?;
    town.suppressed(accounts, suppressed).await?;
    town.conn.execute("COMMIT").await?;
    town.conn.close().await?;
    std::fs::write(data.join("keys.txt"), town.keys)?;
    Ok(())
}

/// The schema, the region, and an IP in its shared pool.
async fn begin(path: &Path, sealer: &Sealer) -> Done {
    let office = Office::new(Setting {
        store: Store::open(&Location::Sqlite(path.to_owned())).await?,
        archive: Archive::beside(&Location::Sqlite(path.to_owned()))?,
        sealer: sealer.clone(),
        now: Arc::new(|| Timestamp(NOW)),
        dns: Arc::new(FixedDns::new(FixedAnswers::default(), None)),
        block_lists: Vec::new(),
        host: "weir.test".to_owned(),
        return_path: None,
        region: RegionId::new(REGION),
        schedules: Arc::default(),
        schedule: engine::schedule::DEFAULT.into(),
    });
    office.make_home().await?;
    let new = NewIps { addresses: vec!["127.0.0.1".into()], shared_pool: Some("shared".into()), ..NewIps::default() };
    office.add_ips(&Actor::command_line(), new).await?;
    office.store().close().await;
    Ok(())
}

struct Town {
    conn: AnyConnection,
    sealer: Sealer,
    keys: String,
}

fn account_id(number: u32) -> String {
    format!("acc_{number:026}")
}

fn pool_id(account: u32, pool: u32) -> String {
    format!("pool_{account:020}{pool:06}")
}

impl Town {
    async fn accounts(&mut self, accounts: u32) -> Done {
        for number in 0..accounts {
            let id = account_id(number);
            sqlx::query(
                "INSERT INTO account (id, name, plan, standing, senders, has_payment_method, revision, created_at) \
                 VALUES ($1, $2, 'standard', 'production', 'verified', 1, 1, $3)",
            )
            .bind(id.clone())
            .bind(format!("tenant {number}"))
            .bind(NOW)
            .execute(&mut self.conn)
            .await?;
            for pool in 0..POOLS_PER_ACCOUNT {
                sqlx::query(
                    "INSERT INTO pool (id, account, region, name, kind, is_default, revision, created_at) \
                     VALUES ($1, $2, $3, $4, 'standard', $5, 1, $6)",
                )
                .bind(pool_id(number, pool))
                .bind(id.clone())
                .bind(REGION)
                .bind(if pool == 0 { "default".to_owned() } else { format!("pool{pool}") })
                .bind(i64::from(pool == 0))
                .bind(NOW)
                .execute(&mut self.conn)
                .await?;
            }
            sqlx::query(
                "INSERT INTO configuration_set (id, account, name, pool, suppression, destinations, sending, reputation, \
                 revision, created_at) VALUES ($1, $2, 'letters', $3, 'null', '[]', 1, 1, 1, $4)",
            )
            .bind(format!("set_{number:026}"))
            .bind(id.clone())
            .bind(pool_id(number, 1))
            .bind(NOW)
            .execute(&mut self.conn)
            .await?;
        }
        Ok(())
    }

    /// Leased, four to an account, as far as they reach.
    async fn ips(&mut self, accounts: u32) -> Done {
        for number in 0..IPS {
            let account = number / IPS_PER_LEASE;
            if account >= accounts {
                break;
            }
            let address = format!("10.1.{}.{}", number / 250, 1 + number % 250);
            sqlx::query(
                "INSERT INTO lease (id, ip, account, origin, price_cents, started_at) VALUES ($1, $2, $3, 'grant', 2495, $4)",
            )
            .bind(format!("lease_{number:026}"))
            .bind(address.clone())
            .bind(account_id(account))
            .bind(NOW)
            .execute(&mut self.conn)
            .await?;
            sqlx::query(
                "INSERT INTO ip (address, region, bind, ehlo, state, state_since, pool, revision, created_at) \
                 VALUES ($1, $2, $1, $3, 'leased', $4, $5, 1, $4)",
            )
            .bind(address)
            .bind(REGION)
            .bind(format!("m{number}.weir.test"))
            .bind(NOW)
            .bind(pool_id(account, 0))
            .execute(&mut self.conn)
            .await?;
        }
        Ok(())
    }

    /// One a tenant. They all have the same RSA key, sealed for each: what differs costs nothing to read.
    async fn domains(&mut self, accounts: u32) -> Done {
        let pair = generate(KeyKind::Rsa2048)?;
        for number in 0..accounts {
            let (id, key) = (format!("dom_{number:026}"), format!("dkim_{number:026}"));
            sqlx::query(
                "INSERT INTO domain (id, account, name, token, verified_at, verified_by, mail_from_good, asked_at, checked_at, \
                 check_at, revision, created_at) VALUES ($1, $2, $3, $1, $4, 'dns', 0, $4, $4, $5, 1, $4)",
            )
            .bind(id.clone())
            .bind(account_id(number))
            .bind(format!("d{number}.test"))
            .bind(NOW)
            .bind(NEVER)
            .execute(&mut self.conn)
            .await?;
            let sealed = self.sealer.seal(&format!("dkim_key {key}"), pair.private_pem.as_bytes())?;
            sqlx::query(
                "INSERT INTO dkim_key (id, domain, selector, algorithm, origin, sealed, record, state, state_since, created_at) \
                 VALUES ($1, $2, 's1', 'rsa', 'made', $3, $4, 'active', $5, $5)",
            )
            .bind(key)
            .bind(id)
            .bind(sealed)
            .bind(pair.record.clone())
            .bind(NOW)
            .execute(&mut self.conn)
            .await?;
        }
        Ok(())
    }

    /// Of ten six are keys, three SMTP users, one an access key.
    async fn credentials(&mut self, accounts: u32, credentials: u32) -> Done {
        for number in 0..credentials {
            let (id, place) = (format!("cred_{number:026}"), format!("sec_{number:026}"));
            let account = account_id(number / 10 % accounts);
            let (kind, login, secret) = match number % 10 {
                0..=5 => ("api", None, id::secret("key")?),
                6..=8 => ("smtp", Some(format!("smtp_{number:016}")), secret()?),
                _ => ("aws", Some(format!("AKIA{number:016}")), id::access_secret()?),
            };
            if kind == "api" && number % 10 == 0 && number / 10 < KEYS_SHOWN {
                let _ = writeln!(self.keys, "{secret}");
            }
            sqlx::query(
                "INSERT INTO credential (id, account, kind, name, login, scopes, networks, revision, created_at) \
                 VALUES ($1, $2, $3, 'a credential', $4, 'send read manage', '', 1, $5)",
            )
            .bind(id.clone())
            .bind(account)
            .bind(kind)
            .bind(login)
            .bind(NOW)
            .execute(&mut self.conn)
            .await?;
            let sealed = if kind == "aws" { Some(self.sealer.seal(&place, secret.as_bytes())?) } else { None };
            sqlx::query(
                "INSERT INTO credential_secret (id, credential, digest, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(place)
            .bind(id)
            .bind(id::digest_of(&secret).to_vec())
            .bind(sealed)
            .bind(NOW)
            .execute(&mut self.conn)
            .await?;
        }
        Ok(())
    }

    async fn suppressed(&mut self, accounts: u32, suppressed: u32) -> Done {
        for number in 0..suppressed {
            sqlx::query(
                "INSERT INTO suppressed (account, address, stream, domain, reason, created_at, number) \
                 VALUES ($1, $2, '', 'somewhere.test', 'bounce', $3, $4)",
            )
            .bind(account_id(number % accounts))
            .bind(format!("reader{number}@somewhere.test"))
            .bind(NOW)
            .bind(i64::from(number) + 1)
            .execute(&mut self.conn)
            .await?;
        }
        let last = sqlx::query("UPDATE suppression_number SET number = $1").bind(i64::from(suppressed));
        last.execute(&mut self.conn).await?;
        Ok(())
    }
}

fn secret() -> Result<String, Box<dyn Error>> {
    let mut octets = [0u8; 12];
    rand::fill(&mut octets).map_err(|_| "this machine gives no randomness")?;
    Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}
