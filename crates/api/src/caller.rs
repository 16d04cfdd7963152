//! Who is asking? A bearer key says who holds it, and what it is good for.

use crate::problem::Problem;
use crate::rate::Buckets;
use crate::trace::Tracer;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use control::{Actor, ActorKind, Office};
use engine::envelope::Route;
use engine::id::{AccountId, CredentialId, SubaccountId};
use engine::snapshot::{Credential, Holder, Scope};
use engine::time::Timestamp;
use mta::driver::Driver;
use mta::explain::Stories;
use mta::guarded::Guarded;
use mta::hidden::Hidden;
use mta::intake::{Intake, Right, Via, Visitor};
use mta::unmatched::Shelf;
use mta::visitor::check_scope;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, watch};

/// What the handlers need; one for all requests.
#[derive(Clone)]
pub struct Desk(pub Arc<DeskInner>);

pub struct DeskInner {
    pub intake: Intake,
    pub driver: Driver,
    pub stories: Stories,
    pub message_bytes_max: u64,
    /// What came back and belongs to no message.
    pub unmatched: Shelf,
    /// None: the house is run from a file alone.
    pub office: Option<Office>,
    /// How often each credential has called.
    pub calls: Mutex<Buckets>,
    /// From where wrong keys were shown.
    pub guarded: Arc<Guarded>,
    /// Who hears of events as they happen.
    pub followers: Followers,
    /// None: nobody collects traces.
    pub tracer: Option<Arc<Tracer>>,
}

/// Streams of events open at one time; each is a connection and a reader of the archive.
const FOLLOWERS_MAX: usize = 128;

/// Streams of events: so many at one time, and none when the house is closed. Cheap to clone.
#[derive(Clone)]
pub struct Followers {
    pub(crate) places: Arc<Semaphore>,
    pub(crate) closing: watch::Sender<bool>,
}

impl Default for Followers {
    fn default() -> Followers {
        Followers { places: Arc::new(Semaphore::new(FOLLOWERS_MAX)), closing: watch::Sender::new(false) }
    }
}

impl Followers {
    /// How many are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        FOLLOWERS_MAX.saturating_sub(self.places.available_permits())
    }

    /// What has no end of its own ends now.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl DeskInner {
    pub fn office(&self) -> Result<&Office, Problem> {
        self.office.as_ref().ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "no_control_plane",
                "This installation is run from its configuration file, which names the accounts itself; there is no control plane.",
                "Change the file; or take the accounts out of it, and they are kept in the database.",
            )
        })
    }
}

impl DeskInner {
    /// A wrong key or token was shown; after too many of them, that is the answer, and how long to wait. (G5)
    fn wrong(&self, peer: Option<IpAddr>, code: &'static str) -> Result<(), Problem> {
        let counted = peer.map_or(Ok(()), |peer| self.guarded.wrong_key(peer, self.intake.now()));
        self.intake.count_failed_sign_in(Via::Http, counted.as_ref().err().map_or(code, |refusal| refusal.code));
        Ok(counted?)
    }
}

impl std::ops::Deref for Desk {
    type Target = DeskInner;

    fn deref(&self) -> &DeskInner {
        &self.0
    }
}

/// Where a connection comes from; every request carries it.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Where the request comes from; none where that is not known.
pub struct Origin(pub Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Origin, Infallible> {
        Ok(Origin(parts.extensions.get::<Peer>().map(|peer| peer.0)))
    }
}

/// The key or token that was shown, good or not.
pub struct Shown(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Shown {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Shown, Infallible> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = value.and_then(|value| value.split_once(' '));
        let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        Ok(Shown(bearer.map(|(_, shown)| shown.trim().to_owned())))
    }
}

/// How the token of a session begins; a key begins otherwise.
const SESSION: &str = "weir_session_";

/// Who asks: the credential was good when the request came in. A person who is signed in has one for as long as the request takes.
#[derive(Clone, Debug)]
pub struct Caller {
    pub visitor: Visitor,
    credential: Arc<Credential>,
    actor: Actor,
}

impl Caller {
    /// Of the key or person.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.actor.id
    }

    /// As the control plane sees it.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Whether it is a key that was shown, and no person that is signed in.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.actor.kind == ActorKind::Key
    }

    fn of_key(visitor: Visitor, credential: Arc<Credential>) -> Caller {
        let id = credential.id.to_string();
        let actor = Actor {
            kind: ActorKind::Key,
            name: id.clone(),
            id,
            holder: credential.holder.clone(),
            scopes: credential.scopes.clone(),
            from: visitor.peer,
        };
        Caller { visitor, credential, actor }
    }

    fn of_person(actor: Actor, until: Timestamp) -> Caller {
        let right = match actor.account() {
            Some(own) if actor.scopes.contains(&Scope::Send) => Right::Account(own.clone()),
            _ => Right::Nothing,
        };
        let credential = Credential {
            id: CredentialId::new(&actor.id),
            holder: actor.holder.clone(),
            scopes: actor.scopes.clone(),
            networks: Vec::new(),
            expires_at: Some(until),
        };
        let visitor = Visitor { via: Via::Http, peer: actor.from, right };
        Caller { visitor, credential: Arc::new(credential), actor }
    }

    /// For the log.
    #[must_use]
    pub fn name(&self) -> &str {
        self.account().map_or("operator", AccountId::as_str)
    }

    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.credential.holder == Holder::Operator
    }

    /// None for the operator.
    #[must_use]
    pub fn account(&self) -> Option<&AccountId> {
        match &self.credential.holder {
            Holder::Operator => None,
            Holder::Account { account, .. } => Some(account),
        }
    }

    /// Where the credential is for one subaccount alone.
    #[must_use]
    pub fn subaccount(&self) -> Option<&SubaccountId> {
        match &self.credential.holder {
            Holder::Operator => None,
            Holder::Account { subaccount, .. } => subaccount.as_ref(),
        }
    }

    pub fn may(&self, scope: Scope) -> Result<(), Problem> {
        check_scope(&self.credential, scope).map_err(Problem::from)
    }

    /// R2.8: what tells of all tenants is for the operator.
    pub fn operates(&self, scope: Scope, what: &str) -> Result<(), Problem> {
        if self.is_operator() {
            return self.may(scope);
        }
        let detail = format!("{what} are shown to the operator.");
        Err(Problem::new(StatusCode::FORBIDDEN, "operator_only", detail, "Use the operator's key."))
    }

    /// Whether what belongs to this account and part of it may be shown to the caller.
    #[must_use]
    pub fn may_see(&self, account: &AccountId, subaccount: Option<&SubaccountId>) -> bool {
        match &self.credential.holder {
            Holder::Operator => true,
            Holder::Account { account: own, subaccount: part } => {
                own == account && (part.is_none() || part.as_ref() == subaccount)
            }
        }
    }

    /// What must not be read by the caller about a message of this route, that has left or tried to leave from these IPs too (R2.8).
    #[must_use]
    pub fn hidden(&self, desk: &Desk, route: Option<&Route>, elsewhere: impl IntoIterator<Item = IpAddr>) -> Hidden {
        let snapshot = desk.intake.snapshot();
        match route {
            _ if self.is_operator() => Hidden::default(),
            Some(route) => Hidden::of(Some(route), elsewhere, &snapshot),
            // What pool it was is not known at this moment: then it is not told either.
            None => Hidden::these(elsewhere, &snapshot),
        }
    }
}

impl FromRequestParts<Desk> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Caller, Problem> {
        // Looked at once a request.
        if let Some(known) = parts.extensions.get::<Caller>() {
            return Ok(known.clone());
        }
        let Ok(Shown(shown)) = Shown::from_request_parts(parts, desk).await;
        let shown = shown.ok_or_else(|| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "sign_in_first",
                "No key was given.",
                "Send the header “Authorization: Bearer KEY”.",
            )
        })?;
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
        if let Some(office) = desk.office.as_ref().filter(|_| shown.starts_with(SESSION)) {
            let (actor, session) = match office.actor_of_session(&shown, peer).await {
                Ok(known) => known,
                Err(refusal) if refusal.kind == control::Kind::Unknown => {
                    desk.wrong(peer, refusal.code)?;
                    return Err(refusal.into());
                }
                Err(refusal) => return Err(refusal.into()),
            };
            return Ok(Caller::of_person(actor, session.expires_at));
        }
        let visitor = Visitor { via: Via::Http, peer, right: Right::key(&shown) };
        let credential = match desk.intake.credential(&visitor) {
            Ok(credential) => credential,
            Err(refusal) if refusal.kind == mta::refusal::Kind::WrongSecret => {
                desk.wrong(peer, refusal.code)?;
                return Err(refusal.into());
            }
            Err(refusal) => return Err(refusal.into()),
        };
        Ok(Caller::of_key(visitor, credential))
    }
}
