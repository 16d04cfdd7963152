//! Where does all of it stand? The handle through which every surface reaches the control plane.

use crate::actor::Actor;
use crate::archive::Archive;
use crate::audit::{self, Entry};
use crate::door::Door;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::seal::Sealer;
use crate::store::Store;
use engine::id::RegionId;
use engine::schedule::Schedules;
use engine::time::Timestamp;
use mail::address::Domain;
use net::dns::Dns;
use net::dns::blocklist::BlockList;
use std::sync::Arc;

/// What an office stands on.
pub struct Setting {
    pub store: Store,
    /// Where events are kept.
    pub archive: Archive,
    pub sealer: Sealer,
    /// What time it is; a test moves it by hand.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// For the checks of domains and IPs.
    pub dns: Arc<dyn Dns>,
    /// Asked about every IP before it is leased.
    pub block_lists: Vec<BlockList>,
    /// The name this installation greets with; records that point here name it.
    pub host: String,
    /// Where bounces go to of domains without a MAIL FROM of their own; without one, the sender's own address stands.
    pub return_path: Option<Domain>,
    /// Where things belong that name no region.
    pub region: RegionId,
    /// By which IPs can warm up, and by which they do when nobody chose.
    pub schedules: Arc<Schedules>,
    pub schedule: Arc<str>,
}

/// Cheap to clone. What can be asked of it stands with the noun it is about: `impl Office` in `account`, `pool`, `lease` …
#[derive(Clone)]
pub struct Office(Arc<Setting>, Arc<Door>);

impl Office {
    #[must_use]
    pub fn new(setting: Setting) -> Office {
        Office(Arc::new(setting), Arc::default())
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    #[must_use]
    pub fn archive(&self) -> &Archive {
        &self.0.archive
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.0.sealer
    }

    pub(crate) fn door(&self) -> &Door {
        &self.1
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0.now)()
    }

    pub(crate) fn dns(&self) -> &dyn Dns {
        &*self.0.dns
    }

    pub(crate) fn block_lists(&self) -> &[BlockList] {
        &self.0.block_lists
    }

    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }

    pub(crate) fn return_path(&self) -> Option<&Domain> {
        self.0.return_path.as_ref()
    }

    #[must_use]
    pub fn home_region(&self) -> &RegionId {
        &self.0.region
    }

    #[must_use]
    pub fn schedules(&self) -> &Schedules {
        &self.0.schedules
    }

    pub(crate) fn schedule(&self) -> &Arc<str> {
        &self.0.schedule
    }

    /// Writes all that is in memory to its place and lets go of the files.
    pub async fn close(&self) {
        self.archive().close().await;
        self.store().close().await;
    }

    /// R7.6. An account sees the lines about itself.
    pub async fn audit(
        &self,
        by: &Actor,
        account: Option<&str>,
        subject: Option<&str>,
        window: &Window,
    ) -> Result<Page<Entry>, Refusal> {
        let own = by.account().map(|own| own.as_str().to_owned());
        let account = match (account, own) {
            (Some(account), _) => {
                by.may_read(account)?;
                Some(account.to_owned())
            }
            (None, Some(own)) => {
                by.may_read(&own)?;
                Some(own)
            }
            (None, None) => {
                by.may_watch()?;
                None
            }
        };
        let mut conn = self.store().read().await?;
        audit::list(&mut conn, account.as_deref(), subject, by.is_operator(), window).await
    }
}
