//! What does somebody ask for, and is it said completely? (R3.1, R3.5, R3.8, R7.3)

use crate::name;
use crate::refusal::Refusal;
use engine::case::{self, CaseKind};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

pub const PARTS_MAX: usize = 20;
const TEXT_LETTERS_MAX: usize = 5_000;
const WEBSITE_OCTETS_MAX: usize = 1_000;
/// IPs leased or given back by one part.
const IPS_MAX: u32 = 256;
/// The largest quota that somebody can have meant.
const PER_DAY_MAX: i64 = 1_000_000_000_000;
const PER_SECOND_MAX: i64 = 10_000_000;

pub const MAIL_TYPES: [&str; 5] = ["transactional", "marketing", "system", "subscription", "other"];

/// What of the form is filled in; what a kind needs is checked when it is handed in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub mail_type: Option<String>,
    pub website: Option<String>,
    /// How the list of recipients is built, and how they opted in.
    pub opted_in: Option<String>,
    /// What happens with bounces and complaints.
    pub bounces: Option<String>,
    pub opting_out: Option<String>,
    /// How the wanted number was chosen.
    pub number_chosen: Option<String>,
    pub use_case: Option<String>,
    /// The three statements: agrees to the terms; writes only to who asked for it; has a process for bounces and complaints.
    pub terms: Option<bool>,
    pub only_opted_in: Option<bool>,
    pub bounce_process: Option<bool>,
    /// One for each region, or wish.
    pub parts: Vec<Part>,
    /// Where leased IPs go, or what a managed pool is called.
    pub pool: Option<String>,
    pub traffic: Option<Traffic>,
    /// Of IPs that are given back: pools may be without any then.
    pub although_empty: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub region: String,
    /// How many IPs.
    pub quantity: Option<u32>,
    /// The rate that IPs are wanted for, where no number is given (R3.2).
    pub rate: Option<u32>,
    /// These IPs are given back.
    pub ips: Vec<IpAddr>,
    pub per_day: Option<i64>,
    pub per_second: Option<i64>,
}

/// What a managed pool is to carry (R3.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Which kinds of mail.
    pub kinds: String,
    pub per_day: u64,
    pub per_month: u64,
    /// Rather than in bursts.
    pub is_steady: bool,
    pub domains: Vec<String>,
}

impl Request {
    /// As it is kept: complete, trimmed, with the number of IPs where a rate was given.
    pub fn completed(mut self, kind: CaseKind) -> Result<Request, Refusal> {
        let texts = [
            (
                "opted_in",
                &mut self.opted_in,
                matches!(kind, CaseKind::DedicatedIps | CaseKind::Quota | CaseKind::LeaveSandbox),
            ),
            (
                "bounces",
                &mut self.bounces,
                matches!(kind, CaseKind::DedicatedIps | CaseKind::Quota | CaseKind::LeaveSandbox),
            ),
            ("opting_out", &mut self.opting_out, matches!(kind, CaseKind::Quota | CaseKind::LeaveSandbox)),
            ("number_chosen", &mut self.number_chosen, kind == CaseKind::Quota),
            ("use_case", &mut self.use_case, !matches!(kind, CaseKind::Relinquish | CaseKind::ManagedPool)),
        ];
        for (field, value, is_needed) in texts {
            *value = said(field, value.take(), is_needed)?;
        }
        if matches!(kind, CaseKind::DedicatedIps | CaseKind::Quota | CaseKind::LeaveSandbox) {
            self.mail_type = Some(mail_type(self.mail_type.take())?);
            self.website = Some(website(self.website.take())?);
        }
        self.statements(kind)?;
        self.pool = self.pool.map(|pool| name::pool(&pool).map_err(|refusal| refusal.at("pool"))).transpose()?;
        self.check_parts(kind)?;
        if kind == CaseKind::ManagedPool {
            self.managed()?;
        }
        Ok(self)
    }

    fn statements(&self, kind: CaseKind) -> Result<(), Refusal> {
        let needed: &[(&str, Option<bool>)] = match kind {
            CaseKind::DedicatedIps => &[("terms", self.terms)],
            CaseKind::Quota | CaseKind::LeaveSandbox => {
                &[("terms", self.terms), ("only_opted_in", self.only_opted_in), ("bounce_process", self.bounce_process)]
            }
            CaseKind::Relinquish | CaseKind::ManagedPool => &[],
        };
        for (field, value) in needed {
            if value.is_none() {
                return Err(Refusal::invalid(field, "This statement is missing.", "Say true or false, as it is."));
            }
        }
        if needed.iter().any(|(field, value)| *field == "terms" && *value == Some(false)) {
            let sentence = "Without agreement to the terms there is nothing to decide.";
            return Err(Refusal::invalid("terms", sentence, "Agree to the terms, or do not ask."));
        }
        Ok(())
    }

    fn check_parts(&mut self, kind: CaseKind) -> Result<(), Refusal> {
        let is_needed = kind != CaseKind::LeaveSandbox;
        let count = if kind == CaseKind::ManagedPool { 1..=1 } else { usize::from(is_needed)..=PARTS_MAX };
        if !count.contains(&self.parts.len()) {
            let sentence =
                format!("From {} to {} requests stand in one case of this kind.", count.start(), count.end());
            return Err(Refusal::invalid("requests", sentence, "Say for which region, and what."));
        }
        for part in &mut self.parts {
            part.check(kind)?;
        }
        let mut regions: Vec<&str> = self.parts.iter().map(|part| part.region.as_str()).collect();
        regions.sort_unstable();
        if regions.windows(2).any(|two| two[0] == two[1]) {
            let sentence = "A region stands there twice.";
            return Err(Refusal::invalid("requests", sentence, "Say in one request all that is wanted there."));
        }
        Ok(())
    }

    fn managed(&mut self) -> Result<(), Refusal> {
        if self.pool.is_none() {
            return Err(Refusal::invalid("pool", "The pool needs a name.", "Say what it is to be called."));
        }
        let Some(traffic) = &mut self.traffic else {
            let sentence = "What the pool is to carry is missing.";
            return Err(Refusal::invalid("traffic", sentence, "Say kinds, per_day, per_month, is_steady and domains."));
        };
        traffic.kinds = said("traffic", Some(std::mem::take(&mut traffic.kinds)), true)?.unwrap_or_default();
        if traffic.domains.is_empty() || traffic.domains.len() > 100 {
            let sentence = "From 1 to 100 domains send by a managed pool.";
            return Err(Refusal::invalid("traffic", sentence, "Name the domains."));
        }
        Ok(())
    }
}

impl Part {
    fn check(&mut self, kind: CaseKind) -> Result<(), Refusal> {
        let wrong = |sentence: &str, mend: &str| Err(Refusal::invalid("requests", sentence, mend));
        match kind {
            CaseKind::DedicatedIps => match (self.quantity, self.rate) {
                (Some(quantity), None) if (1..=IPS_MAX).contains(&quantity) => {}
                (None, Some(rate)) if (1..=IPS_MAX * case::PER_SECOND_OF_IP).contains(&rate) => {
                    self.quantity = Some(case::ips_for(rate).0);
                }
                _ => {
                    let sentence = format!("Either the number of IPs (1 to {IPS_MAX}) or the wanted rate is given.");
                    return wrong(&sentence, "Say quantity, or rate in messages a second.");
                }
            },
            CaseKind::Relinquish => {
                let named = u32::try_from(self.ips.len()).unwrap_or(u32::MAX);
                if self.quantity.is_some() != self.ips.is_empty()
                    || named.max(self.quantity.unwrap_or(named)) > IPS_MAX
                    || self.quantity == Some(0)
                {
                    return wrong("Either which IPs, or how many, are given back.", "Name ips, or say quantity.");
                }
            }
            CaseKind::Quota | CaseKind::LeaveSandbox => {
                if self.per_day.is_none() && self.per_second.is_none() {
                    return wrong("A daily quota, a rate, or both are wanted.", "Say per_day or per_second.");
                }
                let fits = |value: Option<i64>, max| value.is_none_or(|value| (1..=max).contains(&value));
                if !fits(self.per_day, PER_DAY_MAX) || !fits(self.per_second, PER_SECOND_MAX) {
                    return wrong("A quota is a number of recipients above nought.", "Give a whole number.");
                }
            }
            CaseKind::ManagedPool => {}
        }
        Ok(())
    }
}

fn mail_type(said: Option<String>) -> Result<String, Refusal> {
    let said = said.unwrap_or_default();
    if MAIL_TYPES.contains(&said.as_str()) {
        return Ok(said);
    }
    let sentence = format!("The type of mail is one of {}.", MAIL_TYPES.join(", "));
    Err(Refusal::invalid("mail_type", sentence, "Choose the one that most of the mail is of."))
}

/// What can be followed when the case is looked at.
fn website(said: Option<String>) -> Result<String, Refusal> {
    let said = said.unwrap_or_default().trim().to_owned();
    let host = said.strip_prefix("https://").or_else(|| said.strip_prefix("http://")).unwrap_or_default();
    let plain =
        said.len() <= WEBSITE_OCTETS_MAX && !said.chars().any(|letter| letter.is_control() || letter.is_whitespace());
    if plain && host.split('/').next().is_some_and(|host| host.contains('.')) {
        return Ok(said);
    }
    Err(Refusal::invalid("website", "This is no address of a web site.", "Give it as https://example.com."))
}

/// What people write to each other.
pub(crate) fn said(field: &str, text: Option<String>, is_needed: bool) -> Result<Option<String>, Refusal> {
    let text = text.map(|text| text.replace("\r\n", "\n").trim().to_owned()).filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| {
        text.chars().count() > TEXT_LETTERS_MAX
            || text.chars().any(|letter| letter.is_control() && letter != '\n' && letter != '\t')
    }) {
        let sentence = format!("A text has at most {TEXT_LETTERS_MAX} characters, and no control characters.");
        return Err(Refusal::invalid(field, sentence, "Say it shorter, or attach it."));
    }
    if is_needed && text.is_none() {
        return Err(Refusal::invalid(field, "This answer is missing.", "Answer it in a sentence or two."));
    }
    Ok(text)
}
