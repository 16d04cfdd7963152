//! What does the data plane need to know of verified domains?

use super::keys::signing;
use crate::dkim::{self, Algorithm, KeyState};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::seal::Sealer;
use crate::store::{Columns, Whose, rows};
use engine::id::AccountId;
use engine::snapshot::{DkimKey, SendingDomain};
use mail::address::Domain as DomainName;
use sqlx::AnyConnection;
use std::collections::BTreeMap;
use std::sync::Arc;

pub type SendingDomains = BTreeMap<DomainName, Arc<SendingDomain>>;

impl Office {
    /// The verified domains of one account, or of all, with their private keys: for the data plane alone.
    pub async fn sending_domains(&self, account: Option<&str>) -> Result<BTreeMap<AccountId, SendingDomains>, Refusal> {
        let mut conn = self.store().read().await?;
        sending_domains(&mut conn, self.sealer(), account.map_or(Whose::All, Whose::Of)).await
    }
}

struct Row {
    account: String,
    name: DomainName,
    return_path: Option<DomainName>,
    keys: Vec<KeyRow>,
}

struct KeyRow {
    id: String,
    selector: String,
    algorithm: Algorithm,
    state: KeyState,
    sealed: Vec<u8>,
}

macro_rules! select {
    ($of:literal) => {
        concat!(
            "SELECT d.account, d.name, CASE WHEN d.mail_from_good = 1 THEN d.mail_from END, \
             k.id, k.selector, k.algorithm, k.state, k.sealed \
             FROM domain d JOIN dkim_key k ON k.domain = d.id \
             WHERE d.verified_at IS NOT NULL AND k.state <> 'retired' AND k.sealed IS NOT NULL ",
            $of,
            " ORDER BY d.id, k.algorithm DESC, k.id DESC"
        )
    };
}

/// In one query, because at the start there are tens of thousands of keys.
pub(crate) async fn sending_domains(
    conn: &mut AnyConnection,
    sealer: &Sealer,
    whose: Whose<'_>,
) -> Result<BTreeMap<AccountId, SendingDomains>, Refusal> {
    let query = whose.query(select!(""), select!("AND d.account = $1"));
    let mut out: BTreeMap<AccountId, SendingDomains> = BTreeMap::new();
    let mut open: Option<Row> = None;
    for row in rows(conn, query).await? {
        let (account, name) = (row.text(0)?, row.text(1)?);
        let key = KeyRow {
            id: row.text(3)?,
            selector: row.text(4)?,
            algorithm: Algorithm::of(&row.text(5)?),
            state: KeyState::of(&row.text(6)?),
            sealed: row.octets(7)?,
        };
        if let Some(open) = open.as_mut().filter(|open| open.account == account && open.name.as_str() == name) {
            open.keys.push(key);
            continue;
        }
        close(open.take(), sealer, &mut out);
        let Some(name) = super::stored(&name) else { continue };
        let return_path = row.text_or_none(2)?.and_then(|name| super::stored(&name));
        open = Some(Row { account, name, return_path, keys: vec![key] });
    }
    close(open, sealer, &mut out);
    Ok(out)
}

fn close(row: Option<Row>, sealer: &Sealer, out: &mut BTreeMap<AccountId, SendingDomains>) {
    let Some(row) = row else { return };
    let mut keys = Vec::new();
    for key in signing(&row.keys, |key| (key.algorithm, key.state)) {
        match sealer.open(&dkim::place(&key.id), &key.sealed) {
            Ok(pem) => keys.push(DkimKey { selector: key.selector.clone(), pem: pem.into() }),
            Err(fault) => {
                tracing::error!(domain = %row.name, selector = key.selector, %fault, "a DKIM key is not used");
            }
        }
    }
    // R1.4: a domain whose mail could not be signed sends none.
    if keys.is_empty() {
        tracing::error!(domain = %row.name, account = row.account, "a verified domain has no key to sign with");
        return;
    }
    let domain = SendingDomain { name: row.name.clone(), return_path: row.return_path, dkim: keys };
    out.entry(AccountId::new(&row.account)).or_default().insert(row.name, Arc::new(domain));
}
