//! How does an installation begin? With a region, its shared pool, and an IP to send from.

use crate::actor::Actor;
use crate::inventory::NewIps;
use crate::office::Office;
use crate::refusal::Refusal;
use crate::region::{self, SHARED_POOL};
use crate::store::{number, q, row};
use net::interfaces::{self, Bound, Scope};
use std::net::IpAddr;

impl Office {
    /// Makes the home region where it is not there yet. What is there is left as it is.
    pub async fn make_home(&self) -> Result<(), Refusal> {
        let home = self.home_region().as_str();
        let mut conn = self.store().read().await?;
        if row(&mut conn, q!("SELECT id FROM region WHERE id = $1", home.to_owned())).await?.is_some() {
            return Ok(());
        }
        drop(conn);
        let mut change = self.store().change().await?;
        // Two may begin at once.
        if row(change.conn(), q!("SELECT id FROM region WHERE id = $1", home.to_owned())).await?.is_none() {
            region::create(&mut change, &Actor::service(), self.now(), home).await?;
        }
        change.commit().await
    }

    /// So that a new installation can send at once: its best address goes into the shared pool, where the inventory is empty.
    pub async fn add_first_ip(&self, by: &Actor) -> Result<Option<IpAddr>, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        if number(change.conn(), q!("SELECT COUNT(*) FROM ip")).await? > 0 {
            return Ok(None);
        }
        let Some(first) = interfaces::addresses().ok().and_then(|bound| best(&bound)) else { return Ok(None) };
        let new = NewIps {
            addresses: vec![first.to_string()],
            shared_pool: Some(SHARED_POOL.to_owned()),
            ..NewIps::default()
        };
        self.add_ips_in(&mut change, by, new).await?;
        change.commit().await?;
        Ok(Some(first))
    }
}

/// Public before private before loopback, and IPv4 first, because some providers have no IPv6 at all. A private IPv6 address comes
/// last: nobody translates it, so that nothing it sends finds its way.
fn best(bound: &[Bound]) -> Option<IpAddr> {
    let usable =
        bound.iter().filter(|bound| bound.up && bound.scope != Scope::LinkLocal && bound.scope != Scope::Reserved);
    let leads_nowhere = |bound: &Bound| bound.address.is_ipv6() && bound.scope != Scope::Public;
    usable
        .min_by_key(|bound| (leads_nowhere(bound), bound.scope, bound.address.is_ipv6(), bound.address))
        .map(|bound| bound.address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::best;
    use net::interfaces::{Bound, Scope};
    use std::net::IpAddr;

    #[test]
    fn the_first_ip_is_the_one_that_reaches_furthest() {
        let bound = |address: [u8; 4], up| {
            let address = IpAddr::from(address);
            Bound { interface: "eth0".into(), address, scope: Scope::of(address), up }
        };
        let (public, private, loopback) = ([8, 8, 4, 4], [10, 0, 0, 5], [127, 0, 0, 1]);
        let all = [bound(loopback, true), bound(private, true), bound(public, true)];
        assert_eq!(best(&all), Some(public.into()));
        assert_eq!(best(&all[..2]), Some(private.into()));
        assert_eq!(best(&[bound(loopback, true), bound(public, false)]), Some(loopback.into()));
        assert_eq!(best(&[bound([169, 254, 0, 1], true)]), None);
        let inner: IpAddr = "fd00::2".parse().unwrap();
        let inner = Bound { interface: "eth0".into(), address: inner, scope: Scope::of(inner), up: true };
        assert_eq!(best(&[inner.clone(), bound(loopback, true)]), Some(loopback.into()));
        assert_eq!(best(std::slice::from_ref(&inner)), Some(inner.address));
    }
}
