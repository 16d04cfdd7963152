//! What would a remote server's reply mean here, what would follow, and what do others call it? Nothing is sent. (R5.3)

use crate::asked::Body;
use crate::caller::{Caller, Desk};
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use engine::classify::{Class, Meaning, Subtype};
use engine::doubt::{Evidence, evidence};
use engine::event::{Event, EventKind};
use engine::provider::Providers;
use engine::snapshot::Scope;
use engine::vocabulary::{BounceClass, BounceType, resend, ses, ses_delay};
use mail::reply::Reply;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReplyQuestion)]
pub struct Question {
    /// As it came, such as `550 5.1.1 No such user`; each of its lines on a line of its own.
    reply: String,
    /// Whose reply it is, such as `google`; left out, the rules for everybody are asked.
    provider: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplyMeaning)]
pub struct Answer {
    #[schema(value_type = String)]
    class: Class,
    #[schema(value_type = String)]
    subtype: Subtype,
    /// The rule that fitted, by its name in the rule file.
    rule: String,
    /// What follows at the first attempt, in sentences.
    reaction: Vec<String>,
    vocabularies: Vocabularies,
}

/// What others call it.
#[derive(Debug, Serialize, ToSchema)]
struct Vocabularies {
    sparkpost: SparkPost,
    ses: Ses,
    resend: Resend,
}

/// The bounce class of SparkPost.
#[derive(Debug, Serialize, ToSchema)]
struct SparkPost {
    code: u16,
    name: &'static str,
    category: &'static str,
}

/// The bounce type of Amazon SES, and its type of delay while the message is still tried.
#[derive(Debug, Serialize, ToSchema)]
struct Ses {
    bounce_type: &'static str,
    bounce_subtype: &'static str,
    delay_type: &'static str,
}

/// The bounce type of Resend.
#[derive(Debug, Serialize, ToSchema)]
struct Resend {
    #[serde(rename = "type")]
    kind: &'static str,
    subtype: &'static str,
}

impl Vocabularies {
    fn of(meaning: &Meaning) -> Vocabularies {
        let class = BounceClass::of(meaning);
        let BounceType { kind, subtype } = ses(meaning);
        let theirs = resend(meaning);
        Vocabularies {
            sparkpost: SparkPost { code: class.code(), name: class.name(), category: class.category() },
            ses: Ses { bounce_type: kind, bounce_subtype: subtype, delay_type: ses_delay(meaning) },
            resend: Resend { kind: theirs.kind, subtype: theirs.subtype },
        }
    }
}

/// What a remote server's reply means by the rules in use, and what would follow. Nothing is sent. (R5.3)
#[utoipa::path(post, path = "/replies:classify", operation_id = "classify_reply", request_body = Question, responses((status = 200, body = Answer)))]
pub async fn classify(
    State(desk): State<Desk>,
    caller: Caller,
    Body(question): Body<Question>,
) -> Result<Json<Answer>, Problem> {
    caller.may(Scope::Read)?;
    let reply = read(&question.reply)?;
    // The same rules that judge the next delivery.
    let snapshot = desk.intake.snapshot();
    let provider = question.provider.as_deref().map(|name| known(name, &snapshot.providers)).transpose()?;
    let reading = snapshot.rules.classify(provider.unwrap_or_default(), &reply);
    let mut reaction = reading.words(&reply);
    if reading.is_final(&reply, 1) {
        let bounce =
            Event { meaning: Some(reading.meaning.clone()), ..Event::new(desk.intake.now(), EventKind::Bounced) };
        reaction.insert(1, of_address(evidence(&bounce)).to_owned());
    }
    let vocabularies = Vocabularies::of(&reading.meaning);
    let Meaning { class, subtype, rule, .. } = reading.meaning;
    Ok(Json(Answer { class, subtype, rule: rule.to_string(), reaction, vocabularies }))
}

fn read(text: &str) -> Result<Reply, Problem> {
    let mend = "Write it as it came, such as 550 5.1.1 No such user; each of its lines on a line of its own.";
    let reply: Reply =
        ended(text).parse().map_err(|_| Problem::invalid("reply", "This is not one SMTP reply.", mend))?;
    if reply.is_transient() || reply.is_permanent() {
        return Ok(reply);
    }
    Err(Problem::invalid("reply", format!("{} is no refusal: nothing is read into it.", reply.code), mend))
}

/// Logs often hold no more than the first lines of a reply: the last one there is taken for its end.
fn ended(text: &str) -> String {
    let text = text.trim_end();
    let last = text.rfind('\n').map_or(0, |end| end + 1);
    match text.get(last + 3..last + 4) {
        Some("-") => format!("{} {}", &text[..last + 3], &text[last + 4..]),
        _ => text.to_owned(),
    }
}

/// A slip would be answered by the rules for everybody, and not be noticed.
fn known<'a>(name: &'a str, providers: &Providers) -> Result<&'a str, Problem> {
    if providers.names().any(|known| known == name) {
        return Ok(name);
    }
    let names: Vec<&str> = providers.names().collect();
    let mend = format!("Name one of {}; or leave it out.", names.join(", "));
    Err(Problem::invalid("provider", "No provider has this name.", mend))
}

/// R5.5.
fn of_address(evidence: Option<Evidence>) -> &'static str {
    match evidence {
        Some(Evidence::Enough(_)) => "The address is put on the suppression list.",
        Some(Evidence::Doubt(_)) => {
            "It speaks against the address, which is put on the suppression list if that goes on."
        }
        Some(Evidence::Delivered) | None => "It says nothing against the address.",
    }
}

#[cfg(test)]
mod tests {
    use super::ended;

    #[test]
    fn the_first_lines_of_a_reply_are_enough() {
        assert_eq!(ended("550-5.7.1 first"), "550 5.7.1 first");
        assert_eq!(ended("550-5.7.1 first\r\n550-5.7.1 second\r\n"), "550-5.7.1 first\r\n550 5.7.1 second");
        assert_eq!(ended("550 5.1.1 No-such user"), "550 5.1.1 No-such user");
        assert_eq!((ended("55").as_str(), ended("").as_str(), ended("ü-").as_str()), ("55", "", "ü-"));
    }
}
