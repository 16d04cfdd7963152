//! Does mail to whoever reads go by a new IP before other mail does?

use super::links_lead_where_they_led::{paths, tracking_tenant, visit};
use crate::support::{Manner, Plan, Town, among_others, until};
use serde_json::{Value, json};

const HTML: &str = "<html><body><p>Read <a href=\"https://shop.test/sale\">on</a>.</p></body></html>";
/// More than an IP of the first stage may send in two hours.
const COUNT: usize = 40;

// R4.2, R4.6: mail to who opened some leaves by the new IP; the others use what is left over, and say why they leave by another. It is known
// after a restart, too.
#[test]
fn who_reads_is_written_to_from_the_new_ip() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).more("[tracking]\naddress = \"127.0.0.1:0\"\n").open();
    let door = house.door("leading readers on");
    house.share(&[town.source(0)]);
    let shop = tracking_tenant(&house, "shop");
    let tracked = json!({ "from": "ann@shop.test", "configuration_set": "news", "html": HTML });
    house.send(&shop.key, "bob@mail.test", tracked);
    let (_, open) = paths(&provider.wait_for_one_to("bob@mail.test").text(), "links.shop.test");
    // A person would be too quick to be one.
    visit(door, "GET", "links.shop.test", &open, "Mozilla/5.0 (via ggpht.com GoogleImageProxy)");
    until("bob is known to read", || (house.figure("weir_active_recipients") > 0.0).then_some(()));
    // It is kept when the house closes.
    house.terminate();
    house.start();

    let ip = town.source(1);
    house.new_pool(&shop, "news");
    house.grant_new(&shop, &[ip], Some("news"));
    let wrong = house.refused("PATCH", &shop.at("pools/news"), &shop.key, &json!({ "active_within": 0 }));
    assert_eq!(wrong.0, 400, "{wrong:?}");
    house.ask("PATCH", &shop.at("pools/news"), &shop.key, &json!({ "active_within": 30 }));
    let send = |name: &str| house.send(&shop.key, &format!("{name}@mail.test"), json!({ "pool": "news" }));
    let ids: Vec<String> = (0..COUNT).map(|number| send(&format!("u{number}"))).collect();
    send("bob");
    let again = until("bob is written to again", || provider.to("bob@mail.test").into_iter().nth(1));
    assert_eq!(again.peer.ip(), ip);
    let stories: Vec<Value> = ids.iter().map(|id| house.wait_state(id, "delivered")).collect();
    assert!(stories.iter().any(|story| story.to_string().contains("kept-for-active-recipients")), "{}", stories[0]);
}
