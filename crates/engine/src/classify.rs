//! What did the provider's answer mean?
//!
//! Rules are data (`rules/replies.toml`; its head says how a rule reads). Order of trust: the provider's rules, then the rules for
//! everybody, then the enhanced code, then the basic code. A 4yz may always be tried again, whatever the enhanced code says.

mod words;

use crate::rulefile::{RuleError, Source, duration};
use mail::reply::{Enhanced, Reply};
use regex::bytes::{RegexSet, RegexSetBuilder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// A reply, understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Meaning {
    pub class: Class,
    pub subtype: Subtype,
    /// The rule of the rule file that said so; "enhanced x.1.1" or "basic 550" where a table did.
    pub rule: Arc<str>,
}

impl Meaning {
    const OWN: &str = "own";

    /// A meaning of our own making, where no remote spoke.
    #[must_use]
    pub fn own(class: Class, subtype: Subtype) -> Meaning {
        Meaning { class, subtype, rule: Arc::from(Meaning::OWN) }
    }

    #[must_use]
    pub fn is_own(&self) -> bool {
        *self.rule == *Meaning::OWN
    }
}

/// R5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The address does not take mail and will not.
    Hard,
    /// It may work later.
    Soft,
    /// It is about us: our IP, our domain, our content.
    Block,
    /// Our own policy or set-up.
    Admin,
    /// The reply does not say.
    Undetermined,
    /// We are to send slower.
    Throttle,
}

/// A closer word for the class. Vendors' codes are translated from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Subtype {
    General,
    UnknownUser,
    UnknownDomain,
    Inactive,
    MailboxFull,
    TooLarge,
    TooManyRecipients,
    Greylisted,
    IpRate,
    IpReputation,
    NetblockRate,
    DomainRate,
    DomainReputation,
    RecipientRate,
    LinkReputation,
    Connections,
    SessionLength,
    Overload,
    BlockList,
    SpamContent,
    Attachment,
    DuplicateMessageId,
    Authentication,
    ReverseDns,
    TlsNeeded,
    Policy,
    Relaying,
    DnsFailure,
    Timeout,
    Connection,
    Protocol,
    SenderAddress,
    Loop,
    Expired,
    SystemFull,
    Transient,
    Own,
}

/// What the rule says is to be done with the message, whatever the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageFate {
    /// 4yz tries again, 5yz is the end.
    ByCode,
    Retry,
    Bounce,
}

/// What happens besides, after the `after`-th such answer `within` a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    pub kind: ReactionKind,
    pub scope: Scope,
    pub after: u32,
    pub within: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReactionKind {
    /// `per_minute`: at most so many; `None`: half of what it was. Half the connections in both cases.
    Slow {
        per_minute: Option<u32>,
        lasts: Duration,
    },
    Connections {
        max: u32,
        lasts: Duration,
    },
    PerConnection {
        max: u32,
        lasts: Duration,
    },
    /// `None`: until an operator resumes it.
    Suspend {
        lasts: Option<Duration>,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// This IP at this provider.
    #[default]
    Lane,
    /// All our IPs of the neighbourhood at this provider.
    Netblock,
    /// The sending domain at this provider.
    SenderDomain,
    /// The account's stream at this provider.
    Stream,
}

/// A reply's meaning, and what the rule that found it wants done.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    pub meaning: Meaning,
    pub fate: MessageFate,
    pub retry_in: Option<Duration>,
    pub tries_max: Option<u16>,
    pub alert: bool,
    pub reactions: &'a [Reaction],
}

impl Reading<'_> {
    /// Is this the end for a recipient that has been attempted `attempts` times, this one included?
    #[must_use]
    pub fn is_final(&self, reply: &Reply, attempts: u16) -> bool {
        let by_rule = match self.fate {
            MessageFate::Bounce => true,
            MessageFate::Retry => false,
            MessageFate::ByCode => !reply.is_transient(),
        };
        by_rule || self.tries_max.is_some_and(|max| attempts >= max)
    }
}

/// The rule file, ready for use.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    texts: RegexSet,
    enhanced: Vec<EnhancedRow>,
    basic: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    name: Arc<str>,
    providers: Vec<String>,
    codes: Vec<CodePattern>,
    enhanced: Vec<EnhancedPattern>,
    class: Class,
    subtype: Subtype,
    fate: MessageFate,
    retry_in: Option<Duration>,
    tries_max: Option<u16>,
    alert: bool,
    reactions: Vec<Reaction>,
}

#[derive(Clone, Debug)]
struct EnhancedRow {
    name: Arc<str>,
    patterns: Vec<EnhancedPattern>,
    permanent: Verdict,
    transient: Verdict,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    class: Class,
    subtype: Subtype,
    #[serde(default)]
    alert: bool,
}

impl Rules {
    /// The rules that come with this release.
    #[must_use]
    pub fn shipped() -> Rules {
        Rules::parse(include_str!("../rules/replies.toml")).expect("the shipped file is read by a test")
    }

    pub fn parse(text: &str) -> Result<Rules, RuleError> {
        let source = Source(text);
        let written: WrittenFile = toml::from_str(text).map_err(|fault| source.unreadable(&fault))?;
        let mut names = BTreeSet::new();
        let mut rules = Vec::with_capacity(written.rule.len());
        let mut patterns = Vec::with_capacity(written.rule.len());
        for rule in &written.rule {
            let name = rule.get_ref().name.get_ref();
            if !names.insert(name.clone()) {
                return Err(source.wrong(&rule.get_ref().name.span(), name, "name", "another rule has this name"));
            }
            let (rule, pattern) = rule.get_ref().ready(source)?;
            rules.push(rule);
            patterns.push(pattern);
        }
        // Stable: a provider's rules before those for everybody, each in the file's order.
        let mut order: Vec<usize> = (0..rules.len()).collect();
        order.sort_by_key(|place| rules[*place].providers.is_empty());
        let patterns: Vec<&String> = order.iter().map(|place| &patterns[*place]).collect();
        let rules = order.iter().map(|place| rules[*place].clone()).collect();
        let texts = set(&patterns).map_err(|fault| source.wrong(&(0..0), "file", "text", fault.to_string()))?;
        let enhanced = written.enhanced.iter().map(|row| row.ready(source)).collect::<Result<_, _>>()?;
        let basic = written.basic.iter().map(|row| row.ready(source)).collect::<Result<_, _>>()?;
        Ok(Rules { rules, texts, enhanced, basic })
    }

    /// Which rules are for which providers: a name that no provider has is a rule that never fits.
    pub fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules.iter().flat_map(Rule::named)
    }

    /// `provider` is a name of the provider file, or the site's own name, which no rule names.
    #[must_use]
    pub fn classify(&self, provider: &str, reply: &Reply) -> Reading<'_> {
        let text = normalised(&reply.text);
        let matched = self.texts.matches(text.as_bytes());
        let hit = matched.iter().map(|place| &self.rules[place]).find(|rule| rule.fits(provider, reply));
        if let Some(rule) = hit {
            return rule.reading(Arc::clone(&rule.name));
        }
        if let Some(reading) = reply.enhanced.and_then(|code| self.by_enhanced(code, reply)) {
            return reading;
        }
        if let Some(row) = self.basic.iter().find(|row| row.fits(provider, reply)) {
            return row.reading(Arc::clone(&row.name));
        }
        let meaning = Meaning { class: Class::Undetermined, subtype: Subtype::General, rule: Arc::from("none") };
        plain(meaning, false)
    }

    fn by_enhanced(&self, code: Enhanced, reply: &Reply) -> Option<Reading<'_>> {
        let row = self.enhanced.iter().find(|row| row.patterns.iter().any(|pattern| pattern.fits(code)))?;
        let verdict = if reply.is_transient() { row.transient } else { row.permanent };
        let meaning = Meaning { class: verdict.class, subtype: verdict.subtype, rule: Arc::clone(&row.name) };
        Some(plain(meaning, verdict.alert))
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::shipped()
    }
}

fn plain(meaning: Meaning, alert: bool) -> Reading<'static> {
    Reading { meaning, fate: MessageFate::ByCode, retry_in: None, tries_max: None, alert, reactions: &[] }
}

impl Rule {
    fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        self.providers.iter().map(|provider| (&*self.name, provider.as_str()))
    }

    fn fits(&self, provider: &str, reply: &Reply) -> bool {
        let named = self.providers.is_empty() || self.providers.iter().any(|name| name == provider);
        let coded = self.codes.is_empty() || self.codes.iter().any(|code| code.fits(reply.code));
        let enhanced = self.enhanced.is_empty()
            || reply.enhanced.is_some_and(|code| self.enhanced.iter().any(|pattern| pattern.fits(code)));
        named && coded && enhanced
    }

    fn reading(&self, name: Arc<str>) -> Reading<'_> {
        Reading {
            meaning: Meaning { class: self.class, subtype: self.subtype, rule: name },
            fate: self.fate,
            retry_in: self.retry_in,
            tries_max: self.tries_max,
            alert: self.alert,
            reactions: &self.reactions,
        }
    }
}

/// The limit is above what the shipped rules need by far: with the 2 MiB it has by default, the lazy automaton of some hundred
/// patterns is thrown away and rebuilt for each reply, a thousandfold slower.
fn set(patterns: &[&String]) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns)
        .case_insensitive(true)
        .unicode(false)
        .size_limit(64 << 20)
        .dfa_size_limit(64 << 20)
        .build()
}

/// Compared are at most so many octets: what a rule looks for is at the front.
const TEXT_OCTETS_MAX: usize = 4_096;

/// One line: "NNN-" and enhanced codes repeated at line starts are dropped, white space is collapsed.
#[must_use]
pub fn normalised(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(TEXT_OCTETS_MAX));
    for line in text.lines() {
        let mut rest = line.trim_start();
        if let Some(after) = rest.get(3..).filter(|_| rest.as_bytes()[..3].iter().all(u8::is_ascii_digit))
            && let Some(after) = after.strip_prefix(['-', ' '])
        {
            rest = after;
        }
        if let Some((first, after)) = rest.split_once(' ')
            && first.parse::<Enhanced>().is_ok()
        {
            rest = after;
        }
        for word in rest.split_whitespace() {
            if out.len() + word.len() > TEXT_OCTETS_MAX {
                return out;
            }
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
        }
    }
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CodePattern {
    Exactly(u16),
    Class(u16),
}

impl CodePattern {
    fn read(text: &str) -> Option<CodePattern> {
        if let Some(class) = text.strip_suffix("xx") {
            return class.parse().ok().filter(|class| matches!(class, 4 | 5)).map(CodePattern::Class);
        }
        text.parse().ok().filter(|code| (400..600).contains(code)).map(CodePattern::Exactly)
    }

    fn fits(self, code: u16) -> bool {
        match self {
            CodePattern::Exactly(own) => own == code,
            CodePattern::Class(class) => code / 100 == class,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EnhancedPattern {
    class: Option<u8>,
    subject: u16,
    /// Inclusive.
    detail: (u16, u16),
}

impl EnhancedPattern {
    /// "4.7.28", "x.7.28", "5.7.606-649", "x.5.x".
    fn read(text: &str) -> Option<EnhancedPattern> {
        let mut parts = text.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let class = match class {
            "x" => None,
            "4" => Some(4),
            "5" => Some(5),
            _ => return None,
        };
        let detail = match (detail, detail.split_once('-')) {
            ("x", _) => (0, u16::MAX),
            (_, Some((from, to))) => (from.parse().ok()?, to.parse().ok()?),
            (one, None) => {
                let one = one.parse().ok()?;
                (one, one)
            }
        };
        (detail.0 <= detail.1).then_some(())?;
        Some(EnhancedPattern { class, subject: subject.parse().ok()?, detail })
    }

    fn fits(self, code: Enhanced) -> bool {
        self.class.is_none_or(|class| class == code.class)
            && self.subject == code.subject
            && (self.detail.0..=self.detail.1).contains(&code.detail)
    }
}

// The file as written.

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    #[serde(default)]
    rule: Vec<Spanned<WrittenRule>>,
    #[serde(default)]
    enhanced: Vec<WrittenEnhanced>,
    #[serde(default)]
    basic: Vec<WrittenBasic>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn list(&self) -> Vec<&str> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more.iter().map(String::as_str).collect(),
        }
    }
}

type Listed = Option<Spanned<OneOrMore>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    name: Spanned<String>,
    provider: Listed,
    code: Listed,
    enhanced: Listed,
    text: Option<Spanned<String>>,
    class: Class,
    subtype: Subtype,
    message: Option<WrittenFate>,
    retry_in: Option<Spanned<String>>,
    tries_max: Option<u16>,
    #[serde(default)]
    alert: bool,
    #[serde(default)]
    then: Vec<Spanned<WrittenReaction>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenFate {
    Retry,
    Bounce,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenReaction {
    slow: Option<String>,
    connections: Option<u32>,
    per_connection: Option<u32>,
    suspend: Option<String>,
    #[serde(default)]
    scope: Scope,
    #[serde(rename = "for")]
    lasts: Option<String>,
    #[serde(default = "once")]
    after: u32,
    within: Option<String>,
}

fn once() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEnhanced {
    code: Spanned<OneOrMore>,
    permanent: Verdict,
    transient: Verdict,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBasic {
    code: Spanned<OneOrMore>,
    class: Class,
    subtype: Subtype,
}

impl WrittenRule {
    fn ready(&self, source: Source<'_>) -> Result<(Rule, String), RuleError> {
        let name = self.name.get_ref();
        let codes = patterns(source, name, "code", self.code.as_ref(), CodePattern::read)?;
        let enhanced = patterns(source, name, "enhanced", self.enhanced.as_ref(), EnhancedPattern::read)?;
        let pattern = match &self.text {
            None => String::new(),
            Some(text) => {
                set(&[text.get_ref()])
                    .map_err(|fault| source.wrong(&text.span(), name, "text", last_line(&fault.to_string())))?;
                text.get_ref().clone()
            }
        };
        if pattern.is_empty() && enhanced.is_empty() && codes.is_empty() {
            let what = "without code, enhanced or text it would fit every reply";
            return Err(source.wrong(&self.name.span(), name, "text", what));
        }
        let retry_in = match &self.retry_in {
            None => None,
            Some(text) => {
                let read = duration(text.get_ref());
                Some(read.map_err(|what| source.wrong(&text.span(), name, "retry_in", what))?)
            }
        };
        let reactions = self.then.iter().map(|reaction| {
            let read = reaction.get_ref().ready();
            read.map_err(|what| source.wrong(&reaction.span(), name, "then", what))
        });
        let rule = Rule {
            name: Arc::from(name.as_str()),
            providers: self.provider.as_ref().map_or_else(Vec::new, |list| owned(list.get_ref())),
            codes,
            enhanced,
            class: self.class,
            subtype: self.subtype,
            fate: match self.message {
                None => MessageFate::ByCode,
                Some(WrittenFate::Retry) => MessageFate::Retry,
                Some(WrittenFate::Bounce) => MessageFate::Bounce,
            },
            retry_in,
            tries_max: self.tries_max,
            alert: self.alert,
            reactions: reactions.collect::<Result<_, _>>()?,
        };
        Ok((rule, pattern))
    }
}

fn owned(list: &OneOrMore) -> Vec<String> {
    list.list().into_iter().map(str::to_owned).collect()
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or(text).trim().to_owned()
}

fn patterns<T>(
    source: Source<'_>,
    rule: &str,
    field: &str,
    listed: Option<&Spanned<OneOrMore>>,
    read: fn(&str) -> Option<T>,
) -> Result<Vec<T>, RuleError> {
    let Some(listed) = listed else {
        return Ok(Vec::new());
    };
    let one = |text: &str| {
        read(text)
            .ok_or_else(|| source.wrong(&listed.span(), rule, field, format!("\"{text}\" is not a {field} pattern")))
    };
    listed.get_ref().list().into_iter().map(one).collect()
}

impl WrittenReaction {
    fn ready(&self) -> Result<Reaction, String> {
        let lasts = self.lasts.as_deref().map(duration).transpose()?;
        let needed = || lasts.ok_or_else(|| "needs `for`: how long it lasts".to_owned());
        let kind = match (&self.slow, self.connections, self.per_connection, &self.suspend) {
            (Some(rate), None, None, None) => ReactionKind::Slow { per_minute: rate_of(rate)?, lasts: needed()? },
            (None, Some(max @ 1..), None, None) => ReactionKind::Connections { max, lasts: needed()? },
            (None, None, Some(max @ 1..), None) => ReactionKind::PerConnection { max, lasts: needed()? },
            (None, None, None, Some(time)) if lasts.is_none() => {
                let lasts = if time == "released" { None } else { Some(duration(time)?) };
                ReactionKind::Suspend { lasts }
            }
            (None, None, None, Some(_)) => {
                return Err("`suspend` says itself how long; leave `for` out".into());
            }
            _ => return Err("is to hold one of slow, connections, per_connection, suspend, above nothing".into()),
        };
        let within = self.within.as_deref().map_or(Ok(Duration::from_secs(3_600)), duration)?;
        if self.after == 0 {
            return Err("`after` counts from 1".into());
        }
        Ok(Reaction { kind, scope: self.scope, after: self.after, within })
    }
}

/// "half", or "10/min".
fn rate_of(text: &str) -> Result<Option<u32>, String> {
    if text == "half" {
        return Ok(None);
    }
    let count = text.strip_suffix("/min").and_then(|count| count.parse().ok()).filter(|count| *count > 0);
    count.map(Some).ok_or_else(|| format!("\"{text}\" is neither \"half\" nor a rate such as \"10/min\""))
}

impl WrittenEnhanced {
    fn ready(&self, source: Source<'_>) -> Result<EnhancedRow, RuleError> {
        let name = format!("enhanced {}", self.code.get_ref().list().join(" "));
        let patterns = patterns(source, &name, "code", Some(&self.code), EnhancedPattern::read)?;
        Ok(EnhancedRow { name: Arc::from(name), patterns, permanent: self.permanent, transient: self.transient })
    }
}

impl WrittenBasic {
    fn ready(&self, source: Source<'_>) -> Result<Rule, RuleError> {
        let name = format!("basic {}", self.code.get_ref().list().join(" "));
        let codes = patterns(source, &name, "code", Some(&self.code), CodePattern::read)?;
        Ok(Rule {
            name: Arc::from(name),
            providers: Vec::new(),
            codes,
            enhanced: Vec::new(),
            class: self.class,
            subtype: self.subtype,
            fate: MessageFate::ByCode,
            retry_in: None,
            tries_max: None,
            alert: false,
            reactions: Vec::new(),
        })
    }
}
