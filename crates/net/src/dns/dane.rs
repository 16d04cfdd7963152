//! Must a mail host prove itself by TLSA records (RFC 7672)?

use mail::address::Domain;
use mail::dane::Tlsa;

use super::{Dns, DnsFault, MxHost, Site, tlsa_name};

/// What the DNS obliges us to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dane {
    /// Nothing: the host has no records that a trusted validator vouches for.
    Absent,
    /// Speak to it only over TLS and if these records vouch for it; `names` are those that a certificate from an authority
    /// they name may bear. For `tls::Policy::Dane`.
    Records { records: Vec<Tlsa>, names: Vec<String> },
    /// It cannot be said now, and so nothing may be sent now (RFC 7672 2.1.2); in words.
    Later(String),
}

/// Looks up the records of one host of a domain's site. `port` is the one that will be dialled.
///
/// Only where MX and address records are secure: DANE promises nothing behind a look-up that anybody could have forged,
/// and servers of unsigned zones are known to fail at such questions (RFC 7672 2.2.1).
pub async fn dane_of(dns: &dyn Dns, domain: &Domain, site: &Site, host: &MxHost, port: u16) -> Dane {
    if !(site.secure && host.secure) {
        return Dane::Absent;
    }
    // RFC 7672 2.2.2: the name after aliases first, then the one in the MX record.
    let mut bases = vec![host.canonical.as_str(), host.name.as_str()];
    bases.dedup();
    for base in bases {
        match dns.tlsa(&tlsa_name(base, port)).await {
            Ok(answer) if answer.secure && !answer.records.is_empty() => {
                return Dane::Records { records: answer.records, names: reference_names(base, host, domain) };
            }
            Ok(_) | Err(DnsFault::NoData | DnsFault::NoSuchName) => {}
            Err(fault) => return Dane::Later(format!("the TLSA records of {base}: {fault}")),
        }
    }
    Dane::Absent
}

/// RFC 7672 3.2.2.
fn reference_names(base: &str, host: &MxHost, domain: &Domain) -> Vec<String> {
    let mut names = vec![base.to_owned()];
    for name in [host.name.as_str(), domain.as_str()] {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}
