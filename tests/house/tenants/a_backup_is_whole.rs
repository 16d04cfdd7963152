//! Is everything that was promised before a backup in it, although it was made under load? And is what is newer left alone?

use crate::support::load::{Acknowledged, Load, missing};
use crate::support::{House, Manner, Plan, Town, among_others, until, until_true};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// As docs/operate/durability.md says: held still, copied, let go on.
fn back_up(house: &House, copy: &Path) {
    house.signal("STOP");
    let tasks = format!("/proc/{}/task", house.pid());
    until_true("every thread stands still", || {
        fs::read_dir(&tasks).unwrap().flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        })
    });
    let copied = Command::new("cp").arg("-a").arg(&house.data).arg(copy).status().unwrap();
    house.signal("CONT");
    assert!(copied.success());
}

/// A copy of the database alone, by SQLite's own means, while it is written to.
fn copy_database(from: &Path, to: &Path) {
    let script = "import sqlite3, sys\n\
                  to = sqlite3.connect(sys.argv[2])\n\
                  sqlite3.connect(sys.argv[1]).backup(to)\n\
                  to.close()\n";
    let status = Command::new("python3").args(["-c", script]).arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// The list of all accounts.
fn names(house: &House) -> String {
    house.operate("GET", "/accounts?limit=1000", &Value::Null).to_string()
}

// G6, R1.2: accounts and messages that were answered for before the backup are in it, and the backup starts without help.
#[test]
fn what_was_acknowledged_before_it_is_in_it() {
    let _others = among_others();
    let town = Town::new();
    // Nobody takes anything yet, so that all of it is in the queue.
    let later = Manner { banner: Some("421 4.3.2 Later"), ..Manner::default() };
    let provider = town.provider(1, later);
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let login = house.login(&shop);
    let acknowledged = Acknowledged::default();
    let load = Load::begin(house.smtp_at(), Some(&login.sign_in()), &acknowledged);
    let folder = house.config.with_file_name("backup");
    let alone = house.config.with_file_name("control-copy.db");
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (before, messages) = std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::SeqCst) {
                let body = json!({ "name": format!("account{}", number + 1) });
                match house.call("POST", "/api/v1/accounts", &house.operator, &body).status {
                    201 => number += 1,
                    429 => continue,
                    other => panic!("{other}"),
                }
                made.store(number, Ordering::SeqCst);
            }
        });
        let count = || made.load(Ordering::SeqCst);
        until_true("there is something to lose", || count() >= 10 && acknowledged.count() >= 100);
        let (before, messages) = (count(), acknowledged.all());
        back_up(&house, &folder);
        copy_database(&house.data.join("control.db"), &alone);
        until_true("it went on", || count() > before && acknowledged.count() > messages.len());
        stop.store(true, Ordering::SeqCst);
        changes.join().unwrap();
        (before, messages)
    });
    load.end();
    let operator = house.operator.clone();
    house.kill();

    provider.change(Manner::default());
    let mut restored = Plan::new(&town).control(None).begun(&operator).data_in(&folder).open();
    let listed = names(&restored);
    assert!((1..=before).all(|number| listed.contains(&format!("\"account{number}\""))), "{before}: {listed}");
    restored.retry_all();
    until("what was acknowledged arrives", || missing(&messages, &provider.all()).is_empty().then_some(()));
    restored.send(&shop.key, "key@mail.test", json!({}));
    restored.smtp_as(&login);

    // The database's own copy: put in the place of the other, without what belongs to that.
    assert!(restored.terminate().0.success());
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(folder.join(format!("control.db{suffix}")));
    }
    fs::copy(&alone, folder.join("control.db")).unwrap();
    restored.start();
    let listed = names(&restored);
    assert!((1..=before).all(|number| listed.contains(&format!("\"account{number}\""))), "{before}: {listed}");
    restored.operate("POST", "/accounts", &json!({ "name": "after" }));
    restored.send(&shop.key, "key@mail.test", json!({}));
}

fn refused(house: &House) -> String {
    let output = house.start_second();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

// G6: an older program on a newer database.
#[test]
fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let _others = among_others();
    let town = Town::new();
    let mut house = Plan::new(&town).control(None).open();
    assert!(house.terminate().0.success());
    let script = |sql: &str| {
        format!("import sqlite3, sys\nown = sqlite3.connect(sys.argv[1], isolation_level=None)\nown.execute('{sql}')\n")
    };
    let run = |sql: &str| {
        let database = house.data.join("control.db");
        assert!(Command::new("python3").arg("-c").arg(script(sql)).arg(database).status().unwrap().success());
    };
    run("INSERT INTO schema_version (version) VALUES (99)");
    let words = refused(&house);
    assert!(words.contains("newer version (99)") && words.contains("restore a backup"), "{words}");
    run("DELETE FROM schema_version WHERE version = 99");
    house.start();
    house.operate("GET", "/accounts", &Value::Null);
}

// A13: the second process ends before it has touched anything, and the first goes on.
#[test]
fn a_second_process_on_one_folder_is_refused() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let words = refused(&house);
    assert!(words.contains("in use by another process"), "{words}");
    // Another program, also one of another version, does not get to the database.
    let mut init = Command::new(env!("CARGO_BIN_EXE_weir"));
    let init = init.args(["init", "--config"]).arg(&house.config).arg("--data").arg(&house.data).output().unwrap();
    assert!(!init.status.success());
    let words = String::from_utf8_lossy(&init.stderr).into_owned();
    assert!(words.contains("in use by another process"), "{words}");
    let id = house.send(&shop.key, "bob@mail.test", json!({}));
    house.wait_state(&id, "delivered");
}
