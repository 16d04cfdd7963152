//! How much may a new IP send on which day? Schedules are data: some are shipped, and an operator may have its own. (R4.1)

use crate::rulefile::{RuleError, Source};
use serde::Deserialize;
use std::sync::Arc;
use toml::Spanned;

/// The schedules that are shipped.
const SHIPPED: &str = include_str!("../rules/schedules.toml");
/// What is used where nobody chose.
pub const DEFAULT: &str = "steady";
/// A year of stages: more is a slip.
pub const STAGES_MAX: usize = 366;

/// What a schedule's volumes are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// All that the IP sends.
    Ip,
    /// What it sends to one provider.
    Provider,
}

/// Stages, one for each day that brings the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub name: Arc<str>,
    /// For people who choose one.
    pub words: Arc<str>,
    pub per: Per,
    /// Of a stage's volume, so much must have been delivered on its day. Nought: days count whether they were used or not.
    pub used_percent: u8,
    volumes: Arc<[u64]>,
}

impl Schedule {
    /// How many stages there are. Stages are counted from one.
    #[must_use]
    pub fn stages(&self) -> u32 {
        u32::try_from(self.volumes.len()).unwrap_or(u32::MAX)
    }

    /// Messages of a day of this stage. Behind the last one it goes on growing as it did before, and at most by half: an end at which
    /// everything is let go at once would be the leap that a warm-up is there to avoid.
    #[must_use]
    pub fn volume(&self, stage: u32) -> u64 {
        let at = (stage.max(1) - 1) as usize;
        if let Some(volume) = self.volumes.get(at) {
            return *volume;
        }
        let last = self.volumes.last().copied().unwrap_or(0);
        let before = self.volumes.len().checked_sub(2).map_or(last, |at| self.volumes[at]);
        // In hundredths; from a tenth to a half more.
        let growth = (last * 100).checked_div(before).unwrap_or(0).clamp(110, 150);
        let days = u32::try_from(at + 1 - self.volumes.len()).unwrap_or(u32::MAX);
        (0..days.min(64)).fold(last, |volume, _| volume.saturating_mul(growth) / 100)
    }

    /// The last stage whose volume is not more than this; the first one at least.
    #[must_use]
    pub fn stage_of(&self, volume: u64) -> u32 {
        let below = self.volumes.iter().take_while(|stage| **stage <= volume).count();
        u32::try_from(below).unwrap_or(u32::MAX).max(1)
    }

    /// How far a stage is, as SES shows it.
    #[must_use]
    pub fn percent(&self, stage: u32) -> u8 {
        u8::try_from(u64::from(stage) * 100 / u64::from(self.stages().max(1))).unwrap_or(100).min(100)
    }

    /// The stage at which it is so far; the first one at least.
    #[must_use]
    pub fn stage_at(&self, percent: u8) -> u32 {
        (u32::from(percent.min(100)) * self.stages()).div_ceil(100).max(1)
    }
}

/// All schedules that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedules(Vec<Schedule>);

impl Default for Schedules {
    fn default() -> Schedules {
        Schedules::shipped()
    }
}

impl Schedules {
    #[must_use]
    pub fn shipped() -> Schedules {
        Schedules::parse(SHIPPED).expect("a test reads them")
    }

    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Schedule> {
        self.0.iter().find(|schedule| &*schedule.name == name)
    }

    /// The shipped ones besides an operator's own; its own of the same name counts.
    #[must_use]
    pub fn with(mut self, own: Schedules) -> Schedules {
        self.0.retain(|schedule| own.named(&schedule.name).is_none());
        self.0.extend(own.0);
        self
    }

    pub fn all(&self) -> impl Iterator<Item = &Schedule> {
        self.0.iter()
    }

    /// Reads a file of schedules; what is wrong is told with its line and how to mend it.
    pub fn parse(text: &str) -> Result<Schedules, RuleError> {
        let source = Source(text);
        let file: WrittenFile = toml::from_str(text).map_err(|fault| source.unreadable(&fault))?;
        let mut schedules: Vec<Schedule> = Vec::new();
        for written in &file.schedule {
            let name = written.name.get_ref();
            if name.is_empty() || schedules.iter().any(|schedule| *schedule.name == **name) {
                return Err(source.wrong(&written.name.span(), name, "name", "each schedule has a name of its own"));
            }
            schedules.push(written.schedule(source)?);
        }
        Ok(Schedules(schedules))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    schedule: Vec<Written>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Spanned<String>,
    #[serde(default)]
    words: String,
    per: Per,
    used_percent: Spanned<u8>,
    volumes: Spanned<Vec<Spanned<u64>>>,
}

impl Written {
    fn schedule(&self, source: Source<'_>) -> Result<Schedule, RuleError> {
        let name = self.name.get_ref();
        let used_percent = *self.used_percent.get_ref();
        if used_percent > 100 {
            return Err(source.wrong(&self.used_percent.span(), name, "used_percent", "from 0 to 100"));
        }
        let volumes = self.volumes.get_ref();
        if volumes.is_empty() || volumes.len() > STAGES_MAX {
            let what = format!("from 1 to {STAGES_MAX} stages, not {}", volumes.len());
            return Err(source.wrong(&self.volumes.span(), name, "volumes", what));
        }
        let mut before = 0;
        for (stage, volume) in (1..).zip(volumes) {
            let is = *volume.get_ref();
            if is == 0 || is < before {
                let what = format!(
                    "stage {stage} has {is}: a stage has at least 1 message, and as many as the one before ({before})"
                );
                return Err(source.wrong(&volume.span(), name, "volumes", what));
            }
            before = is;
        }
        Ok(Schedule {
            name: name.as_str().into(),
            words: self.words.as_str().into(),
            per: self.per,
            used_percent,
            volumes: volumes.iter().map(|volume| *volume.get_ref()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failing unwrap is a failing test.
    use super::{DEFAULT, Per, Schedules};

    // R4.1: the default takes two weeks from 100 a day; SES's 45 days, SparkPost's 29 stages and SendGrid's are there by name.
    #[test]
    fn the_shipped_schedules_are_those_that_people_know() {
        let shipped = Schedules::shipped();
        let of = |name: &str| shipped.named(name).unwrap();
        let steady = of(DEFAULT);
        assert_eq!((steady.stages(), steady.volume(1), steady.per), (14, 100, Per::Provider));
        let ses = of("ses");
        assert_eq!((ses.stages(), ses.volume(1), ses.volume(45)), (45, 100, 50_000));
        let sparkpost = of("sparkpost");
        assert_eq!((sparkpost.stages(), sparkpost.volume(1), sparkpost.volume(29)), (29, 200, 10_000_000));
        assert_eq!((of("sendgrid").volume(1), of("sendgrid").volume(15)), (480, 53_328));
        for schedule in shipped.all() {
            let growth = (2..=schedule.stages()).map(|stage| schedule.volume(stage) * 100 / schedule.volume(stage - 1));
            assert!(
                growth.clone().all(|growth| (100..=250).contains(&growth)),
                "{}: {:?}",
                schedule.name,
                growth.max()
            );
        }
    }

    #[test]
    fn it_ends_without_a_leap() {
        let shipped = Schedules::shipped();
        let steady = shipped.named("steady").unwrap();
        assert_eq!((steady.volume(14), steady.volume(15), steady.volume(16)), (20_000, 30_000, 45_000));
        assert!(steady.volume(u32::MAX) > 1_000_000_000_000);
        let flat =
            Schedules::parse("[[schedule]]\nname = \"a\"\nper = \"ip\"\nused_percent = 0\nvolumes = [50]\n").unwrap();
        assert_eq!((flat.named("a").unwrap().volume(0), flat.named("a").unwrap().volume(2)), (50, 55));
    }

    #[test]
    fn a_stage_is_found_by_its_volume_and_by_how_far_it_is() {
        let shipped = Schedules::shipped();
        let ses = shipped.named("ses").unwrap();
        assert_eq!([1, 22, 45, 60].map(|stage| ses.percent(stage)), [2, 48, 100, 100]);
        assert_eq!([0, 2, 48, 100, 200].map(|percent| ses.stage_at(percent)), [1, 1, 22, 45, 45]);
        assert_eq!([0, 99, 100, 115, 116, 1_000_000].map(|volume| ses.stage_of(volume)), [1, 1, 1, 1, 2, 45]);
    }

    #[test]
    fn a_wrong_file_is_told_by_line_and_stage() {
        let check = |text: &str, expected: &str| assert_eq!(Schedules::parse(text).unwrap_err().to_string(), expected);
        let file = |rest: &str| format!("[[schedule]]\nname = \"mine\"\nper = \"ip\"\n{rest}\n");
        check(
            &file("used_percent = 0\nvolumes = [\n 100,\n 90,\n]"),
            "line 7: mine: volumes: stage 2 has 90: a stage has at least 1 message, and as many as the one before (100)",
        );
        check(
            &file("used_percent = 0\nvolumes = [0]"),
            "line 5: mine: volumes: stage 1 has 0: a stage has at least 1 message, and as many as the one before (0)",
        );
        check(&file("used_percent = 0\nvolumes = []"), "line 5: mine: volumes: from 1 to 366 stages, not 0");
        check(&file("used_percent = 101\nvolumes = [1]"), "line 4: mine: used_percent: from 0 to 100");
        let twice = file("used_percent = 0\nvolumes = [1]").repeat(2);
        check(&twice, "line 7: mine: name: each schedule has a name of its own");
        let error = Schedules::parse(&file("used_percent = 0\nvolumes = [1]\nspeed = 3")).unwrap_err();
        assert_eq!((error.line, error.rule.as_str(), error.field.as_str()), (6, "mine", "speed"));
    }
}
