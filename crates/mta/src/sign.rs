//! Which keys sign for which domain?

use engine::snapshot::{SendingDomain, Snapshot};
use mail::address::Domain;
use mail::dkim::{DkimError, Signer};
use std::collections::HashMap;

/// The signers of every sending domain, ready for use: reading a private key costs more than signing with it.
#[derive(Debug, Default)]
pub struct Signers {
    by_domain: HashMap<Domain, Vec<Signer>>,
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the DKIM key {selector} of {domain}: {error}")]
pub struct KeyFault {
    pub domain: Domain,
    pub selector: String,
    pub error: DkimError,
}

impl Signers {
    /// The signers of a snapshot, and what is wrong with keys that cannot sign.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> (Signers, Vec<KeyFault>) {
        let mut faults = Vec::new();
        let mut by_domain = HashMap::new();
        for domain in &snapshot.domains {
            let mut signers = Vec::new();
            for key in &domain.dkim {
                let pem = String::from_utf8_lossy(&key.pem);
                match Signer::from_pem(&domain.name, &key.selector, &pem) {
                    Ok(signer) => signers.push(signer),
                    Err(error) => {
                        faults.push(KeyFault { domain: domain.name.clone(), selector: key.selector.clone(), error });
                    }
                }
            }
            by_domain.insert(domain.name.clone(), signers);
        }
        (Signers { by_domain }, faults)
    }

    #[must_use]
    pub fn for_domain(&self, domain: &SendingDomain) -> Vec<&Signer> {
        self.by_domain.get(&domain.name).map(|signers| signers.iter().collect()).unwrap_or_default()
    }
}
