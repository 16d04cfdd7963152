//! What if the database stops, is locked, full, or damaged? Mail goes on, and changes are refused with the reason.

use crate::support::disk::SmallDisk;
use crate::support::load::{Acknowledged, Load};
use crate::support::postgres::Postgres;
use crate::support::tenants::Tenant;
use crate::support::{FakeProvider, House, Manner, Message, Plan, Town, alone, among_others, skip, until, until_true};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

/// More than were under way when the database went.
const MORE: usize = 100;

/// A change is refused, with the reason and when to try again.
fn change_refused(house: &House) {
    let answer = house.call("POST", "/api/v1/accounts", &house.operator, &json!({ "name": "new" }));
    told_of_the_database(&answer);
}

fn told_of_the_database(answer: &crate::support::submitter::HttpAnswer) {
    assert_eq!(answer.status, 503, "{}", answer.json());
    assert_eq!(answer.json()["code"], "database_unavailable");
    assert!(answer.json()["detail"].as_str().unwrap().contains("mail goes on"), "{}", answer.json());
    assert!(answer.head.to_ascii_lowercase().contains("retry-after:"), "{}", answer.head);
}

/// Waits until a start without the database would know what is there now.
fn wait_kept(house: &House) {
    let now = SystemTime::now();
    house.operate("POST", "/accounts", &json!({ "name": "the last change" }));
    let path = house.data.join("snapshot.sealed");
    until_true("the snapshot is kept", || {
        fs::metadata(&path).and_then(|about| about.modified()).is_ok_and(|kept| kept > now)
    });
    // What is written in one go with the last change may have been begun before it.
    house.wait_queue_empty();
}

fn wait_changes(house: &House) {
    let body = json!({ "name": "after" });
    until_true("changes are made again", || {
        house.call("POST", "/api/v1/accounts", &house.operator, &body).status == 201
    });
}

fn new_key_works(house: &House, tenant: &Tenant) {
    let key = house.key(&tenant.id, json!({ "name": "after", "scopes": ["send"] }));
    house.send(key["key"].as_str().unwrap(), "after@mail.test", json!({}));
}

// G2: under load, also over a restart of the service while there is no database.
#[test]
fn postgresql_stops_and_comes_back_under_load() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let folder = std::env::temp_dir().join(format!("weir-house-postgres-{}", std::process::id()));
    let mut server = Postgres::start(&folder).unwrap();
    let mut house = Plan::new(&town).control(Some(&format!("{}/postgres", server.url()))).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let login = house.login(&shop);
    wait_kept(&house);
    let acknowledged = Acknowledged::default();
    let load = Load::begin(house.smtp_at(), Some(&login.sign_in()), &acknowledged);
    acknowledged.wait(MORE);

    server.stop();
    let then = acknowledged.count();
    change_refused(&house);
    told_of_the_database(&house.call("GET", "/api/v1/accounts", &house.operator, &Value::Null));
    acknowledged.wait(then + MORE);
    let id = house.send(&shop.key, "http@mail.test", json!({}));
    house.wait_state(&id, "delivered");
    load.end();

    // R10.1: what was kept last is enough to begin with.
    house.kill();
    house.start();
    assert!(house.log().contains("mail goes on with the snapshot that was kept last"), "{}", house.log());
    let load = Load::begin(house.smtp_at(), Some(&login.sign_in()), &acknowledged);
    let then = acknowledged.count();
    acknowledged.wait(then + MORE);
    change_refused(&house);
    house.send(&shop.key, "http@mail.test", json!({}));

    server.start_again().unwrap();
    wait_changes(&house);
    new_key_works(&house, &shop);
    load.end();
    house.wait_queue_empty();
    all_arrived(&acknowledged, &provider);
    // What happened meanwhile is kept and counted afterwards.
    until_true("all is counted", || {
        let counts = house.ask("GET", "/statistics", &shop.key, &Value::Null);
        let delivered = counts["items"].as_array().unwrap().iter().filter_map(|item| item["delivered"].as_u64());
        delivered.sum::<u64>() >= acknowledged.count() as u64
    });
}

fn all_arrived(acknowledged: &Acknowledged, provider: &FakeProvider) {
    let missing = acknowledged.missing(&provider.all());
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), acknowledged.count());
}

/// Another process that has the database for itself until it is let go.
struct Holder(Child);

impl Holder {
    fn begin(house: &House) -> Holder {
        let script = "import sqlite3, sys\n\
                      own = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                      own.execute('BEGIN EXCLUSIVE')\n\
                      print('held', flush=True)\n\
                      sys.stdin.readline()\n";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(house.data.join("control.db"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "held");
        Holder(child)
    }

    fn let_go(mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        self.0.wait().unwrap();
    }
}

// G2: SQLite has one writer, and somebody else is it.
#[test]
fn a_locked_file_refuses_changes_and_delays_no_mail() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let login = house.login(&shop);
    let holder = Holder::begin(&house);
    let acknowledged = Acknowledged::default();
    let load = Load::begin(house.smtp_at(), Some(&login.sign_in()), &acknowledged);
    change_refused(&house);
    acknowledged.wait(MORE);
    house.operate("GET", "/accounts", &Value::Null);
    holder.let_go();
    wait_changes(&house);
    new_key_works(&house, &shop);
    load.end();
    house.wait_queue_empty();
    all_arrived(&acknowledged, &provider);
}

// G2, A10: nothing is half done, and room heals it.
#[test]
fn a_full_disk_refuses_changes_and_heals_by_itself() {
    let _machine = alone();
    let Some(disk) = SmallDisk::mount("control", "64m") else {
        return skip("a small file system cannot be mounted without root");
    };
    let town = Town::new();
    let provider = town.provider(1, Manner { banner: Some("421 4.3.2 Later"), ..Manner::default() });
    let spool = "[spool]\nsegment_bytes = 4194304\nfree_bytes_min = 8388608";
    let house = Plan::new(&town).more(spool).data_in(&disk.join("data")).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let queued = house.send(&shop.key, "bob@mail.test", json!({}));
    let hog = disk.join("hog");
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=64k", &format!("of={}", hog.display())]).output();
    // What is left in the file's own pages may be enough for a few.
    let mut made = Vec::new();
    let refused = until("a change is refused", || {
        let name = format!("account{}", made.len());
        let answer = house.call("POST", "/api/v1/accounts", &house.operator, &json!({ "name": name }));
        if answer.status == 201 {
            made.push(name);
            return None;
        }
        Some(answer)
    });
    told_of_the_database(&refused);
    let body = json!({ "from": "ann@shop.test", "to": "x@mail.test", "text": "x" });
    until_true("mail is refused", || house.call("POST", "/api/v1/messages", &shop.key, &body).status == 503);
    provider.change(Manner::default());
    house.retry(&queued);
    // It leaves although nothing can be written of it; that is caught up with when there is room.
    provider.wait_for_one_to("bob@mail.test");

    fs::remove_file(&hog).unwrap();
    wait_changes(&house);
    house.wait_state(&queued, "delivered");
    let listed = house.operate("GET", "/accounts?limit=1000", &Value::Null).to_string();
    assert!(made.iter().all(|name| listed.contains(&format!("\"{name}\""))), "{listed}");
    assert!(!listed.contains(&format!("\"account{}\"", made.len())), "what was refused is not there: {listed}");
    until_true("mail is taken again", || house.call("POST", "/api/v1/messages", &shop.key, &body).status == 200);
}

// G2: mail goes on with what was kept; without that, the start is refused, and either says why.
#[test]
fn a_damaged_file_is_told_at_the_start() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let login = house.login(&shop);
    wait_kept(&house);
    assert!(house.terminate().0.success());
    let database = house.data.join("control.db");
    let good = fs::read(&database).unwrap();
    fs::write(&database, b"This is no database at all. ".repeat(good.len() / 28)).unwrap();
    house.start();
    let words = house.wait_log("mail goes on with the snapshot that was kept last");
    assert!(words.contains("not a database"), "{words}");
    house.smtp_as(&login).take("ann@shop.test", &["bob@mail.test"], &Message::plain("still"));
    assert_eq!(provider.wait_for_one_to("bob@mail.test").peer.ip(), town.source(0));
    change_refused(&house);
    house.kill();

    let kept = house.data.join("snapshot.sealed");
    fs::rename(&kept, house.data.join("away")).unwrap();
    let refused = house.start_second();
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("not a database") && words.contains("no snapshot was kept"), "{words}");

    // The backup is put back.
    fs::write(&database, good).unwrap();
    house.start();
    wait_changes(&house);
    new_key_works(&house, &shop);
}
