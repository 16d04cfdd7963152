//! Does a paused account send nothing, what is queued included, and is nothing of it lost?

use crate::support::{Manner, Plan, Town, among_others};
use serde_json::json;

// R6.3: a pause stops sending, and says what to do; let go on, the rest is delivered.
#[test]
fn what_is_queued_waits_and_says_why() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let queued = house.send(&shop.key, "grey@mail.test", json!({}));
    house.wait_why(&queued, "greylisted");

    let account = format!("/accounts/{}", shop.id);
    let reason = "12 % of your mail bounced; clean your list, then ask the operator";
    house.operate("PATCH", &account, &json!({ "standing": "paused", "standing_reason": reason }));
    let message = json!({ "from": "ann@shop.test", "to": "ben@mail.test", "subject": "Hello", "text": "Hello." });
    let refusal = house.call("POST", "/api/v1/messages", &shop.key, &message);
    let said = refusal.json().to_string();
    assert!(refusal.status == 403 && said.contains(reason), "{said}");
    house.retry(&queued);
    let story = house.wait_why(&queued, "account-paused");
    assert!(story.to_string().contains(reason), "{story}");

    house.kill();
    house.start();
    let story = house.wait_why(&queued, "account-paused");
    assert!(story.to_string().contains(reason), "{story}");
    house.operate("PATCH", &account, &json!({ "standing": "production" }));
    house.retry(&queued);
    house.wait_state(&queued, "delivered");
    assert_eq!(provider.wait_for(1).len(), 1);
}
