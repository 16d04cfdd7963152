//! Does the engine do what the scripts in `scenarios/` tell? Each script's trace is compared with the golden file beside it.
//!
//! A script's lines: `given` sets the world up, `when` makes something happen, `then` says what must have come of it.
//! `UPDATE_GOLDEN=1` rewrites the traces; read the difference before you keep it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a failing unwrap is a failing test; a test reads its files

mod world;

use engine::aftermath;
use engine::attempt::{ConnectFailure, ConnectFailureKind, Stage};
use engine::event::EventKind;
use engine::id::{MessageId, StreamId};
use engine::snapshot::{IpState, Plan};
use engine::{Filter, Input, Limits, Order, Resolution};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use world::{Answer, Arrange, World, ip, reply, snapshot};

#[test]
fn every_script_goes_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|ending| ending == "txt"));
    scripts.sort();
    assert!(scripts.len() >= 15);
    let mut wrong = Vec::new();
    for path in scripts {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        // One script that fails does not hide the next.
        let Ok(trace) = std::panic::catch_unwind(|| Script::play(&text, &name).join("\n") + "\n") else {
            wrong.push(format!("{name}: see above"));
            continue;
        };
        let golden = path.with_extension("golden");
        if std::env::var("UPDATE_GOLDEN").is_ok() {
            std::fs::write(&golden, &trace).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if trace != expected {
            let first = trace.lines().zip(expected.lines()).find(|(found, told)| found != told);
            wrong.push(format!("{name}: first difference {first:?}\n{trace}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

struct Script {
    world: World,
    ids: BTreeMap<String, MessageId>,
}

impl Script {
    fn play(text: &str, name: &str) -> Vec<String> {
        let ips = text.lines().find_map(|line| line.strip_prefix("given ips ")).unwrap_or("192.0.2.1");
        let mut snapshot = snapshot(&ips.split_whitespace().collect::<Vec<_>>());
        // Round figures in the traces; the dice have tests of their own.
        snapshot.delivery.retry.jitter_percent = 0;
        let mut script = Script { world: World::new(snapshot, Limits::default(), 7), ids: BTreeMap::new() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(given) = line.strip_prefix("given ") {
                script.given(given);
            } else if let Some(when) = line.strip_prefix("when ") {
                script.world.trace.push(format!("-- {when}"));
                script.when(when);
            } else if let Some(then) = line.strip_prefix("then ") {
                script.then(then, name);
            } else {
                panic!("{name}: {line}");
            }
            script.world.engine.check_invariants();
        }
        script.world.check_rebuilt();
        script.world.trace
    }

    fn given(&mut self, line: &str) {
        let (what, rest) = line.split_once(' ').unwrap();
        match what {
            "ips" => {}
            // dns DOMAIN site NAME HOST..|unknown|null|later|private
            "dns" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let answer = match words[1] {
                    "site" => Resolution::Site {
                        site: words[2].into(),
                        hosts: words[3..].iter().map(|host| (*host).to_owned()).collect(),
                        valid_for: Duration::from_secs(3600),
                    },
                    "unknown" => Resolution::NoSuchDomain,
                    "null" => Resolution::NullMx,
                    "later" => Resolution::Later { said: "SERVFAIL".into() },
                    "private" => Resolution::Refused { said: "127.0.0.1 is loopback".into() },
                    other => panic!("{other}"),
                };
                self.world.dns.insert(words[0].into(), answer);
            }
            "connect" => {
                let (domain, how) = rest.split_once(' ').unwrap();
                let failure = |kind, reply| ConnectFailure {
                    kind,
                    host: Some(format!("mx.{domain}")),
                    reply,
                    text: "no connection".into(),
                };
                match how.split_once(' ').unwrap_or((how, "")) {
                    ("ok", _) => drop(self.world.connect.remove(domain)),
                    ("refused", _) => {
                        drop(self.world.connect.insert(domain.into(), failure(ConnectFailureKind::Refused, None)));
                    }
                    ("tls", _) => {
                        drop(self.world.connect.insert(domain.into(), failure(ConnectFailureKind::Tls, None)));
                    }
                    ("banner", text) => {
                        drop(
                            self.world
                                .connect
                                .insert(domain.into(), failure(ConnectFailureKind::Greeting, Some(reply(text)))),
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
            // answers ADDRESS = STAGE REPLY ; ..
            "answers" => {
                let (address, list) = rest.split_once(" = ").unwrap();
                let stage = |name: &str| match name {
                    "mail" => Stage::Mail,
                    "rcpt" => Stage::Recipient,
                    "data" => Stage::Data,
                    "end" => Stage::End,
                    other => panic!("{other}"),
                };
                // "lost STAGE", "closing STAGE REPLY", "unreadable WORDS", "STAGE REPLY"
                let one = |text: &str| {
                    let (first, rest) = text.trim().split_once(' ').unwrap();
                    match first {
                        "lost" => Answer::Lost(stage(rest)),
                        "unreadable" => Answer::Unreadable(rest.to_owned()),
                        "closing" => {
                            let (name, text) = rest.split_once(' ').unwrap();
                            Answer::Closing(stage(name), reply(text))
                        }
                        name => Answer::Reply(stage(name), reply(rest)),
                    }
                };
                let list = list.split(" ; ").map(one).collect();
                self.world.answers.insert(address.into(), list);
            }
            "recipients-max" => self.world.recipients_max = rest.parse().unwrap(),
            // account NAME standard|enterprise [DEFAULT-POOL]
            "account" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let plan = if words[1] == "enterprise" { Plan::Enterprise } else { Plan::Standard };
                self.world.change(|snapshot| snapshot.account(words[0], plan, words.get(2).copied()));
            }
            // pool NAME of ACCOUNT|shared with IP..
            "pool" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let owner = Some(words[2]).filter(|owner| *owner != "shared");
                let ips: Vec<_> = words[4..].iter().map(|text| ip(text)).collect();
                self.world.change(|snapshot| snapshot.pool(words[0], owner, &ips));
            }
            "missing" => drop(self.world.missing.insert(ip(rest))),
            "there" => drop(self.world.missing.remove(&ip(rest))),
            other => panic!("{other}"),
        }
    }

    fn when(&mut self, line: &str) {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        match what {
            // accept NAME from ACCOUNT[/STREAM] to ADDRESS.. [key=value ..]
            "accept" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let number = self.ids.len() as u128 + 1;
                let (account, stream) = words[2].split_once('/').unwrap_or((words[2], "default"));
                let to: Vec<&str> = words[4..].iter().copied().filter(|word| word.contains('@')).collect();
                let mut many = Vec::new();
                for address in &to {
                    match address.split_once('#') {
                        Some((count, at)) => {
                            many.extend((0..count.parse::<u32>().unwrap()).map(|n| format!("u{n}{at}")));
                        }
                        None => many.push((*address).to_owned()),
                    }
                }
                let to: Vec<&str> = many.iter().map(String::as_str).collect();
                let option = |name: &str| words[4..].iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
                let mut envelope = if self.world.snapshot.accounts.contains_key(account) {
                    let due = option("due").map(time_of).unwrap_or_default();
                    self.world.routed(number, account, &to, option("pool"), due)
                } else {
                    self.world.envelope(number, account, &to)
                };
                envelope.stream = StreamId::new(stream);
                for option in words[4..].iter().filter_map(|word| word.split_once('=')) {
                    match option {
                        ("pool", _) => {}
                        ("life", time) => envelope.expires_at = self.world.now + time_of(time),
                        ("due", time) => envelope.due_at = self.world.now + time_of(time),
                        ("ip", address) => envelope.route.as_mut().unwrap().chosen = ip(address),
                        ("notify", "yes") => envelope = World::notified(envelope),
                        other => panic!("{other:?}"),
                    }
                }
                self.ids.insert(words[0].into(), envelope.message);
                self.world.names.insert(envelope.message, words[0].into());
                self.world.accept(envelope, None);
            }
            "run" => self.world.run(time_of(rest)),
            "hold" => self.world.tell(Input::Order(Order::Hold(self.filter(rest)))),
            "release" => self.world.tell(Input::Order(Order::Release(self.filter(rest)))),
            "retry" => self.world.tell(Input::Order(Order::Retry(self.filter(rest)))),
            "delete" => self.world.tell(Input::Order(Order::Delete(self.filter(rest)))),
            "suspend" | "resume" => {
                let (address, provider) = rest.split_once(' ').unwrap();
                let (ip, provider) = (ip(address), provider.to_owned());
                let order = if what == "suspend" {
                    Order::SuspendLane { ip, provider, until: None }
                } else {
                    Order::ResumeLane { ip, provider }
                };
                self.world.tell(Input::Order(order));
            }
            "snapshot-without" => {
                self.world.change(|snapshot| drop(Arc::make_mut(&mut snapshot.ips).remove(&ip(rest))));
            }
            // move IP to POOL
            "move" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                self.world.change(|snapshot| {
                    snapshot.take_from_pools(ip(words[0]));
                    let pool = Arc::make_mut(&mut snapshot.pools).get_mut(words[2]).unwrap();
                    Arc::make_mut(pool).ips.push(ip(words[0]));
                });
            }
            "delete-pool" => self.world.change(|snapshot| snapshot.delete_pool(rest)),
            // Given back: out of its pool, and it takes nothing new.
            "relinquish" => self.world.change(|snapshot| {
                snapshot.take_from_pools(ip(rest));
                snapshot.set_state(ip(rest), IpState::Draining);
            }),
            "activate" => self.world.change(|snapshot| snapshot.set_state(ip(rest), IpState::Active)),
            "cancel" => self.world.tell(Input::Order(Order::Cancel(self.ids[rest]))),
            "restart" => self.restart(),
            "stop" => self.world.tell(Input::Stopping),
            other => panic!("{other}"),
        }
    }

    /// A new engine gets what the spool holds.
    fn restart(&mut self) {
        let envelopes: Vec<_> = self.world.envelopes.values().cloned().collect();
        let mut fresh = World::starting(self.world.snapshot.clone(), Limits::default(), 7);
        std::mem::swap(&mut fresh, &mut self.world);
        let old = fresh;
        self.world.now = old.now;
        self.world.trace = old.trace;
        self.world.names = old.names;
        self.world.dns = old.dns;
        self.world.answers = old.answers;
        self.world.fates = old.fates;
        self.world.connect = old.connect;
        self.world.tell(Input::Learned(old.engine.learned()));
        for envelope in envelopes {
            let state = old.states.get(&envelope.message).cloned();
            if let Some(state) = &state {
                self.world.states.insert(envelope.message, state.clone());
            }
            let over = state
                .as_ref()
                .is_some_and(|state| state.recipients.iter().all(engine::envelope::RecipientState::finished));
            if !over {
                self.world.accept((*envelope).clone(), state);
            }
        }
        self.world.tell(Input::Recovered);
    }

    fn filter(&self, line: &str) -> Filter {
        let mut filter = Filter::default();
        for (key, value) in line.split_whitespace().filter_map(|word| word.split_once('=')) {
            match key {
                "message" => filter.message = Some(self.ids[value]),
                "account" => filter.account = Some(engine::id::AccountId::new(value)),
                "domain" => filter.domain = mail::address::Domain::parse(value).ok(),
                "ip" => filter.ip = Some(ip(value)),
                "provider" => filter.provider = Some(value.to_owned()),
                other => panic!("{other}"),
            }
        }
        filter
    }

    fn then(&mut self, line: &str, name: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [kind, "events", count] => {
                let found: usize = self.world.fates.values().flatten().filter(|own| own.code() == kind).count();
                assert_eq!(found.to_string(), count, "{name}: {line}\n{}", self.world.trace.join("\n"));
            }
            [message, "ended", fate] => {
                let id = self.ids[message];
                // What comes back later changes no fate.
                let is_fate = |kind: &&EventKind| !aftermath::KINDS.contains(kind);
                let last = |kinds: &Vec<EventKind>| kinds.iter().rfind(is_fate).unwrap().code().to_owned();
                let ends: Vec<String> =
                    self.world.fates.iter().filter(|((own, _), _)| *own == id).map(|(_, kinds)| last(kinds)).collect();
                assert!(!ends.is_empty() && ends.iter().all(|own| own == fate), "{name}: {line}: {ends:?}");
            }
            [message, "waits", code] => {
                let shown = self.world.engine.show(self.ids[message]).expect(line);
                let found: Vec<&str> = shown.recipients.iter().map(|shown| shown.why.code()).collect();
                assert!(
                    found.iter().all(|own| *own == code),
                    "{name}: {line}: {found:?}\n{}",
                    self.world.trace.join("\n")
                );
            }
            ["empty"] => assert_eq!(self.world.engine.in_flight().messages, 0, "{name}: something is queued"),
            [message, "leaves-from", address] => {
                let shown = self.world.engine.show(self.ids[message]).expect(line);
                let found = shown.home.map_or("undecided".to_owned(), |home| home.ip.to_string());
                assert_eq!(found, address, "{name}: {line}");
            }
            [message, "is", cancellable] => {
                let found = format!("{:?}", self.world.engine.cancellable(self.ids[message])).to_lowercase();
                assert_eq!(found, cancellable, "{name}: {line}");
            }
            ["queued", count] => {
                assert_eq!(self.world.engine.in_flight().messages.to_string(), count, "{name}: {line}");
            }
            ["attempts", count] => assert_eq!(
                self.world.attempts.len().to_string(),
                count,
                "{name}: {line}\n{}",
                self.world.trace.join("\n")
            ),
            ["opens", count] => {
                assert_eq!(self.world.opens.to_string(), count, "{name}: {line}\n{}", self.world.trace.join("\n"));
            }
            ["sessions", count] => {
                assert_eq!(self.world.engine.in_flight().sessions.to_string(), count, "{name}: {line}");
            }
            ["notices", count] => assert_eq!(self.world.notices.len().to_string(), count, "{name}: {line}"),
            ["trace", "holds", ..] => {
                let text = line.split_once("holds ").unwrap().1;
                assert!(
                    self.world.trace.iter().any(|line| line.contains(text)),
                    "{name}: no line holds {text}\n{}",
                    self.world.trace.join("\n")
                );
            }
            ["trace", "lacks", ..] => {
                let text = line.split_once("lacks ").unwrap().1;
                assert!(!self.world.trace.iter().any(|line| line.contains(text)), "{name}: a line holds {text}");
            }
            _ => panic!("{name}: {line}"),
        }
    }
}

fn time_of(text: &str) -> Duration {
    if let Some(millis) = text.strip_suffix("ms") {
        return Duration::from_millis(millis.parse().unwrap());
    }
    engine::rulefile::duration(text).unwrap()
}
