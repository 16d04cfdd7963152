//! Who wants it, and may they?

use crate::refusal::Refusal;
use engine::id::{AccountId, SubaccountId};
use engine::snapshot::{Holder, Scope};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Who acts, as the audit log will name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub kind: ActorKind,
    /// The id of the person or credential; empty for the service itself.
    pub id: String,
    /// What a reader of the log knows them by.
    pub name: String,
    pub holder: Holder,
    pub scopes: BTreeSet<Scope>,
    pub from: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// The service itself: what was due.
    Service,
    /// On the machine, with the data folder at hand.
    CommandLine,
    Key,
    /// A signed-in person; owners may do what spends money or lets people in.
    Person {
        is_owner: bool,
    },
}

impl ActorKind {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            ActorKind::Service => "service",
            ActorKind::CommandLine => "command-line",
            ActorKind::Key => "key",
            ActorKind::Person { .. } => "person",
        }
    }
}

impl Actor {
    #[must_use]
    pub fn service() -> Actor {
        Actor::inside(ActorKind::Service, "the service")
    }

    #[must_use]
    pub fn command_line() -> Actor {
        Actor::inside(ActorKind::CommandLine, "the command line")
    }

    fn inside(kind: ActorKind, name: &str) -> Actor {
        let scopes = BTreeSet::from([Scope::Send, Scope::Read, Scope::Manage]);
        Actor { kind, id: String::new(), name: name.to_owned(), holder: Holder::Operator, scopes, from: None }
    }

    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.holder == Holder::Operator
    }

    #[must_use]
    pub fn account(&self) -> Option<&AccountId> {
        match &self.holder {
            Holder::Operator => None,
            Holder::Account { account, .. } => Some(account),
        }
    }

    #[must_use]
    pub fn subaccount(&self) -> Option<&SubaccountId> {
        match &self.holder {
            Holder::Operator => None,
            Holder::Account { subaccount, .. } => subaccount.as_ref(),
        }
    }

    /// Look at what is this account's. What is another's is as unknown as what is not there (R2.8).
    pub fn may_read(&self, account: &str) -> Result<(), Refusal> {
        self.must_be_of(account)?;
        self.must_have(Scope::Read)
    }

    /// Change what is this account's. A subaccount's credential changes nothing of the account.
    pub fn may_manage(&self, account: &str) -> Result<(), Refusal> {
        self.must_be_of(account)?;
        self.must_have(Scope::Manage)?;
        if self.subaccount().is_some() {
            return Err(Refusal::forbidden(
                "account_only",
                "A subaccount's credential cannot change this.",
                "Use a credential of the account itself.",
            ));
        }
        Ok(())
    }

    /// Look at what is this part of the account's; `None` is the account itself. A subaccount's credential sees its own part only.
    pub fn may_read_part(&self, account: &str, part: Option<&str>) -> Result<(), Refusal> {
        self.may_read(account)?;
        self.must_be_of_part(account, part)
    }

    /// As `may_manage`, where a subaccount's credential may change what is its own part's.
    pub fn may_manage_part(&self, account: &str, part: Option<&str>) -> Result<(), Refusal> {
        self.must_be_of(account)?;
        self.must_have(Scope::Manage)?;
        self.must_be_of_part(account, part)
    }

    fn must_be_of_part(&self, account: &str, part: Option<&str>) -> Result<(), Refusal> {
        match self.subaccount() {
            Some(own) if part != Some(own.as_str()) => Err(Refusal::not_found("account", account)),
            _ => Ok(()),
        }
    }

    /// Spend money, let people in, close the account.
    pub fn may_own(&self, account: &str) -> Result<(), Refusal> {
        self.may_manage(account)?;
        match self.kind {
            ActorKind::Person { is_owner: false } if !self.is_operator() => Err(Refusal::forbidden(
                "owner_only",
                "Only an owner of the account may do this.",
                "Ask an owner of the account.",
            )),
            _ => Ok(()),
        }
    }

    pub fn may_watch(&self) -> Result<(), Refusal> {
        self.must_be_operator()?;
        self.must_have(Scope::Read)
    }

    pub fn may_operate(&self) -> Result<(), Refusal> {
        self.must_be_operator()?;
        self.must_have(Scope::Manage)
    }

    fn must_be_operator(&self) -> Result<(), Refusal> {
        if self.is_operator() {
            return Ok(());
        }
        Err(Refusal::forbidden("operator_only", "Only the operator may do this.", "Ask who runs this installation."))
    }

    fn must_be_of(&self, account: &str) -> Result<(), Refusal> {
        match self.account() {
            Some(own) if own.as_str() != account => Err(Refusal::not_found("account", account)),
            _ => Ok(()),
        }
    }

    fn must_have(&self, scope: Scope) -> Result<(), Refusal> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let word = scope_word(scope);
        Err(Refusal::forbidden(
            "scope_missing",
            format!("This credential may not {word}."),
            format!("Use one with the scope {}.", scope_code(scope)),
        ))
    }
}

#[must_use]
pub fn scope_code(scope: Scope) -> &'static str {
    match scope {
        Scope::Send => "send",
        Scope::Read => "read",
        Scope::Manage => "manage",
    }
}

#[must_use]
pub fn scope_of(code: &str) -> Option<Scope> {
    [Scope::Send, Scope::Read, Scope::Manage].into_iter().find(|scope| scope_code(*scope) == code)
}

fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Send => "send mail",
        Scope::Read => "look at this",
        Scope::Manage => "change this",
    }
}

#[cfg(test)]
mod tests {
    use super::{Actor, ActorKind};
    use crate::refusal::Kind;
    use engine::id::{AccountId, SubaccountId};
    use engine::snapshot::{Holder, Scope};
    use std::collections::BTreeSet;

    fn key(account: &str, subaccount: Option<&str>, scopes: &[Scope]) -> Actor {
        let holder =
            Holder::Account { account: AccountId::new(account), subaccount: subaccount.map(SubaccountId::new) };
        let scopes: BTreeSet<Scope> = scopes.iter().copied().collect();
        Actor { kind: ActorKind::Key, id: "k".into(), name: "k".into(), holder, scopes, from: None }
    }

    // R2.8: another account is as unknown as none, whatever the key may do in its own.
    #[test]
    fn a_key_reaches_its_own_account_and_no_further() {
        let all = [Scope::Send, Scope::Read, Scope::Manage];
        let own = key("a", None, &all);
        assert!(own.may_read("a").is_ok() && own.may_manage("a").is_ok() && own.may_own("a").is_ok());
        for refusal in [own.may_read("b"), own.may_manage("b"), own.may_own("b")] {
            assert_eq!(refusal.map_err(|refusal| refusal.kind), Err(Kind::NotFound));
        }
        assert!(own.may_watch().is_err() && own.may_operate().is_err());
        let reader = key("a", None, &[Scope::Read]);
        assert!(reader.may_read("a").is_ok() && reader.may_manage("a").is_err());
        let part = key("a", Some("s"), &all);
        assert!(part.may_read("a").is_ok() && part.may_manage("a").is_err());
        assert!(part.may_read_part("a", Some("s")).is_ok() && part.may_manage_part("a", Some("s")).is_ok());
        for other in [None, Some("t")] {
            for refusal in [part.may_read_part("a", other), part.may_manage_part("a", other)] {
                assert_eq!(refusal.map_err(|refusal| refusal.kind), Err(Kind::NotFound));
            }
            assert!(own.may_read_part("a", other).is_ok() && own.may_manage_part("a", other).is_ok());
        }
        assert!(Actor::command_line().may_operate().is_ok() && Actor::command_line().may_manage("a").is_ok());
    }
}
