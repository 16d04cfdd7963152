//! Which of its own limits can an operator move? Each has a name, a default, and a reason.

use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::store::{Columns, q, row, rows, run};
use serde_json::json;
use sqlx::AnyConnection;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// R3.4: dedicated IPs a standard account holds at a time.
    DedicatedIpsMax,
    /// R3.5: how long a given-back IP rests before it can be leased again.
    RestDays,
    /// R3.7: how old a good check may be when an IP is leased.
    CheckMaxAgeHours,
    /// R3.7: whether an IP must have passed its checks to be leased.
    ChecksRequired,
    /// Domains that an account claims at a time.
    DomainsMax,
    /// Single addresses that an account claims at a time.
    AddressesMax,
    /// How long a DKIM key signs before its successor is made.
    DkimRotationDays,
    /// R6.1: how long events are kept.
    EventsDays,
    /// How much of them, whatever their age.
    EventsGibMax,
    /// R6.2: how long counts are kept by the minute, hour and day.
    CountsMinutesDays,
    CountsHoursDays,
    CountsDaysDays,
    /// R6.3: shares of hard bounces and of complaints from which on an account is reviewed and paused, in ten thousandths.
    BounceReview,
    BouncePause,
    ComplaintReview,
    ComplaintPause,
    /// R6.3: whether an account whose figures are over the limit is paused, or only reviewed.
    FiguresPause,
    /// R7.1: what an account may send in each region from when it is in production, in a day and a second.
    QuotaPerDay,
    QuotaPerSecond,
}

pub const SETTINGS: [Setting; 19] = [
    Setting::DedicatedIpsMax,
    Setting::RestDays,
    Setting::CheckMaxAgeHours,
    Setting::ChecksRequired,
    Setting::DomainsMax,
    Setting::AddressesMax,
    Setting::DkimRotationDays,
    Setting::EventsDays,
    Setting::EventsGibMax,
    Setting::CountsMinutesDays,
    Setting::CountsHoursDays,
    Setting::CountsDaysDays,
    Setting::BounceReview,
    Setting::BouncePause,
    Setting::ComplaintReview,
    Setting::ComplaintPause,
    Setting::FiguresPause,
    Setting::QuotaPerDay,
    Setting::QuotaPerSecond,
];

impl Setting {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Setting::DedicatedIpsMax => "dedicated_ips_max",
            Setting::RestDays => "rest_days",
            Setting::CheckMaxAgeHours => "check_max_age_hours",
            Setting::ChecksRequired => "checks_required",
            Setting::DomainsMax => "domains_max",
            Setting::AddressesMax => "addresses_max",
            Setting::DkimRotationDays => "dkim_rotation_days",
            Setting::EventsDays => "events_days",
            Setting::EventsGibMax => "events_gib_max",
            Setting::CountsMinutesDays => "counts_minutes_days",
            Setting::CountsHoursDays => "counts_hours_days",
            Setting::CountsDaysDays => "counts_days_days",
            Setting::BounceReview => "bounce_review_per_10000",
            Setting::BouncePause => "bounce_pause_per_10000",
            Setting::ComplaintReview => "complaint_review_per_10000",
            Setting::ComplaintPause => "complaint_pause_per_10000",
            Setting::FiguresPause => "figures_pause",
            Setting::QuotaPerDay => "quota_per_day",
            Setting::QuotaPerSecond => "quota_per_second",
        }
    }

    #[must_use]
    pub fn default(self) -> i64 {
        match self {
            Setting::DedicatedIpsMax => 4,
            // Reputation at the large providers fades in about a month without mail.
            Setting::RestDays => 30,
            Setting::CheckMaxAgeHours => 24,
            Setting::ChecksRequired => 1,
            // Each costs two key pairs and look-ups every day.
            Setting::DomainsMax => 1_000,
            Setting::AddressesMax => 1_000,
            // M3AAWG advises to change keys every six months.
            Setting::DkimRotationDays => 180,
            // What providers still ask about, and twice what webhooks may have missed.
            Setting::EventsDays => 30,
            Setting::EventsGibMax => 64,
            Setting::CountsMinutesDays => 2,
            Setting::CountsHoursDays => 90,
            Setting::CountsDaysDays => 731,
            Setting::BounceReview => 500,
            Setting::BouncePause => 1_000,
            Setting::ComplaintReview => 10,
            Setting::ComplaintPause => 50,
            Setting::FiguresPause => 1,
            // A team that sends for itself needs none.
            Setting::QuotaPerDay => 0,
            // What Amazon SES begins with.
            Setting::QuotaPerSecond => 14,
        }
    }

    /// What it decides, for whoever reads the list.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Setting::DedicatedIpsMax => "dedicated IPs that an account of the standard plan holds at a time",
            Setting::RestDays => "days that a given-back IP rests before it can be leased again",
            Setting::CheckMaxAgeHours => "hours that a good check of an IP is believed",
            Setting::ChecksRequired => "1: an IP is leased only when its checks are good; 0: checks are only shown",
            Setting::DomainsMax => "domains that an account claims at a time",
            Setting::AddressesMax => "single addresses that an account claims at a time",
            Setting::DkimRotationDays => "days that a DKIM key signs before its successor is made; 0: for ever",
            Setting::EventsDays => "days that events are kept, and webhooks can be replayed from",
            Setting::EventsGibMax => "GiB of events that are kept at most; the oldest go first",
            Setting::CountsMinutesDays => "days that counts by the minute are kept",
            Setting::CountsHoursDays => "days that counts by the hour are kept",
            Setting::CountsDaysDays => "days that counts by the day are kept",
            Setting::BounceReview => "hard bounces of 10,000 messages from which on an account is reviewed",
            Setting::BouncePause => "hard bounces of 10,000 messages from which on an account is paused",
            Setting::ComplaintReview => "complaints of 10,000 messages from which on an account is reviewed",
            Setting::ComplaintPause => "complaints of 10,000 messages from which on an account is paused",
            Setting::FiguresPause => "1: an account whose figures are over the limit is paused; 0: it is only reviewed",
            Setting::QuotaPerDay => {
                "recipients in 24 hours that an account may write to in each region when it comes into production; 0: no limit"
            }
            Setting::QuotaPerSecond => "recipients a second, likewise; only with quota_per_day",
        }
    }

    fn max(self) -> i64 {
        match self {
            Setting::ChecksRequired | Setting::FiguresPause => 1,
            Setting::BounceReview | Setting::BouncePause | Setting::ComplaintReview | Setting::ComplaintPause => 10_000,
            Setting::RestDays
            | Setting::DkimRotationDays
            | Setting::EventsDays
            | Setting::CountsMinutesDays
            | Setting::CountsHoursDays
            | Setting::CountsDaysDays => 3_650,
            Setting::EventsGibMax => 1_000_000,
            Setting::CheckMaxAgeHours => 87_600,
            Setting::DedicatedIpsMax | Setting::DomainsMax | Setting::AddressesMax => 1_000_000,
            Setting::QuotaPerDay => 1_000_000_000,
            Setting::QuotaPerSecond => 100_000,
        }
    }

    #[must_use]
    pub fn of(name: &str) -> Option<Setting> {
        SETTINGS.into_iter().find(|setting| setting.name() == name)
    }
}

pub(crate) async fn value(conn: &mut AnyConnection, setting: Setting) -> Result<i64, Refusal> {
    let found = row(conn, q!("SELECT value FROM setting WHERE name = $1", setting.name())).await?;
    let written = found.map(|row| row.text(0)).transpose()?;
    Ok(written.and_then(|text| text.parse().ok()).unwrap_or_else(|| setting.default()))
}

impl Office {
    /// Every setting with its value.
    pub async fn settings(&self, by: &Actor) -> Result<Vec<(Setting, i64)>, Refusal> {
        by.may_watch()?;
        let mut conn = self.store().read().await?;
        let written = rows(&mut conn, q!("SELECT name, value FROM setting")).await?;
        let mut values: Vec<(Setting, i64)> =
            SETTINGS.into_iter().map(|setting| (setting, setting.default())).collect();
        for row in written {
            let (name, value) = (row.text(0)?, row.text(1)?.parse());
            if let (Some(place), Ok(value)) = (values.iter_mut().find(|(setting, _)| setting.name() == name), value) {
                place.1 = value;
            }
        }
        Ok(values)
    }

    pub async fn set_setting(&self, by: &Actor, setting: Setting, to: i64) -> Result<(), Refusal> {
        by.may_operate()?;
        if !(0..=setting.max()).contains(&to) {
            return Err(Refusal::invalid(
                "value",
                format!("{} is from 0 to {}.", setting.name(), setting.max()),
                "Give a whole number in that range.",
            ));
        }
        let mut change = self.store().change().await?;
        let was = value(change.conn(), setting).await?;
        let put = q!(
            "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            setting.name(),
            to.to_string(),
        );
        run(change.conn(), put).await?;
        let detail = json!({ "was": was, "is": to });
        let line = Line { subject: Subject::Setting, id: setting.name(), account: None, action: "set", detail };
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await
    }
}
