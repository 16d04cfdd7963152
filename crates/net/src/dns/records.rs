//! What does a domain publish? Asks the DNS what `mail::records` has to know.

use mail::address::Domain;
use mail::records::{Answer, Checked, Judged, Kind, Known, Question, Wanted, judge};

use super::route::{Waiting, all};
use super::{Dns, DnsFault, Families};

/// Looks up what it takes to judge one wanted record, many questions at a time. `dns` should answer from fresh knowledge only
/// (`Resolver::only_fresh`).
pub async fn records_of(dns: &dyn Dns, wanted: &Wanted) -> Checked {
    let mut known = Known::new();
    // Ends: each round answers what was open, and there is a limit to what is asked.
    loop {
        match judge(wanted, &mut known) {
            Judged::Done(checked) => return checked,
            Judged::Ask(questions) => {
                let asked = questions.iter().map(|question| -> Waiting<'_, Answer> { Box::pin(answer(dns, question)) });
                let answers = all(asked.collect()).await;
                for (question, answer) in questions.into_iter().zip(answers) {
                    known.tell(question, answer);
                }
            }
        }
    }
}

async fn answer(dns: &dyn Dns, question: &Question) -> Answer {
    let name = &question.name;
    let said = match question.kind {
        Kind::Txt => dns.txt(name).await.map(|answer| Answer::Texts(answer.texts)),
        Kind::Cname => dns.cname(name).await.map(|answer| Answer::Target(answer.target)),
        Kind::Addresses => dns.addresses(name, Families::Both).await.map(|answer| Answer::Addresses(answer.addresses)),
        Kind::Mx => match Domain::parse(name) {
            Ok(domain) => dns.mx(&domain).await.map(|answer| Answer::Hosts(answer.hosts)),
            Err(_) => Err(DnsFault::NoSuchName),
        },
    };
    match said {
        Ok(answer) => answer,
        Err(DnsFault::NoSuchName) => Answer::NoSuchName,
        // Behind a circle of aliases there is nothing.
        Err(DnsFault::NoData | DnsFault::AliasLoop) => Answer::NoData,
        Err(DnsFault::Later(why)) => Answer::Later(why),
    }
}
