//! Credentials: the secrets by which programs are let in.

use super::words::{Time, words};
use super::{Answer, At, Call, created, found, gone, listed, told};
use crate::asked::{Body, IfMatch, Listed, Listing, given};
use crate::caller::Desk;
use control::Refusal;
use control::credential as theirs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(credentials, create_credential))
        .routes(routes!(credential, change_credential, revoke_credential))
        .routes(routes!(rotate_credential))
        .routes(routes!(credentials_of_account, create_credential_of_account))
        .routes(routes!(credential_of_account, change_credential_of_account, revoke_credential_of_account))
        .routes(routes!(rotate_credential_of_account))
}

words!(
    /// `api`: shown as a whole. `aws`: an access key id, and a secret that requests are signed with. `smtp`: a user name and a password.
    CredentialKind is theirs::CredentialKind { Api, Aws, Smtp }
);
words!(
    /// `send`: hand in mail. `read`: look at everything of the holder's. `manage`: change it.
    Scope is engine::snapshot::Scope { Send, Read, Manage }
);

#[derive(Serialize, ToSchema)]
pub struct Credential {
    id: String,
    /// None: the operator's.
    #[schema(required)]
    account: Option<String>,
    #[schema(required)]
    subaccount: Option<String>,
    kind: CredentialKind,
    name: String,
    /// The user name or access key id.
    #[schema(required)]
    login: Option<String>,
    scopes: Vec<Scope>,
    /// When not empty, it is good only from these.
    networks: Vec<String>,
    #[schema(required)]
    expires_at: Option<Time>,
    #[schema(required)]
    revoked_at: Option<Time>,
    /// While a new secret takes the place of an old one: until when the old one is good.
    #[schema(required)]
    overlap_until: Option<Time>,
    revision: i64,
    created_at: Time,
}

impl From<theirs::Credential> for Credential {
    fn from(credential: theirs::Credential) -> Credential {
        Credential {
            id: credential.id,
            account: credential.account,
            subaccount: credential.subaccount,
            kind: credential.kind.into(),
            name: credential.name,
            login: credential.login,
            scopes: credential.scopes.into_iter().map(Into::into).collect(),
            networks: credential.networks.iter().map(ToString::to_string).collect(),
            expires_at: credential.expires_at.map(Time),
            revoked_at: credential.revoked_at.map(Time),
            overlap_until: credential.overlap_until.map(Time),
            revision: credential.revision,
            created_at: Time(credential.created_at),
        }
    }
}

/// A credential with its secret, which is shown this once, by the name that programs have for it.
#[derive(Serialize, ToSchema)]
struct Shown {
    credential: Credential,
    /// Of `api`.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Of `aws`, with `secret_access_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_access_key: Option<String>,
    /// Of `aws`: the password for SMTP in each region, where the access key id is the user name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    smtp_passwords: BTreeMap<String, String>,
    /// Of `smtp`, with `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

impl From<theirs::Shown> for Shown {
    fn from(shown: theirs::Shown) -> Shown {
        let passwords = shown.smtp_passwords.into_iter();
        let mut view = Shown {
            credential: shown.credential.into(),
            key: None,
            access_key_id: None,
            secret_access_key: None,
            smtp_passwords: passwords.map(|(region, password)| (region, password.show().to_owned())).collect(),
            user: None,
            password: None,
        };
        let (login, secret) = (view.credential.login.clone(), Some(shown.secret.show().to_owned()));
        match view.credential.kind {
            CredentialKind::Api => view.key = secret,
            CredentialKind::Aws => (view.access_key_id, view.secret_access_key) = (login, secret),
            CredentialKind::Smtp => (view.user, view.password) = (login, secret),
        }
        view
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCredential {
    name: String,
    /// Without it, `api`.
    kind: Option<CredentialKind>,
    /// An `smtp` credential has `send` and nothing else.
    scopes: Vec<Scope>,
    /// Of this subaccount alone, by id or name.
    subaccount: Option<String>,
    /// Good only from these, such as 192.0.2.0/24.
    #[serde(default)]
    networks: Vec<String>,
    expires_at: Option<Time>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CredentialChange {
    name: Option<String>,
    scopes: Option<Vec<Scope>>,
    networks: Option<Vec<String>>,
    /// Null: never.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Time>)]
    expires_at: Option<Option<Time>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// For how long the old secret is good beside the new one, in seconds; 0 ends it at once. Without it, a day.
    overlap_s: Option<u64>,
}

async fn create(call: &Call, account: Option<String>, new: NewCredential) -> Answer {
    let new = theirs::NewCredential {
        kind: new.kind.unwrap_or(CredentialKind::Api).into(),
        account,
        subaccount: new.subaccount,
        name: new.name,
        scopes: new.scopes.into_iter().map(Into::into).collect(),
        networks: new.networks,
        expires_at: new.expires_at.map(|at| at.0),
    };
    let shown = call.office.create_credential(&call.by, new).await?;
    let (id, revision) = (shown.credential.id.clone(), shown.credential.revision);
    created(&["credentials", &id], Some(revision), Shown::from(shown))
}

async fn change(call: &Call, id: &str, revision: Option<i64>, to: CredentialChange) -> Answer {
    let to = theirs::CredentialChange {
        name: to.name,
        scopes: to.scopes.map(|scopes| scopes.into_iter().map(Into::into).collect()),
        networks: to.networks,
        expires_at: to.expires_at.map(|at| at.map(|at| at.0)),
        revision,
    };
    let credential = call.office.change_credential(&call.by, id, to).await?;
    found(credential.revision, Credential::from(credential))
}

async fn rotate(call: &Call, id: &str, rotation: &Rotation) -> Answer {
    let overlap = rotation.overlap_s.map(Duration::from_secs);
    told(Shown::from(call.office.rotate_credential(&call.by, id, overlap).await?))
}

/// The credential, where it is one of this account's.
async fn of_account(call: &Call, account: &str, id: &str) -> Result<theirs::Credential, Refusal> {
    let account = call.office.account(&call.by, account).await?;
    let credential = call.office.credential(&call.by, id).await?;
    if credential.account.as_ref() == Some(&account.id) {
        return Ok(credential);
    }
    Err(Refusal::not_found("credential", id))
}

/// The caller's own: of its account, or the operator's.
#[utoipa::path(get, path = "/credentials", responses((status = 200, body = Listed<Credential>)))]
async fn credentials(call: Call, list: Listing) -> Answer {
    listed(call.office.credentials(&call.by, None, &list.window).await?, Credential::from)
}

/// Make a credential of the caller's own. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/credentials", request_body = NewCredential, responses((status = 201, body = Shown)))]
async fn create_credential(call: Call, Body(new): Body<NewCredential>) -> Answer {
    create(&call, None, new).await
}

/// One credential, without its secret.
#[utoipa::path(get, path = "/credentials/{credential}", responses((status = 200, body = Credential)))]
async fn credential(call: Call, At([id]): At<1>) -> Answer {
    let credential = call.office.credential(&call.by, &id).await?;
    found(credential.revision, Credential::from(credential))
}

/// Change what a credential is good for.
#[utoipa::path(patch, path = "/credentials/{credential}", request_body = CredentialChange, responses((status = 200, body = Credential)))]
async fn change_credential(
    call: Call,
    At([id]): At<1>,
    IfMatch(revision): IfMatch,
    Body(to): Body<CredentialChange>,
) -> Answer {
    change(&call, &id, revision, to).await
}

/// Take a credential back, at once and for good. The list shows it for a while.
#[utoipa::path(delete, path = "/credentials/{credential}", responses((status = 204, description = "It is good no more")))]
async fn revoke_credential(call: Call, At([id]): At<1>) -> Answer {
    call.office.revoke_credential(&call.by, &id).await?;
    gone()
}

/// A new secret for a credential; the old one is good for a while beside it.
#[utoipa::path(post, path = "/credentials/{credential}/rotation", request_body = Rotation, responses((status = 200, body = Shown)))]
async fn rotate_credential(call: Call, At([id]): At<1>, Body(rotation): Body<Rotation>) -> Answer {
    rotate(&call, &id, &rotation).await
}

/// The account's credentials, oldest first.
#[utoipa::path(get, path = "/accounts/{account}/credentials", responses((status = 200, body = Listed<Credential>)))]
async fn credentials_of_account(call: Call, At([account]): At<1>, list: Listing) -> Answer {
    listed(call.office.credentials(&call.by, Some(&account), &list.window).await?, Credential::from)
}

/// Make a credential of the account's. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/accounts/{account}/credentials", request_body = NewCredential, responses((status = 201, body = Shown)))]
async fn create_credential_of_account(call: Call, At([account]): At<1>, Body(new): Body<NewCredential>) -> Answer {
    create(&call, Some(account), new).await
}

/// One credential, without its secret.
#[utoipa::path(get, path = "/accounts/{account}/credentials/{credential}", responses((status = 200, body = Credential)))]
async fn credential_of_account(call: Call, At([account, id]): At<2>) -> Answer {
    let credential = of_account(&call, &account, &id).await?;
    found(credential.revision, Credential::from(credential))
}

/// Change what a credential is good for.
#[utoipa::path(patch, path = "/accounts/{account}/credentials/{credential}", request_body = CredentialChange, responses((status = 200, body = Credential)))]
async fn change_credential_of_account(
    call: Call,
    At([account, id]): At<2>,
    IfMatch(revision): IfMatch,
    Body(to): Body<CredentialChange>,
) -> Answer {
    let known = of_account(&call, &account, &id).await?;
    change(&call, &known.id, revision, to).await
}

/// Take a credential back, at once and for good. The list shows it for a while.
#[utoipa::path(delete, path = "/accounts/{account}/credentials/{credential}", responses((status = 204, description = "It is good no more")))]
async fn revoke_credential_of_account(call: Call, At([account, id]): At<2>) -> Answer {
    let known = of_account(&call, &account, &id).await?;
    call.office.revoke_credential(&call.by, &known.id).await?;
    gone()
}

/// A new secret for a credential; the old one is good for a while beside it.
#[utoipa::path(post, path = "/accounts/{account}/credentials/{credential}/rotation", request_body = Rotation, responses((status = 200, body = Shown)))]
async fn rotate_credential_of_account(call: Call, At([account, id]): At<2>, Body(rotation): Body<Rotation>) -> Answer {
    let known = of_account(&call, &account, &id).await?;
    rotate(&call, &known.id, &rotation).await
}
