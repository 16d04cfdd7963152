//! Does the text stand where only who governs the domain can put it?

use super::known::{Answer, Known};
use super::{Checked, Flaw, State, absent, later, quoted, shown, wildcard};
use crate::address::Domain;

pub(super) fn judge(checked: &mut Checked, domain: &Domain, wanted: &str, known: &mut Known) -> Option<()> {
    let holds =
        |answer: &Answer| matches!(answer, Answer::Texts(texts) if texts.iter().any(|text| text.trim() == wanted));
    let answer = known.ask(checked.kind, &checked.name)?;
    let texts = match &answer {
        answer if holds(answer) => return Some(()),
        Answer::Texts(texts) => texts,
        Answer::Later(why) => {
            later(checked, why);
            return Some(());
        }
        _ => return absent(checked, domain, known, &holds),
    };
    checked.found = shown(texts);
    let bare = |text: &String| text.trim().trim_matches('"').trim() == wanted;
    if texts.iter().any(bare) {
        let words = format!(
            "the TXT record at {} has quotation marks in it, which your DNS host adds by itself. Enter it without them: {wanted}",
            checked.name
        );
        checked.say(Flaw::QuotesInside, State::Wrong, words);
        return Some(());
    }
    let words = match &texts[..] {
        [one] => format!("the TXT record at {} holds {}", checked.name, quoted(one)),
        texts => format!("none of the {} TXT records at {} is ours", texts.len(), checked.name),
    };
    // Other texts may stand there for others.
    checked.say(Flaw::OtherText, State::Wrong, format!("{words}. Publish, beside it: {wanted}"));
    wildcard(checked, texts, known)
}
