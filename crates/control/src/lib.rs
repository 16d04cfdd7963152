//! Who may use what, and what became of it? The control plane.
//!
//! It owns accounts, IPs, leases, pools and the database. Down it sends one value, the `Snapshot`; up come `Event`s. It never touches a
//! queue or a socket of the mail path, and knows nothing of HTTP. Modules from the ground up; each uses only those above its line.

/// What do we tell a caller whose wish is not carried out?
pub mod refusal;
/// How do secrets lie in the database?
pub mod seal;
/// How is a table written and read as text?
pub mod csv;
/// By what is a thing called that has no name of its own?
pub mod id;
/// Which part of a long list is meant?
pub mod page;
/// Where does the control plane keep what it knows?
pub mod store;
mod schema;
/// How do many events lie in one row?
pub mod block;
/// In which blocks is something?
mod keys;
/// What came last?
pub mod tail;
/// What has happened, for as long as it is kept, and how is something found in it?
pub mod archive;
/// Who wants it, and may they?
pub mod actor;
/// Who did what, when, from where?
pub mod audit;
/// What may things be called?
mod name;
/// What is a good password, and how is one kept?
mod password;
/// Which six digits are shown at this moment?
mod totp;
/// Who knocks too often, and what is remembered of those who failed?
pub mod door;
/// Where does all of it stand?
pub mod office;
/// Which of its own limits can an operator move?
pub mod setting;
/// Was this call made before?
pub mod idempotency;
/// Where are there places to send from?
pub mod region;
/// Who are the tenants?
pub mod account;
/// Which services elsewhere take what finds no place?
pub mod relay;
/// What costs how much, since when?
pub mod price;
/// Which IPs send together, and for whom?
pub mod pool;
/// By what does an IP warm up, and what was ordered about it last?
pub mod warm_up;
/// Which IPs are there, and what may be done with each?
pub mod inventory;
/// What has gone wrong with an account or an IP, by what evidence, and where is it mended?
pub mod incident;
/// Who has an IP from when until when?
pub mod lease;
/// Is an IP fit to be sent from?
pub mod look;
/// Is an IP that is sent from on a block list, and what is done about it?
pub mod watch;
/// Which parts has an account?
pub mod subaccount;
/// What does an application send with?
pub mod configuration_set;
/// By which secrets are programs let in?
pub mod credential;
/// Who are the people, and what may each do?
pub mod person;
/// Who is signed in?
pub mod session;
/// With which keys is a domain's mail signed?
pub mod dkim;
/// From which domains may an account send?
pub mod domain;
/// Which single addresses has an account shown to be its own?
pub mod address;
/// To whom does an account send nothing any more?
pub mod suppression;
/// Who read lately?
pub mod active;
/// How much was sent, and what became of it?
pub mod statistics;
/// What do providers themselves say of our IPs and domains?
pub mod signal;
/// How are accounts, domains, pools and IPs doing?
pub mod reputation;
/// Among which others does a sender share IPs?
pub mod tier;
/// Who must be warned, and who must stop?
pub mod judge;
/// How does another pool do for a part of a set's mail?
pub mod drive;
/// What must the data plane be told?
pub mod publish;
/// How many IPs has a managed pool, how many does it need, and who decides?
pub mod managed;
/// What does an account owe for a month?
pub mod charge;
/// Which IPs is an account advised to have?
pub mod advice;
/// Who asked for what, and who answers?
pub mod case;
/// What did the data plane tell us?
pub mod ingest;
/// Who hears by mail of what happened?
pub mod letter;
/// What may who see of what has happened?
pub mod history;
/// Who is told of events as they happen, where, and how far?
pub mod webhook;
/// How does an installation begin?
pub mod install;

pub use actor::{Actor, ActorKind};
pub use office::Office;
pub use page::{Page, Window};
pub use refusal::{Kind, Refusal};
