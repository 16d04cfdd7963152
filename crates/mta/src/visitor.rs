//! Who is at the door, and by what right?
//!
//! A visitor shows a secret once and stays; what the secret is good for is looked up each time something is asked, in the snapshot of
//! that moment. So a credential that is taken back, runs out or changes its password is worth nothing from then on, also where a
//! session is open.

use crate::refusal::{Kind, Refusal};
use aws_lc_rs::{constant_time, digest};
use engine::id::{AccountId, SubaccountId};
use engine::snapshot::{Account, Credential, Digest, Holder, Scope, Sending, Snapshot, Standing};
use engine::time::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;

/// By which way a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Smtp,
    Http,
    /// Written by this service itself: notices to senders.
    Notice,
}

impl Via {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Via::Smtp => "smtp",
            Via::Http => "http",
            Via::Notice => "notice",
        }
    }
}

/// Who submits.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub via: Via,
    /// The address of the connection; none for the service itself.
    pub peer: Option<IpAddr>,
    pub right: Right,
}

/// What a visitor has shown.
#[derive(Clone)]
pub enum Right {
    Nothing,
    /// It comes from a network that is trusted with this account, or is the service itself.
    Account(AccountId),
    /// A user name, and the digest of the password.
    Login {
        user: Arc<str>,
        password: Digest,
    },
    /// The digest of a key.
    Key(Digest),
}

/// Digests are as good as what they are digests of, to who may guess.
impl std::fmt::Debug for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Right::Nothing => f.write_str("Nothing"),
            Right::Account(account) => write!(f, "Account({account})"),
            Right::Login { user, .. } => write!(f, "Login({user})"),
            Right::Key(_) => f.write_str("Key"),
        }
    }
}

impl Right {
    #[must_use]
    pub fn login(user: &str, password: &str) -> Right {
        Right::Login { user: user.into(), password: digest_of(password) }
    }

    #[must_use]
    pub fn key(shown: &str) -> Right {
        Right::Key(digest_of(shown))
    }
}

fn digest_of(secret: &str) -> Digest {
    digest::digest(&digest::SHA256, secret.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 octets")
}

/// Whose mail it is.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    pub id: &'a AccountId,
    pub account: &'a Account,
    /// A credential of a subaccount is for that one alone.
    pub subaccount: Option<&'a SubaccountId>,
}

impl Visitor {
    /// The service itself, for an account.
    #[must_use]
    pub fn notice(account: AccountId) -> Visitor {
        Visitor { via: Via::Notice, peer: None, right: Right::Account(account) }
    }

    /// For the log: whose credential it is, or would be.
    #[must_use]
    pub fn account<'a>(&'a self, snapshot: &'a Snapshot) -> Option<&'a AccountId> {
        let credential = match &self.right {
            Right::Nothing => return None,
            Right::Account(account) => return Some(account),
            Right::Login { user, .. } => &snapshot.logins.get(user)?.credential,
            Right::Key(digest) => snapshot.keys.get(digest)?,
        };
        match &credential.holder {
            Holder::Operator => None,
            Holder::Account { account, .. } => Some(account),
        }
    }

    /// The credential that was shown, if it is still good here and now.
    pub fn credential<'a>(&self, snapshot: &'a Snapshot, now: Timestamp) -> Result<&'a Arc<Credential>, Refusal> {
        let credential = match &self.right {
            Right::Nothing | Right::Account(_) => {
                let mend = "Sign in with a credential of an account.";
                return Err(Refusal::new(Kind::Unknown, "sign_in_first", (5, 7, 0), "Nobody is signed in.", mend));
            }
            Right::Key(digest) => snapshot.keys.get(digest).ok_or_else(|| {
                let mend = "Check it, or ask the operator for another.";
                Refusal::new(Kind::WrongSecret, "key_unknown", (5, 7, 8), "The key is not known here.", mend)
            })?,
            Right::Login { user, password } => {
                let refused = || {
                    Refusal::new(
                        Kind::WrongSecret,
                        "credentials_invalid",
                        (5, 7, 8),
                        "The user name or the password is wrong.",
                        "Check both, or ask the operator for new ones.",
                    )
                };
                let login = snapshot.logins.get(user).ok_or_else(refused)?;
                // Each is looked at, whichever fits: the time taken says nothing.
                let fitting = login.passwords.iter().filter(|own| same(own, password)).count();
                if fitting == 0 {
                    return Err(refused());
                }
                &login.credential
            }
        };
        if credential.is_over(now) {
            let mend = "Make a new one.";
            return Err(Refusal::new(
                Kind::Unknown,
                "credential_expired",
                (5, 7, 8),
                "The credential has run out.",
                mend,
            ));
        }
        if self.peer.is_none_or(|peer| !credential.is_good_from(peer)) {
            let from = self.peer.map_or_else(|| "here".to_owned(), |peer| peer.to_canonical().to_string());
            return Err(Refusal::new(
                Kind::Forbidden,
                "network_not_allowed",
                (5, 7, 1),
                format!("The credential is not good from {from}."),
                "Use it from one of its networks, or add this one to them.",
            ));
        }
        Ok(credential)
    }

    /// May it do this, and for whom?
    pub fn pass<'a>(&'a self, snapshot: &'a Snapshot, scope: Scope, now: Timestamp) -> Result<Pass<'a>, Refusal> {
        let (id, subaccount) = match &self.right {
            Right::Account(account) => (account, None),
            _ => {
                let credential = self.credential(snapshot, now)?;
                check_scope(credential, scope)?;
                match &credential.holder {
                    Holder::Operator => return Err(operator_cannot_send()),
                    Holder::Account { account, subaccount } => (account, subaccount.as_ref()),
                }
            }
        };
        let account = snapshot.accounts.get(id).ok_or_else(|| {
            let sentence = format!("The account {id} does not exist.");
            Refusal::new(Kind::Unknown, "account_unknown", (5, 7, 0), sentence, "Sign in with a credential of another.")
        })?;
        Ok(Pass { id, account, subaccount })
    }
}

pub fn check_scope(credential: &Credential, scope: Scope) -> Result<(), Refusal> {
    if credential.may(scope) {
        return Ok(());
    }
    let name = match scope {
        Scope::Send => "send",
        Scope::Read => "read",
        Scope::Manage => "manage",
    };
    Err(Refusal::new(
        Kind::Forbidden,
        "scope_missing",
        (5, 7, 1),
        format!("The credential {} lacks the scope {name}.", credential.id),
        format!("Use one that has the scope {name}, or add it."),
    ))
}

impl Pass<'_> {
    /// May its mail come in at all?
    pub fn may_submit(&self) -> Result<(), Refusal> {
        if let Standing::Paused { reason } = &self.account.standing {
            return Err(Refusal::new(
                Kind::Forbidden,
                "account_paused",
                (5, 7, 1),
                format!("The account {} is paused: {reason}.", self.id),
                "Mend the reason, and ask the operator to take it up again.",
            ));
        }
        match self.subaccount {
            Some(part) => self.may_submit_for(part),
            None => Ok(()),
        }
    }

    pub fn may_submit_for(&self, part: &SubaccountId) -> Result<(), Refusal> {
        match self.account.subaccounts.get(part) {
            Some(known) if known.sending == Sending::On => Ok(()),
            Some(_) => Err(sending_off("subaccount", part.as_str())),
            None => Err(Refusal::new(
                Kind::NotFound,
                "subaccount_unknown",
                (5, 7, 1),
                format!("The subaccount {part} does not exist."),
                "Name one that exists, or none.",
            )
            .at("subaccount")),
        }
    }
}

pub fn sending_off(what: &str, name: &str) -> Refusal {
    let sentence = format!("Sending is turned off for the {what} {name}.");
    Refusal::new(Kind::Forbidden, "sending_off", (5, 7, 1), sentence, format!("Turn it on, or use another {what}."))
}

fn operator_cannot_send() -> Refusal {
    Refusal::new(
        Kind::Forbidden,
        "operator_cannot_send",
        (5, 7, 1),
        "The operator's key sends no mail.",
        "Use a key of the account that sends.",
    )
}

fn same(one: &Digest, other: &Digest) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Right, Via, Visitor};
    use engine::id::{AccountId, CredentialId, SubaccountId};
    use engine::snapshot::{Account, Credential, Holder, Login, Scope, Sending, Snapshot, Standing, Subaccount};
    use engine::time::Timestamp;
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn visitor(right: Right) -> Visitor {
        Visitor { via: Via::Smtp, peer: Some([192, 0, 2, 9].into()), right }
    }

    fn credential(scopes: &[Scope], subaccount: Option<&str>) -> Credential {
        Credential {
            id: CredentialId::new("k1"),
            holder: Holder::Account { account: AccountId::new("ann"), subaccount: subaccount.map(SubaccountId::new) },
            scopes: scopes.iter().copied().collect(),
            networks: Vec::new(),
            expires_at: None,
        }
    }

    fn house() -> Snapshot {
        let mut snapshot = Snapshot::empty();
        let mut account = Account::default();
        account.subaccounts.insert(SubaccountId::new("shop"), Subaccount::default());
        let off = Subaccount { sending: Sending::Off, ..Subaccount::default() };
        account.subaccounts.insert(SubaccountId::new("blog"), off);
        Arc::make_mut(&mut snapshot.accounts).insert(AccountId::new("ann"), Arc::new(account));
        snapshot
    }

    fn add_key(snapshot: &mut Snapshot, key: &str, credential: Credential) {
        let Right::Key(digest) = Right::key(key) else { return };
        Arc::make_mut(&mut snapshot.keys).insert(digest, Arc::new(credential));
    }

    fn code(snapshot: &Snapshot, right: Right, scope: Scope, now: Timestamp) -> &'static str {
        let visitor = visitor(right);
        let pass = visitor.pass(snapshot, scope, now);
        pass.and_then(|pass| pass.may_submit()).err().map_or("yes", |refusal| refusal.code)
    }

    #[test]
    fn a_key_is_good_for_its_scopes_until_its_end_and_from_its_networks() {
        let mut snapshot = house();
        add_key(&mut snapshot, "sends", credential(&[Scope::Send], None));
        assert_eq!(code(&snapshot, Right::key("sends"), Scope::Send, NOW), "yes");
        assert_eq!(code(&snapshot, Right::key("sends"), Scope::Read, NOW), "scope_missing");
        assert_eq!(code(&snapshot, Right::key("Sends"), Scope::Send, NOW), "key_unknown");
        assert_eq!(code(&snapshot, Right::Nothing, Scope::Send, NOW), "sign_in_first");
        let end = NOW + Duration::from_secs(1);
        add_key(&mut snapshot, "ends", Credential { expires_at: Some(end), ..credential(&[Scope::Send], None) });
        assert_eq!(code(&snapshot, Right::key("ends"), Scope::Send, NOW), "yes");
        assert_eq!(code(&snapshot, Right::key("ends"), Scope::Send, end), "credential_expired");
        let networks = vec![([10, 0, 0, 0].into(), 8)];
        add_key(&mut snapshot, "inside", Credential { networks, ..credential(&[Scope::Send], None) });
        assert_eq!(code(&snapshot, Right::key("inside"), Scope::Send, NOW), "network_not_allowed");
        let operator = Credential { holder: Holder::Operator, ..credential(&[Scope::Send], None) };
        add_key(&mut snapshot, "operator", operator);
        assert_eq!(code(&snapshot, Right::key("operator"), Scope::Send, NOW), "operator_cannot_send");
    }

    // Two passwords while one takes the place of the other; a session that is open loses its right with its password.
    #[test]
    fn a_login_is_good_while_its_password_is() {
        let mut snapshot = house();
        let digest = |secret: &str| match Right::key(secret) {
            Right::Key(digest) => digest,
            _ => unreachable!(),
        };
        let credential = Arc::new(credential(&[Scope::Send], None));
        let login = Login { credential, passwords: vec![digest("old"), digest("new")] };
        Arc::make_mut(&mut snapshot.logins).insert("mailer".into(), Arc::new(login.clone()));
        let (old, new) = (Right::login("mailer", "old"), Right::login("mailer", "new"));
        assert_eq!(code(&snapshot, old.clone(), Scope::Send, NOW), "yes");
        assert_eq!(code(&snapshot, new.clone(), Scope::Send, NOW), "yes");
        assert_eq!(code(&snapshot, Right::login("mailer", "other"), Scope::Send, NOW), "credentials_invalid");
        assert_eq!(code(&snapshot, Right::login("nobody", "new"), Scope::Send, NOW), "credentials_invalid");
        let login = Login { passwords: vec![digest("new")], ..login };
        Arc::make_mut(&mut snapshot.logins).insert("mailer".into(), Arc::new(login));
        assert_eq!(code(&snapshot, old, Scope::Send, NOW), "credentials_invalid");
        assert_eq!(code(&snapshot, new, Scope::Send, NOW), "yes");
    }

    #[test]
    fn nothing_comes_in_for_who_is_paused_or_turned_off() {
        let mut snapshot = house();
        for (name, expected) in [("shop", "yes"), ("blog", "sending_off"), ("gone", "subaccount_unknown")] {
            add_key(&mut snapshot, name, credential(&[Scope::Send], Some(name)));
            assert_eq!(code(&snapshot, Right::key(name), Scope::Send, NOW), expected, "{name}");
        }
        let standing = Standing::Paused { reason: "complaints over 0.5 %".into() };
        let account = Account { standing, ..Account::default() };
        Arc::make_mut(&mut snapshot.accounts).insert(AccountId::new("ann"), Arc::new(account));
        assert_eq!(code(&snapshot, Right::key("shop"), Scope::Send, NOW), "account_paused");
        let trusted = visitor(Right::Account(AccountId::new("ann")));
        let refusal = trusted.pass(&snapshot, Scope::Send, NOW).unwrap().may_submit().unwrap_err();
        assert!(refusal.sentence.contains("complaints over 0.5 %"), "{refusal:?}");
        assert_eq!(refusal.to_reply().code, 550);
        Arc::make_mut(&mut snapshot.accounts).clear();
        assert_eq!(code(&snapshot, Right::key("shop"), Scope::Send, NOW), "account_unknown");
        let scopes: BTreeSet<Scope> = BTreeSet::new();
        assert!(!Credential { scopes, ..credential(&[], None) }.may(Scope::Send));
    }
}
