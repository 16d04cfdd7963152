//! Does the return path's domain take its bounces at our host?

use super::known::{Answer, Known};
use super::{Checked, Flaw, State, absent, later, quoted};
use crate::address::Domain;

pub(super) fn judge(
    checked: &mut Checked,
    domain: &Domain,
    host: &Domain,
    preference: u16,
    known: &mut Known,
) -> Option<()> {
    let ours = |found: &str| found == host.as_str();
    let holds = |answer: &Answer| matches!(answer, Answer::Hosts(hosts) if hosts.iter().any(|(_, found)| ours(found)));
    let name = checked.name.clone();
    let hosts = match known.ask(checked.kind, &name)? {
        Answer::Hosts(hosts) if !hosts.is_empty() => hosts,
        Answer::Later(why) => {
            later(checked, &why);
            return Some(());
        }
        _ => return absent(checked, domain, known, &holds),
    };
    checked.found = hosts.iter().map(|(preference, found)| format!("{preference} {}", quoted(found))).collect();
    if hosts.iter().all(|(_, found)| found.is_empty()) {
        let words = format!(
            "the MX record at {name} says that the domain takes no mail, so bounces are lost. Publish instead: {preference} \
             {host}"
        );
        checked.say(Flaw::NullMx, State::Wrong, words);
        return Some(());
    }
    let others: Vec<&str> = hosts.iter().map(|(_, found)| &**found).filter(|found| !ours(found)).collect();
    let ours_at: Vec<u16> = hosts.iter().filter(|(_, found)| ours(found)).map(|(preference, _)| *preference).collect();
    match (others.first(), ours_at.first()) {
        (Some(other), Some(_)) => {
            let words = format!(
                "{name} has other mail hosts beside {host}, such as {}: bounces that go there are lost. Remove the others",
                quoted(other)
            );
            checked.say(Flaw::SeveralHosts, State::Wrong, words);
        }
        (Some(other), None) => {
            let appended = other.strip_prefix(host.as_str()).is_some_and(|rest| rest.starts_with('.'));
            let mend = if appended {
                "your DNS host has added a domain to it; end the name with a dot"
            } else {
                "a return path needs a domain of its own, that nobody else gets mail at"
            };
            let words =
                format!("the MX record at {name} names {}. It must be: {preference} {host}; {mend}", quoted(other));
            checked.say(Flaw::OtherHost, State::Wrong, words);
        }
        (None, Some(found)) if *found != preference => {
            let words = format!(
                "the MX record at {name} has the preference {found}. With one host it makes no difference; we suggest \
                 {preference}"
            );
            checked.say(Flaw::OtherPreference, State::Good, words);
        }
        (None, _) => {}
    }
    Some(())
}
