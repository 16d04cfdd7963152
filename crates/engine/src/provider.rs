//! Which mailbox provider stands behind these MX hosts, and how does it want to be treated?

use crate::rulefile::{RuleError, Source, duration};
use crate::simulator;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// How steep a slope is where it is to go slowly.
const SLOW_PERCENT: u32 = 130;

/// How one IP treats one provider before any answer taught it better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRules {
    pub connections_max: u32,
    pub messages_per_connection: u32,
    /// 0: no such limit. Both hold where both are given.
    pub messages_per_second: u32,
    pub messages_per_minute: u32,
    pub recipients_per_transaction: u16,
    /// Begin with one connection and double after each `ramp_messages` accepted; else open what is needed at once.
    pub ramp: bool,
    pub ramp_messages: u32,
    /// An open connection without mail is closed after this.
    pub idle: Duration,
    /// The provider takes no mail in clear: protection is required whatever the sender asked, but for `TlsWish::Never`.
    pub tls_required: bool,
    pub warm_up: Slope,
}

/// How an IP that nobody knows is warmed up at a provider by what it learns (R4.3): how it begins, how steep, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slope {
    /// Messages of the first day.
    pub first: u64,
    /// From one day to the next, in hundredths, before anything is learned.
    pub growth_percent: u32,
    /// From so much a day on, it grows by three tenths a day at most.
    pub slow_from: u64,
}

impl Slope {
    /// How steep it may get at most, at this volume: large volumes that double are looked at.
    #[must_use]
    pub fn steepest(&self, volume: u64) -> u32 {
        let steep = match volume {
            0..50_000 => 200,
            50_000..100_000 => 150,
            100_000..250_000 => 130,
            _ => 115,
        };
        if volume >= self.slow_from { steep.min(SLOW_PERCENT) } else { steep }
    }
}

/// What the operator's file changes for one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneChange {
    pub connections_max: Option<u32>,
    pub messages_per_connection: Option<u32>,
    pub messages_per_second: Option<u32>,
    pub ramp: Option<bool>,
}

/// The provider file, ready for use.
#[derive(Clone, Debug)]
pub struct Providers {
    default: LaneRules,
    providers: Vec<Provider>,
}

#[derive(Clone, Debug)]
pub struct Provider {
    pub name: Arc<str>,
    pub group: Group,
    pub rules: LaneRules,
    /// Whether it tells of complaints, message by message, to whoever has registered for that.
    pub tells: bool,
    /// Where it is asked for help with a block.
    pub help: Option<Arc<str>>,
    suffixes: Vec<String>,
}

/// What the limits of a provider count for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// All its sites together.
    #[default]
    Provider,
    /// Each site by itself: its sites are separate systems.
    Site,
}

impl Providers {
    /// The file that comes with this release.
    #[must_use]
    pub fn shipped() -> Providers {
        Providers::parse(include_str!("../rules/providers.toml")).expect("the shipped file is read by a test")
    }

    pub fn parse(text: &str) -> Result<Providers, RuleError> {
        let source = Source(text);
        let written: WrittenFile = toml::from_str(text).map_err(|fault| source.unreadable(&fault))?;
        let default = written.default.over(&bare(), source, "default")?;
        let mut providers: Vec<Provider> = Vec::new();
        let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
        for entry in &written.provider {
            let name = entry.name.get_ref().as_str();
            let wrong = |field: &str, what: String| source.wrong(&entry.name.span(), name, field, what);
            if name == simulator::PROVIDER {
                return Err(wrong(
                    "name",
                    "what the simulator answers is told under this name, and counts for nothing".into(),
                ));
            }
            if name == "default" || providers.iter().any(|other| *other.name == *name) {
                return Err(wrong("name", "another provider has this name".into()));
            }
            if entry.suffixes.is_empty() {
                return Err(wrong("suffixes", "at least one".into()));
            }
            for suffix in &entry.suffixes {
                if !suffix.starts_with('.') || suffix.len() < 3 || suffix.to_ascii_lowercase() != *suffix {
                    return Err(wrong("suffixes", format!("\"{suffix}\" is to begin with a dot and be in lower case")));
                }
                if let Some(other) = owner.insert(suffix, name) {
                    return Err(wrong("suffixes", format!("\"{suffix}\" belongs to {other} already")));
                }
            }
            if entry.help.as_ref().is_some_and(|help| !help.starts_with("https://")) {
                return Err(wrong("help", "an address that begins with https://".into()));
            }
            let rules = entry.rules.over(&default, source, name)?;
            providers.push(Provider {
                name: Arc::from(name),
                group: entry.group,
                rules,
                tells: entry.tells,
                help: entry.help.as_deref().map(Arc::from),
                suffixes: entry.suffixes.clone(),
            });
        }
        Ok(Providers { default, providers })
    }

    /// Changes the rules of one provider; `default` changes those of everybody. An unknown name is given back.
    pub fn change(&mut self, provider: &str, change: &LaneChange) -> Result<(), String> {
        if provider == "default" {
            change.apply(&mut self.default);
            return Ok(());
        }
        let found = self.providers.iter_mut().find(|entry| *entry.name == *provider);
        change.apply(&mut found.ok_or_else(|| provider.to_owned())?.rules);
        Ok(())
    }

    /// The provider all of whose hosts these are; `None`: the site is its own provider.
    #[must_use]
    pub fn provider_of(&self, hosts: &[String]) -> Option<&Provider> {
        let first = hosts.first()?;
        let found = self.providers.iter().find(|provider| provider.runs(first))?;
        hosts.iter().all(|host| found.runs(host)).then_some(found)
    }

    /// The rules of a provider by name; those of everybody if there is none of this name.
    #[must_use]
    pub fn rules_of(&self, name: &str) -> &LaneRules {
        self.providers.iter().find(|provider| *provider.name == *name).map_or(&self.default, |found| &found.rules)
    }

    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| *provider.name == *name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().map(|provider| &*provider.name)
    }
}

impl Default for Providers {
    fn default() -> Providers {
        Providers::shipped()
    }
}

impl Provider {
    fn runs(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.suffixes.iter().any(|suffix| {
            host.len()
                .checked_sub(suffix.len())
                .and_then(|at| host.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        })
    }
}

impl LaneChange {
    fn apply(&self, rules: &mut LaneRules) {
        rules.connections_max = self.connections_max.unwrap_or(rules.connections_max).max(1);
        rules.messages_per_connection = self.messages_per_connection.unwrap_or(rules.messages_per_connection).max(1);
        rules.messages_per_second = self.messages_per_second.unwrap_or(rules.messages_per_second);
        rules.ramp = self.ramp.unwrap_or(rules.ramp);
    }
}

/// What `[default]` stands on; the file says the same and more.
fn bare() -> LaneRules {
    LaneRules {
        connections_max: 10,
        messages_per_connection: 100,
        messages_per_second: 100,
        messages_per_minute: 0,
        recipients_per_transaction: 100,
        ramp: true,
        ramp_messages: 20,
        idle: Duration::from_secs(60),
        tls_required: false,
        warm_up: Slope { first: 100, growth_percent: 200, slow_from: 250_000 },
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    #[serde(default)]
    default: WrittenRules,
    #[serde(default)]
    provider: Vec<WrittenProvider>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRules {
    connections_max: Option<Spanned<u32>>,
    messages_per_connection: Option<Spanned<u32>>,
    messages_per_second: Option<u32>,
    messages_per_minute: Option<u32>,
    recipients_per_transaction: Option<Spanned<u16>>,
    ramp: Option<bool>,
    ramp_messages: Option<Spanned<u32>>,
    idle: Option<Spanned<String>>,
    tls_required: Option<bool>,
    warm_up: Option<Spanned<Slope>>,
}

// The rules are fields of the entry itself; `flatten` would lose both the places and the refusal of unknown fields.
#[derive(Debug, Deserialize)]
#[serde(from = "WrittenEntry")]
struct WrittenProvider {
    name: Spanned<String>,
    suffixes: Vec<String>,
    group: Group,
    tells: bool,
    help: Option<String>,
    rules: WrittenRules,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEntry {
    name: Spanned<String>,
    suffixes: Vec<String>,
    #[serde(default)]
    group: Group,
    #[serde(default)]
    tells: bool,
    help: Option<String>,
    connections_max: Option<Spanned<u32>>,
    messages_per_connection: Option<Spanned<u32>>,
    messages_per_second: Option<u32>,
    messages_per_minute: Option<u32>,
    recipients_per_transaction: Option<Spanned<u16>>,
    ramp: Option<bool>,
    ramp_messages: Option<Spanned<u32>>,
    idle: Option<Spanned<String>>,
    tls_required: Option<bool>,
    warm_up: Option<Spanned<Slope>>,
}

impl From<WrittenEntry> for WrittenProvider {
    fn from(entry: WrittenEntry) -> WrittenProvider {
        let rules = WrittenRules {
            connections_max: entry.connections_max,
            messages_per_connection: entry.messages_per_connection,
            messages_per_second: entry.messages_per_second,
            messages_per_minute: entry.messages_per_minute,
            recipients_per_transaction: entry.recipients_per_transaction,
            ramp: entry.ramp,
            ramp_messages: entry.ramp_messages,
            idle: entry.idle,
            tls_required: entry.tls_required,
            warm_up: entry.warm_up,
        };
        let WrittenEntry { name, suffixes, group, tells, help, .. } = entry;
        WrittenProvider { name, suffixes, group, tells, help, rules }
    }
}

impl WrittenRules {
    fn over(&self, base: &LaneRules, source: Source<'_>, name: &str) -> Result<LaneRules, RuleError> {
        let some = |field: &str, value: &Option<Spanned<u32>>, otherwise: u32| match value {
            None => Ok(otherwise),
            Some(value) if *value.get_ref() == 0 => Err(source.wrong(&value.span(), name, field, "at least 1")),
            Some(value) => Ok(*value.get_ref()),
        };
        let recipients = match &self.recipients_per_transaction {
            None => base.recipients_per_transaction,
            Some(value) if *value.get_ref() == 0 => {
                return Err(source.wrong(&value.span(), name, "recipients_per_transaction", "at least 1"));
            }
            Some(value) => *value.get_ref(),
        };
        let idle = match &self.idle {
            None => base.idle,
            Some(text) => duration(text.get_ref()).map_err(|what| source.wrong(&text.span(), name, "idle", what))?,
        };
        let warm_up = match &self.warm_up {
            None => base.warm_up,
            Some(written) => {
                let Slope { first, growth_percent, slow_from } = *written.get_ref();
                if first == 0 || slow_from < first || !(101..=200).contains(&growth_percent) {
                    let what = "first at least 1, slow_from at least as many as first, growth_percent from 101 to 200";
                    return Err(source.wrong(&written.span(), name, "warm_up", what));
                }
                *written.get_ref()
            }
        };
        Ok(LaneRules {
            warm_up,
            connections_max: some("connections_max", &self.connections_max, base.connections_max)?,
            messages_per_connection: some(
                "messages_per_connection",
                &self.messages_per_connection,
                base.messages_per_connection,
            )?,
            messages_per_second: self.messages_per_second.unwrap_or(base.messages_per_second),
            messages_per_minute: self.messages_per_minute.unwrap_or(base.messages_per_minute),
            recipients_per_transaction: recipients,
            ramp: self.ramp.unwrap_or(base.ramp),
            ramp_messages: some("ramp_messages", &self.ramp_messages, base.ramp_messages)?,
            idle,
            tls_required: self.tls_required.unwrap_or(base.tls_required),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failing unwrap is a failing test
    use super::*;

    fn hosts(list: &[&str]) -> Vec<String> {
        list.iter().map(|host| (*host).to_owned()).collect()
    }

    #[test]
    fn a_provider_is_found_by_all_its_hosts() {
        let providers = Providers::shipped();
        let name = |list: &[&str]| providers.provider_of(&hosts(list)).map(|found| found.name.to_string());
        assert_eq!(name(&["gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com"]), Some("google".into()));
        assert_eq!(name(&["ASPMX.L.GOOGLE.COM.", "aspmx2.googlemail.com"]), Some("google".into()));
        assert_eq!(name(&["outlook-com.olc.protection.outlook.com"]), Some("microsoft-consumer".into()));
        assert_eq!(name(&["acme.mail.protection.outlook.com"]), Some("microsoft-365".into()));
        assert_eq!(name(&["acme.h-v1.mx.microsoft"]), Some("microsoft-365".into()));
        // One foreign host, and it is not theirs.
        assert_eq!(name(&["aspmx.l.google.com", "mx.backup.example"]), None);
        assert_eq!(name(&["mx.backup.example", "aspmx.l.google.com"]), None);
        assert_eq!(name(&["notgoogle.com"]), None);
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn a_provider_takes_from_the_default_what_it_does_not_say() {
        let mut providers = Providers::shipped();
        assert_eq!(providers.rules_of("apple").messages_per_connection, 5);
        assert_eq!(providers.rules_of("apple").connections_max, 10);
        assert_eq!(providers.rules_of("mx.somewhere.example").messages_per_connection, 100);
        assert!(providers.rules_of("google").tls_required);
        let change = LaneChange { connections_max: Some(3), ramp: Some(false), ..LaneChange::default() };
        providers.change("apple", &change).unwrap();
        assert_eq!((providers.rules_of("apple").connections_max, providers.rules_of("apple").ramp), (3, false));
        assert_eq!(providers.change("aple", &change), Err("aple".into()));
    }

    #[test]
    fn a_wrong_file_is_told_by_line_provider_and_field() {
        let check = |text: &str, expected: &str| assert_eq!(Providers::parse(text).unwrap_err().to_string(), expected);
        check("[default]\nconnections_max = 0\n", "line 2: default: connections_max: at least 1");
        check(
            "[[provider]]\nname = \"a\"\nsuffixes = [\".a.com\"]\nidle = \"soon\"\n",
            "line 4: a: idle: \"soon\" is not a time such as \"90s\", \"15m\", \"2h\" or \"3d\"",
        );
        check(
            "[[provider]]\nname = \"a\"\nsuffixes = [\"a.com\"]\n",
            "line 2: a: suffixes: \"a.com\" is to begin with a dot and be in lower case",
        );
        let wrong = "line 2: default: warm_up: first at least 1, slow_from at least as many as first, growth_percent from 101 to 200";
        check("[default]\nwarm_up = { first = 10, growth_percent = 140, slow_from = 9 }\n", wrong);
        check("[default]\nwarm_up = { first = 10, growth_percent = 100, slow_from = 90 }\n", wrong);
        let error = Providers::parse("[[provider]]\nname = \"a\"\nsuffixes = [\".a.com\"]\nspeed = 3\n").unwrap_err();
        assert_eq!((error.line, error.rule.as_str(), error.field.as_str()), (4, "a", "speed"));
    }
}
