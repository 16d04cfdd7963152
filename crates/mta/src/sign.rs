//! Which keys sign for which domain?

use engine::snapshot::SendingDomain;
use mail::dkim::Signer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// With so many domains, those that have left the snapshot are looked for and dropped.
const DOMAINS_MIN: usize = 1_024;

/// The signers of sending domains. Reading a private key costs more than signing with it, so each is read once, when mail of its
/// domain first comes in: snapshots come many times a second, and most domains of most of them are the ones of before.
#[derive(Debug, Default)]
pub struct Signers(Mutex<Read>);

#[derive(Debug, Default)]
struct Read {
    /// By the address of the domain's value, which is held here and so is nobody else's.
    by_domain: HashMap<usize, (Arc<SendingDomain>, Arc<Vec<Signer>>)>,
    domains_max: usize,
}

impl Signers {
    /// The signers of this domain. A key that cannot be used is told once, and the others sign without it.
    #[must_use]
    pub fn of(&self, domain: &Arc<SendingDomain>) -> Arc<Vec<Signer>> {
        let key = Arc::as_ptr(domain).addr();
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, signers)) = read.by_domain.get(&key) {
            return signers.clone();
        }
        if read.by_domain.len() >= read.domains_max.max(DOMAINS_MIN) {
            read.by_domain.retain(|_, (domain, _)| Arc::strong_count(domain) > 1);
            read.domains_max = read.by_domain.len() * 2;
        }
        let signers = Arc::new(signers_of(domain));
        read.by_domain.insert(key, (domain.clone(), signers.clone()));
        signers
    }

    /// How many domains' signers are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_domain.len()
    }
}

fn signers_of(domain: &SendingDomain) -> Vec<Signer> {
    let signer = |key: &engine::snapshot::DkimKey| {
        let pem = String::from_utf8_lossy(&key.pem);
        Signer::from_pem(&domain.name, &key.selector, &pem)
            .inspect_err(|error| {
                tracing::error!(domain = %domain.name, selector = %key.selector, "a DKIM key cannot be used: {error}");
            })
            .ok()
    };
    domain.dkim.iter().filter_map(signer).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{DOMAINS_MIN, Signers};
    use engine::snapshot::{DkimKey, SendingDomain};
    use mail::address::Domain;
    use mail::dkim::{KeyKind, generate};
    use std::sync::Arc;

    fn domain(name: &str, dkim: Vec<DkimKey>) -> Arc<SendingDomain> {
        Arc::new(SendingDomain { name: Domain::parse(name).unwrap(), return_path: None, dkim })
    }

    #[test]
    fn a_key_is_read_once_and_a_broken_one_spoils_no_other() {
        let pem = generate(KeyKind::Ed25519).unwrap().private_pem;
        let good = DkimKey { selector: "s1".into(), pem: Arc::from(pem.as_bytes()) };
        let broken = DkimKey { selector: "s2".into(), pem: Arc::from(&b"no key"[..]) };
        let own = domain("a.test", vec![good, broken]);
        let signers = Signers::default();
        let first = signers.of(&own);
        assert_eq!(first.len(), 1);
        assert!(Arc::ptr_eq(&first, &signers.of(&own)));
        // The same domain with other keys is another value.
        assert!(signers.of(&domain("a.test", Vec::new())).is_empty());
    }

    #[test]
    fn what_has_left_is_not_held_for_ever() {
        let signers = Signers::default();
        let kept = domain("kept.test", Vec::new());
        drop(signers.of(&kept));
        for number in 0..DOMAINS_MIN * 3 {
            drop(signers.of(&domain(&format!("d{number}.test"), Vec::new())));
        }
        assert!(signers.held() <= DOMAINS_MIN + 1, "{}", signers.held());
    }
}
