//! Does a name lead to ours by CNAME?

use super::known::{Answer, Kind, Known};
use super::{Checked, Flaw, State, absent, later, quoted};
use crate::address::Domain;

/// Chains that are longer are loops, or as good as.
const STEPS_MAX: usize = 8;

pub(super) fn judge(checked: &mut Checked, domain: &Domain, target: &Domain, known: &mut Known) -> Option<()> {
    let holds = |answer: &Answer| matches!(answer, Answer::Target(found) if found == target.as_str());
    let name = checked.name.clone();
    let first = match known.ask(Kind::Cname, &name)? {
        Answer::Target(first) => first,
        Answer::Later(why) => {
            later(checked, &why);
            return Some(());
        }
        Answer::NoData => return instead(checked, domain, target, known),
        _ => return absent(checked, domain, known, &holds),
    };
    checked.found = vec![quoted(&first)];
    let mut found = first.clone();
    for _ in 0..STEPS_MAX {
        if found == target.as_str() {
            return Some(());
        }
        match known.ask(Kind::Cname, &found)? {
            Answer::Target(next) => found = next,
            Answer::Later(why) => {
                later(checked, &why);
                return Some(());
            }
            _ => {
                let appended = first.strip_prefix(target.as_str()).is_some_and(|rest| rest.starts_with('.'));
                let mend =
                    if appended { ". Your DNS host has added a domain to it; end the name with a dot" } else { "" };
                let words =
                    format!("the CNAME record at {name} leads to {}. It must be: {target}{mend}", quoted(&first));
                checked.say(Flaw::OtherTarget, State::Wrong, words);
                return Some(());
            }
        }
    }
    let words = format!("the CNAME record at {name} leads in a circle, or on and on. It must be: {target}");
    checked.say(Flaw::AliasCircle, State::Wrong, words);
    Some(())
}

/// The name exists without CNAME. Some DNS hosts publish the addresses of the target in place of the alias; that works
/// until the target moves.
fn instead(checked: &mut Checked, domain: &Domain, target: &Domain, known: &mut Known) -> Option<()> {
    let own = known.ask(Kind::Addresses, &checked.name);
    let ours = known.ask(Kind::Addresses, target.as_str());
    let (own, ours) = match (own?, ours?) {
        (Answer::Addresses(own), Answer::Addresses(ours)) if !own.is_empty() => (own, ours),
        (Answer::Addresses(own), _) if !own.is_empty() => (own, Vec::new()),
        (Answer::Later(why), _) => {
            later(checked, &why);
            return Some(());
        }
        _ => {
            let target = target.clone();
            return absent(
                checked,
                domain,
                known,
                &move |answer| matches!(answer, Answer::Target(found) if found == target.as_str()),
            );
        }
    };
    checked.found = own.iter().map(ToString::to_string).collect();
    let name = &checked.name;
    if own.iter().all(|address| ours.contains(address)) {
        let words = format!(
            "{name} has the addresses of {target}, but no CNAME record: it stops working when those change. Where your DNS \
             host can, publish the CNAME record"
        );
        checked.say(Flaw::Flattened, State::Good, words);
    } else {
        let words = format!(
            "{name} has the address {} in place of a CNAME record to {target}. Remove it, and publish the CNAME record; with a \
             proxy in front, turn the proxy off for this name",
            own[0]
        );
        checked.say(Flaw::AddressInstead, State::Wrong, words);
    }
    Some(())
}
