//! What does a target that is away for a day cost, and what is it told when it is back?
#![allow(clippy::unwrap_used)] // A failed unwrap is a failed test.

mod support;

use control::archive::{Told, ToldEvent};
use control::page::Window;
use control::webhook::{Batch, NewWebhook, Sent, Turn, WebhookChange};
use control::{Actor, Office};
use engine::event::{Event, EventKind};
use engine::id::{AccountId, MessageId};
use engine::posting::{Answer, Paused};
use engine::snapshot::Plan;
use engine::time::Timestamp;
use std::time::Duration;
use support::{Bench, START, on_both};

/// Between two looks of this test; each brings news.
const STEP: Duration = Duration::from_secs(1_200);
const NEWS_OF_A_STEP: u64 = 60;
const DAY: Duration = Duration::from_secs(86_400);
const EVENTS_MAX: i64 = 100;

fn told(n: u64, account: &str, at: Timestamp) -> Told {
    let event = Event {
        message: Some(MessageId(u128::from(n) + 1)),
        account: Some(AccountId::new(account)),
        recipient: Some(0),
        ..Event::new(at, EventKind::Delivered)
    };
    let address = Some(format!("r{n}@b.test"));
    Told { cursor: n + 1, events: vec![ToldEvent { event, address, accepted: None, route: None, record: None }] }
}

fn answered(answer: Answer, status: Option<u16>) -> Sent {
    let (took, words) = (Duration::from_secs(15), "no answer within 15 seconds".to_owned());
    Sent { answer, status, words, took, request: "{}".into(), answered: String::new() }
}

fn numbers(batch: &Batch) -> Vec<u128> {
    batch.events.iter().map(|kept| kept.event.message.unwrap().0).collect()
}

/// The rows that are kept for webhooks: places, and what is told of tries.
async fn rows(office: &Office, hook: &str, by: &Actor, account: &str) -> usize {
    office.webhook_deliveries(by, account, hook, &Window { after: None, limit: Some(500) }).await.unwrap().items.len()
}

// R6.1, E4: for 24 hours it is tried, more and more rarely, always with the same few events; what came meanwhile is a number. Then it is
// paused and its owner can read why; resumed, it is told everything from where it stood, in order and once.
#[test]
fn a_target_that_is_dead_for_a_day_costs_a_number_and_misses_nothing() {
    on_both(async |bench: &Bench| {
        let office = &bench.office;
        bench.region().await;
        let account = bench.account("shop", Plan::Standard).await;
        let new = NewWebhook {
            name: "orders".into(),
            url: "https://shop.test/events".into(),
            subaccount: None,
            kinds: Vec::new(),
            events_max: Some(EVENTS_MAX),
            wait_ms: None,
        };
        let (hook, _) = office.create_webhook(&bench.by, &account, new).await.unwrap();
        let mut news = 0;
        let mut tries = 0_u64;
        let mut first = None;
        let mut paused_after = None;
        // Half a day longer than it is tried.
        let mut passed = Duration::ZERO;
        while passed < DAY + DAY / 2 {
            let at = Timestamp(START) + passed;
            let batch: Vec<Told> = (news..news + NEWS_OF_A_STEP).map(|n| told(n, &account, at)).collect();
            news += NEWS_OF_A_STEP;
            office.archive().take_in("queue", news, batch).await.unwrap();
            match office.webhook_turn(&hook.id, "me", 0).await.unwrap() {
                Turn::Send(batch) => {
                    tries += 1;
                    // The same events under the same name, and no more of them than a request holds.
                    let (id, held) = (batch.id(), numbers(&batch));
                    assert!(held.len() <= usize::try_from(EVENTS_MAX).unwrap());
                    assert_eq!(first.get_or_insert((id.clone(), held.clone())), &(id, held));
                    office.webhook_sent(&batch, &answered(Answer::Failed, None), 0.5).await.unwrap();
                }
                Turn::WaitUntil(_) => {}
                Turn::Over => _ = paused_after.get_or_insert(passed),
                Turn::Idle(_) => panic!("there is something for it"),
            }
            bench.pass(STEP);
            passed += STEP;
        }
        let paused_after = paused_after.expect("it is paused");
        assert!(paused_after >= DAY && paused_after <= DAY + STEP * 2, "{paused_after:?}");
        assert!((60..=150).contains(&tries), "{tries} tries in a day");
        assert_eq!(u64::try_from(rows(office, "orders", &bench.by, &account).await).unwrap(), tries);
        let (is, progress) = office.webhook(&bench.by, &account, "orders").await.unwrap();
        assert_eq!(is.paused, Some(Paused::TriedForADay));
        assert!(is.paused.unwrap().words().contains("resume"));
        assert_eq!(progress.waiting_since, Some(Timestamp(START)));

        let resumed = WebhookChange { is_paused: Some(false), ..WebhookChange::default() };
        office.change_webhook(&bench.by, &account, "orders", resumed).await.unwrap();
        let mut heard = Vec::new();
        let mut before = 0;
        loop {
            match office.webhook_turn(&hook.id, "me", before).await.unwrap() {
                Turn::Send(batch) => {
                    heard.extend(numbers(&batch));
                    office.webhook_sent(&batch, &answered(Answer::Taken, Some(200)), 0.5).await.unwrap();
                }
                Turn::Idle(end) if end == before => break,
                Turn::Idle(end) => before = end,
                other => panic!("{other:?}"),
            }
        }
        let all: Vec<u128> = (1..=u128::from(news)).collect();
        assert_eq!(heard, all);
    });
}
