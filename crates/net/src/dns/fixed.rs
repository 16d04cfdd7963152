//! What does the configuration say instead of the DNS?
//!
//! For domains that are delivered to a known place, for trials and for the demo. What no rule names is asked of the
//! next `Dns`; without a next one it does not exist.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mail::address::Domain;

use super::{
    AddressAnswer, Asked, CnameAnswer, Dns, DnsFault, Families, MxAnswer, PtrAnswer, TlsaAnswer, TxtAnswer,
    canonical_name, reverse_name,
};

/// A changed configuration makes a new `FixedDns`, so an answer need not age.
const VALID_FOR: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedAnswers {
    pub rules: Vec<FixedRule>,
}

/// What is said about one name, or about all names under one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedRule {
    /// `gmail.test`, or `*.test` for everything under it. The longest pattern that fits decides; an exact one before
    /// a `*`.
    pub pattern: String,
    /// Without any, the name is its own mail host (implicit MX). `(0, ".")` is a null MX.
    pub mx: Vec<(u16, String)>,
    /// The addresses of the name; and of the hosts in `mx` that no rule of their own names.
    pub addresses: Vec<IpAddr>,
    pub txt: Vec<String>,
    /// The name does not exist; the rest of the rule is not looked at.
    pub no_such: bool,
}

/// Answers from rules first.
pub struct FixedDns {
    answers: FixedAnswers,
    next: Option<Arc<dyn Dns>>,
}

impl FixedDns {
    pub fn new(answers: FixedAnswers, next: Option<Arc<dyn Dns>>) -> FixedDns {
        let rules = answers.rules.into_iter().map(canonical).collect();
        FixedDns { answers: FixedAnswers { rules }, next }
    }

    fn rule(&self, name: &str) -> Option<&FixedRule> {
        self.answers
            .rules
            .iter()
            .filter(|rule| fits(&rule.pattern, name))
            .max_by_key(|rule| (!rule.pattern.starts_with('*'), rule.pattern.len()))
    }

    /// The rule that says where `host` is: one that names it, or one that has it as mail host.
    fn address_rule(&self, host: &str) -> Option<&FixedRule> {
        let named = self.rule(host);
        if named.is_some_and(|rule| !rule.pattern.starts_with('*')) {
            return named;
        }
        let as_mail_host = |rule: &&FixedRule| rule.mx.iter().any(|(_, mx)| mx == host);
        self.answers.rules.iter().find(as_mail_host).or(named)
    }
}

fn canonical(mut rule: FixedRule) -> FixedRule {
    rule.pattern = canonical_name(&rule.pattern);
    for (_, host) in &mut rule.mx {
        *host = canonical_name(host);
    }
    rule
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        None => pattern == name,
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
    }
}

/// What a rule says about records of one kind.
fn said<T>(rule: &FixedRule, records: Vec<T>) -> Result<Vec<T>, DnsFault> {
    if rule.no_such {
        Err(DnsFault::NoSuchName)
    } else if records.is_empty() {
        Err(DnsFault::NoData)
    } else {
        Ok(records)
    }
}

impl Dns for FixedDns {
    fn mx<'a>(&'a self, domain: &'a Domain) -> Asked<'a, MxAnswer> {
        match (self.rule(domain.as_str()), &self.next) {
            (Some(rule), _) => {
                now(said(rule, rule.mx.clone()).map(|hosts| MxAnswer { hosts, secure: false, valid_for: VALID_FOR }))
            }
            (None, Some(next)) => next.mx(domain),
            (None, None) => now(Err(DnsFault::NoSuchName)),
        }
    }

    fn addresses<'a>(&'a self, host: &'a str, families: Families) -> Asked<'a, AddressAnswer> {
        let name = canonical_name(host);
        match (self.address_rule(&name), &self.next) {
            // A rule may name mail hosts without saying where they are.
            (Some(rule), Some(next)) if rule.addresses.is_empty() && !fits(&rule.pattern, &name) => {
                next.addresses(host, families)
            }
            (Some(rule), _) => {
                let mut addresses = rule.addresses.clone();
                addresses.retain(|address| families.includes(*address));
                now(said(rule, addresses).map(|addresses| AddressAnswer {
                    name,
                    addresses,
                    secure: false,
                    valid_for: VALID_FOR,
                }))
            }
            (None, Some(next)) => next.addresses(host, families),
            (None, None) => now(Err(DnsFault::NoSuchName)),
        }
    }

    fn txt<'a>(&'a self, name: &'a str) -> Asked<'a, TxtAnswer> {
        match (self.rule(&canonical_name(name)), &self.next) {
            (Some(rule), _) => now(said(rule, rule.txt.clone()).map(|texts| TxtAnswer { texts, valid_for: VALID_FOR })),
            (None, Some(next)) => next.txt(name),
            (None, None) => now(Err(DnsFault::NoSuchName)),
        }
    }

    fn tlsa<'a>(&'a self, name: &'a str) -> Asked<'a, TlsaAnswer> {
        match (self.rule(&canonical_name(name)), &self.next) {
            // A configuration is not DNSSEC: what it says here would be ignored.
            (Some(rule), _) => {
                now(said(rule, Vec::new()).map(|records| TlsaAnswer { records, secure: false, valid_for: VALID_FOR }))
            }
            (None, Some(next)) => next.tlsa(name),
            (None, None) => now(Err(DnsFault::NoSuchName)),
        }
    }

    // Rules speak of where mail goes. What an address is called, and what a name is an alias of, only the DNS says; but a
    // name that is fixed here has nothing besides what is fixed.
    fn ptr<'a>(&'a self, address: IpAddr) -> Asked<'a, PtrAnswer> {
        match (self.rule(&reverse_name(address)), &self.next) {
            (Some(rule), _) => now(said(rule, Vec::new()).map(|names| PtrAnswer { names, valid_for: VALID_FOR })),
            (None, Some(next)) => next.ptr(address),
            (None, None) => now(Err(DnsFault::NoSuchName)),
        }
    }

    fn cname<'a>(&'a self, name: &'a str) -> Asked<'a, CnameAnswer> {
        match (self.rule(&canonical_name(name)), &self.next) {
            (Some(rule), _) if rule.no_such => now(Err(DnsFault::NoSuchName)),
            (Some(_), _) => now(Err(DnsFault::NoData)),
            (None, Some(next)) => next.cname(name),
            (None, None) => now(Err(DnsFault::NoSuchName)),
        }
    }

    fn outdate(&self, domain: &Domain) {
        if let Some(next) = &self.next {
            next.outdate(domain);
        }
    }
}

fn now<'a, T: Send + 'a>(answer: Result<T, DnsFault>) -> Asked<'a, T> {
    Box::pin(std::future::ready(answer))
}
