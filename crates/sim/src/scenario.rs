//! What is to be rehearsed? A file says it: who sends, to whom, by what, and what changes on the way.

use crate::history::History;
use crate::provider::{Preset, Quality, presets};
use crate::rehearsal::{Control, Listing, Setting, Site, Volume};
use crate::sender::{Change, Rhythm, Sender};
use engine::provider::Providers;
use engine::rulefile::{RuleError, Source};
use engine::scale::Bounds;
use engine::schedule::STAGES_MAX;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use toml::Spanned;

/// Where no providers are named: as the addresses of a shop's customers are spread.
const USUAL: [(&str, &str, f64); 6] = [
    ("gmail-like", "google", 50.0),
    ("microsoft-like", "microsoft-consumer", 28.0),
    ("yahoo-like", "yahoo", 13.0),
    ("apple-like", "apple", 5.0),
    ("gmx-like", "gmx", 2.0),
    ("comcast-like", "comcast", 2.0),
];
/// What each kind of provider is called where the file does not say.
const NAMES: [(&str, &str); 8] = [
    ("gmail-like", "google"),
    ("microsoft-like", "microsoft-consumer"),
    ("yahoo-like", "yahoo"),
    ("apple-like", "apple"),
    ("comcast-like", "comcast"),
    ("gmx-like", "gmx"),
    ("small-site", "mx.example"),
    ("open", "mx.example.net"),
];
/// What statistics call all sites together that the provider rules do not know.
const THE_REST: &str = "other";
/// How a provider is that neither the scenario names nor a kind is usually called by.
const LIKE_THE_REST: &str = "small-site";
/// Each figure of a provider is up to so much otherwise in each run.
const VARIED_BY: f64 = 0.3;
/// A year: more is a slip.
const DAYS_MAX: u32 = STAGES_MAX as u32;
const IPS_MAX: u32 = 64;

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: Arc<str>,
    pub words: Arc<str>,
    setting: Setting,
}

impl Scenario {
    /// One run of it. The seed decides all that is left to chance.
    #[must_use]
    pub fn setting(&self, seed: u64) -> Setting {
        let mut setting = Setting { seed, ..self.setting.clone() };
        for (number, site) in (1u64..).zip(&mut setting.sites) {
            site.preset = site.preset.clone().varied(VARIED_BY, seed.wrapping_mul(1_000).wrapping_add(number));
        }
        setting
    }

    /// The same, with all of its mail to one kind of provider.
    #[must_use]
    pub fn only(mut self, like: &str) -> Scenario {
        if let Some((preset, name)) = preset(like).zip(name_of(like)) {
            self.setting.sites = vec![Site { preset, provider: name.into(), volume: share(100.0) }];
        }
        self
    }

    /// The same by other means.
    #[must_use]
    pub fn by(mut self, control: Control) -> Scenario {
        self.setting.control = control;
        self
    }

    /// The same with so much mail a day, before what changes.
    #[must_use]
    pub fn per_day(mut self, per_day: f64) -> Scenario {
        self.setting.sender.per_day = per_day;
        self
    }

    /// The same with what was really sent in place of the sender's volume and the providers' shares, for as long as either of them is.
    /// A provider that the scenario does not name is as one that is usually called so.
    #[must_use]
    pub fn with(mut self, history: &History) -> Scenario {
        let days = (self.setting.days as usize).max(history.days());
        let site = |name: &Arc<str>| {
            let named = self.setting.sites.iter().find(|site| site.provider == *name).map(|site| site.preset.clone());
            let like = NAMES.iter().find(|(_, usual)| **usual == **name).map_or(LIKE_THE_REST, |(like, _)| *like);
            let volume = Volume::Daily(history.of(name, days));
            Some(Site { preset: named.or_else(|| preset(like))?, provider: Arc::clone(name), volume })
        };
        self.setting.sites = history.providers().filter_map(site).collect();
        self.setting.days = u32::try_from(days).unwrap_or(u32::MAX);
        self
    }

    /// The same for its days alone.
    #[must_use]
    pub fn with_only(self, history: &History) -> Scenario {
        let mut scenario = self.with(history);
        scenario.setting.days = u32::try_from(history.days()).unwrap_or(u32::MAX);
        scenario
    }

    /// The providers that a history for it may have: its own, and those that the rules know.
    #[must_use]
    pub fn providers(&self) -> BTreeSet<Arc<str>> {
        let own = self.setting.sites.iter().map(|site| Arc::clone(&site.provider));
        let known = Providers::shipped();
        own.chain(known.names().chain([THE_REST]).map(Arc::from)).collect()
    }

    /// Those that are shipped.
    #[must_use]
    pub fn shipped() -> Vec<Scenario> {
        SHIPPED.iter().map(|text| Scenario::parse(text).expect("a test reads them")).collect()
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Scenario> {
        Scenario::shipped().into_iter().find(|scenario| *scenario.name == *name)
    }

    /// Reads a file; what is wrong is told with its line and how to mend it.
    pub fn parse(text: &str) -> Result<Scenario, RuleError> {
        let source = Source(text);
        let written: Written = toml::from_str(text).map_err(|fault| source.unreadable(&fault))?;
        written.scenario(source)
    }
}

const SHIPPED: [&str; 8] = [
    include_str!("../scenarios/good-sender.toml"),
    include_str!("../scenarios/no-overflow.toml"),
    include_str!("../scenarios/list-gone-bad.toml"),
    include_str!("../scenarios/another-provider.toml"),
    include_str!("../scenarios/silence.toml"),
    include_str!("../scenarios/five-times-as-much.toml"),
    include_str!("../scenarios/collapse.toml"),
    include_str!("../scenarios/listed.toml"),
];

fn preset(like: &str) -> Option<Preset> {
    presets().into_iter().find(|preset| preset.name == like)
}

fn share(percent: f64) -> Volume {
    Volume::Share { percent, from_day: 0 }
}

fn name_of(like: &str) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == like).map(|(_, name)| *name)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Spanned<String>,
    #[serde(default)]
    words: String,
    days: Spanned<u32>,
    sender: WrittenSender,
    #[serde(default)]
    change: Vec<WrittenChange>,
    #[serde(default)]
    provider: Vec<WrittenProvider>,
    pool: WrittenPool,
    #[serde(default)]
    listing: Vec<WrittenListing>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSender {
    per_day: Spanned<u64>,
    rhythm: Option<Spanned<String>>,
    unknown: Option<Spanned<f64>>,
    complaints: Option<Spanned<f64>>,
    traps: Option<Spanned<f64>>,
    engaged: Option<Spanned<f64>>,
    domain_reputation: Option<Spanned<f64>>,
    lifetime_hours: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenChange {
    day: Spanned<u32>,
    per_day: Option<u64>,
    unknown: Option<Spanned<f64>>,
    complaints: Option<Spanned<f64>>,
    traps: Option<Spanned<f64>>,
    engaged: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProvider {
    like: Spanned<String>,
    name: Option<Spanned<String>>,
    share: Spanned<f64>,
    #[serde(default)]
    from_day: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPool {
    ips: Spanned<u32>,
    #[serde(default = "learning")]
    warm_up: Spanned<String>,
    #[serde(default = "yes")]
    shared: bool,
    managed: Option<Spanned<Bounds>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenListing {
    ip: Spanned<usize>,
    day: u32,
    found_after_minutes: u32,
}

fn learning() -> Spanned<String> {
    Spanned::new(0..0, "learning".into())
}

fn yes() -> bool {
    true
}

impl Written {
    fn scenario(&self, source: Source<'_>) -> Result<Scenario, RuleError> {
        let rule = self.name.get_ref().as_str();
        let share = |field: &str, written: &Option<Spanned<f64>>, otherwise: f64| match written {
            None => Ok(otherwise),
            Some(at) if (0.0..=1.0).contains(at.get_ref()) => Ok(*at.get_ref()),
            Some(at) => Err(source.wrong(&at.span(), rule, field, "a share, from 0 to 1")),
        };
        if !(1..=DAYS_MAX).contains(self.days.get_ref()) {
            return Err(source.wrong(&self.days.span(), rule, "days", format!("from 1 to {DAYS_MAX}")));
        }
        let own = &self.sender;
        let good = Sender::good(*own.per_day.get_ref() as f64);
        let quality = Quality {
            unknown: share("unknown", &own.unknown, good.quality.unknown)?,
            complaints: share("complaints", &own.complaints, good.quality.complaints)?,
            traps: share("traps", &own.traps, good.quality.traps)?,
            engaged: share("engaged", &own.engaged, good.quality.engaged)?,
        };
        let rhythm = match own.rhythm.as_ref().map(|at| (at.get_ref().as_str(), at.span())) {
            None | Some(("working", _)) => Rhythm::Working,
            Some(("even", _)) => Rhythm::Even,
            Some(("campaign", _)) => Rhythm::Campaign,
            Some((_, span)) => return Err(source.wrong(&span, rule, "rhythm", "working, even or campaign")),
        };
        let lifetime_hours = match &own.lifetime_hours {
            Some(at) if !(1..=720).contains(at.get_ref()) => {
                return Err(source.wrong(&at.span(), rule, "lifetime_hours", "from 1 to 720"));
            }
            given => given.as_ref().map_or(good.lifetime_hours, |at| *at.get_ref()),
        };
        let mut changes: Vec<Change> = Vec::new();
        for change in &self.change {
            let before = changes.last().map_or((good.per_day, quality), |last| (last.per_day, last.quality));
            let day = *change.day.get_ref();
            if changes.last().is_some_and(|last| last.day > day) {
                return Err(source.wrong(&change.day.span(), rule, "day", "changes stand in the order of their days"));
            }
            changes.push(Change {
                day,
                per_day: change.per_day.map_or(before.0, |per_day| per_day as f64),
                quality: Quality {
                    unknown: share("unknown", &change.unknown, before.1.unknown)?,
                    complaints: share("complaints", &change.complaints, before.1.complaints)?,
                    traps: share("traps", &change.traps, before.1.traps)?,
                    engaged: share("engaged", &change.engaged, before.1.engaged)?,
                },
            });
        }
        let domain_reputation = share("domain_reputation", &own.domain_reputation, good.domain_reputation)?;
        let sender = Sender { quality, rhythm, domain_reputation, lifetime_hours, changes, ..good };
        let setting = Setting {
            days: *self.days.get_ref(),
            seed: 0,
            sender,
            sites: self.sites(source)?,
            ips: self.ips(source)?,
            managed: self.managed(source)?,
            control: self.control(source)?,
            shared: self.pool.shared,
            listings: self.listings(source)?,
        };
        Ok(Scenario { name: rule.into(), words: self.words.as_str().into(), setting })
    }

    fn sites(&self, source: Source<'_>) -> Result<Vec<Site>, RuleError> {
        let rule = self.name.get_ref();
        if self.provider.is_empty() {
            let site = |(like, name, percent): &(&str, &str, f64)| {
                Some(Site { preset: preset(like)?, provider: (*name).into(), volume: share(*percent) })
            };
            return Ok(USUAL.iter().filter_map(site).collect());
        }
        let mut sites = Vec::new();
        for written in &self.provider {
            let like = written.like.get_ref();
            let Some(preset) = preset(like) else {
                let names: Vec<&str> = NAMES.iter().map(|(like, _)| *like).collect();
                let what = format!("there is none like {like}; there are {}", names.join(", "));
                return Err(source.wrong(&written.like.span(), rule, "like", what));
            };
            if !(0.0..=100.0).contains(written.share.get_ref()) {
                return Err(source.wrong(&written.share.span(), rule, "share", "from 0 to 100"));
            }
            let name = written.name.as_ref().map(|at| at.get_ref().as_str()).or_else(|| name_of(like));
            sites.push(Site {
                preset,
                provider: name.unwrap_or("mx.example").into(),
                volume: Volume::Share { percent: *written.share.get_ref(), from_day: written.from_day },
            });
        }
        let sum: f64 = self.provider.iter().map(|written| written.share.get_ref()).sum();
        if (sum - 100.0).abs() > 0.5 {
            let what = format!("the shares of all providers are {sum} together, and are to be 100");
            return Err(source.wrong(&self.provider[0].share.span(), rule, "share", what));
        }
        Ok(sites)
    }

    fn ips(&self, source: Source<'_>) -> Result<u32, RuleError> {
        let at = &self.pool.ips;
        if *at.get_ref() > IPS_MAX || *at.get_ref() == 0 && self.pool.managed.is_none() {
            let what = format!("from 1 to {IPS_MAX}, or 0 in a managed pool");
            return Err(source.wrong(&at.span(), self.name.get_ref(), "ips", what));
        }
        Ok(*at.get_ref())
    }

    fn managed(&self, source: Source<'_>) -> Result<Option<Bounds>, RuleError> {
        let Some(at) = &self.pool.managed else { return Ok(None) };
        let bounds = *at.get_ref();
        if bounds.ips_max < bounds.ips_min || bounds.ips_max > IPS_MAX {
            let what = format!("ips_max from ips_min to {IPS_MAX}");
            return Err(source.wrong(&at.span(), self.name.get_ref(), "managed", what));
        }
        Ok(Some(bounds))
    }

    fn control(&self, source: Source<'_>) -> Result<Control, RuleError> {
        let at = &self.pool.warm_up;
        Control::named(at.get_ref()).ok_or_else(|| {
            let what = "learning, aimd, pid, a schedule's name, or table and a schedule's name";
            source.wrong(&at.span(), self.name.get_ref(), "warm_up", what)
        })
    }

    fn listings(&self, source: Source<'_>) -> Result<Vec<Listing>, RuleError> {
        let listing = |written: &WrittenListing| {
            if *written.ip.get_ref() == 0 {
                return Err(source.wrong(&written.ip.span(), self.name.get_ref(), "ip", "counted from 1"));
            }
            let ip = *written.ip.get_ref() - 1;
            Ok(Listing { ip, day: written.day, found_after: written.found_after_minutes })
        };
        self.listing.iter().map(listing).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failing unwrap is a failing test.
    use super::Scenario;

    #[test]
    fn the_shipped_scenarios_can_be_read() {
        let names: Vec<String> = Scenario::shipped().iter().map(|scenario| scenario.name.to_string()).collect();
        assert_eq!(names.len(), 8);
        assert!(names.iter().all(|name| Scenario::named(name).is_some()));
        assert!(Scenario::shipped().iter().all(|scenario| !scenario.words.is_empty()));
    }

    #[test]
    fn a_wrong_file_is_told_by_its_line() {
        let check = |text: &str, expected: &str| assert_eq!(Scenario::parse(text).unwrap_err().to_string(), expected);
        let file = |rest: &str| format!("name = \"mine\"\ndays = 9\n[sender]\nper_day = 10\n{rest}\n");
        check(&file("unknown = 2.0\n[pool]\nips = 1"), "line 5: mine: unknown: a share, from 0 to 1");
        check(&file("[pool]\nips = 0"), "line 6: mine: ips: from 1 to 64, or 0 in a managed pool");
        check(&file("rhythm = \"odd\"\n[pool]\nips = 1"), "line 5: mine: rhythm: working, even or campaign");
        check(
            &file("[pool]\nips = 1\nwarm_up = \"fast\""),
            "line 7: mine: warm_up: learning, aimd, pid, a schedule's name, or table and a schedule's name",
        );
        check(
            &file("[pool]\nips = 1\n[[provider]]\nlike = \"gmail-like\"\nshare = 50"),
            "line 9: mine: share: the shares of all providers are 50 together, and are to be 100",
        );
        let error = Scenario::parse(&file("[pool]\nips = 1\nspeed = 3")).unwrap_err();
        assert_eq!((error.line, error.field.as_str()), (7, "speed"));
    }
}
