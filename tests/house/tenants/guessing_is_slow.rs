//! Does guessing of passwords and keys get nowhere, and nobody else in its way?

use crate::support::submitter::call;
use crate::support::tenants::Login;
use crate::support::{Manner, Message, Plan, Smtp, Town, among_others, until};
use serde_json::{Value, json};

/// More than a name has free, from one address.
const GUESSES: usize = 12;

// G5: by SMTP. One user name is guessed; who has the password signs in beside it, and other users as well.
#[test]
fn passwords_guessed_by_smtp_are_turned_away() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let (app, other) = (house.login(&shop), house.login(&shop));
    let mut known = house.smtp_as(&other);
    let guess = |number: usize| {
        let wrong = Login { id: String::new(), user: app.user.clone(), password: format!("guess {number}") };
        let answer = house.smtp().say(&wrong.sign_in()).unwrap();
        assert!([535, 454].contains(&answer.code), "{answer:?}");
        answer
    };
    let turned_away = until("guesses are turned away", || {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..GUESSES).map(|number| scope.spawn(move || guess(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        answers.into_iter().find(|answer| answer.code == 454)
    });
    assert!(turned_away.text.contains("Too many failed sign-ins"), "{turned_away:?}");
    assert!(turned_away.text.contains("Try again in"), "{turned_away:?}");
    assert!(house.figure("weir_sign_ins_failed_total{via=\"smtp\",code=\"too_many_failures\"}") >= 1.0);
    assert!(house.figure("weir_sign_ins_failed_total{via=\"smtp\",code=\"credentials_invalid\"}") >= 5.0);

    // From elsewhere, with the name that is guessed; here, with one that is known here; and what is open.
    let mut elsewhere = Smtp::connect_from(town.source(9), house.smtp_at()).unwrap();
    elsewhere.answer().unwrap();
    elsewhere.expect("EHLO app.test", 250);
    elsewhere.expect(&app.sign_in(), 235);
    elsewhere.take("ann@shop.test", &["bob@mail.test"], &Message::plain("from elsewhere"));
    house.smtp_as(&other).take("ann@shop.test", &["bob@mail.test"], &Message::plain("known here"));
    known.take("ann@shop.test", &["bob@mail.test"], &Message::plain("open before"));

    // R7.6: those of the last minute are in the audit log as well, whenever the house was closed.
    drop((known, elsewhere));
    assert!(house.terminate().0.success());
    house.start();
    let lines = house.operate("GET", &format!("/audit?subject={}", app.id), &Value::Null);
    let of_guesses = |line: &&Value| line["action"] == "sign-in-failed";
    let times =
        lines["items"].as_array().unwrap().iter().filter(of_guesses).map(|line| line["detail"]["times"].as_u64());
    assert!(times.sum::<Option<u64>>().unwrap() >= GUESSES as u64, "{lines}");
}

// G5: by HTTP. A right key is never held up, because behind a proxy all have one address.
#[test]
fn keys_guessed_by_http_are_turned_away() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let mut number = 0;
    let answer = until("guesses are turned away", || {
        number += 1;
        // As a key and as the token of a person's session.
        let guess = if number % 2 == 0 { format!("weir_{number}") } else { format!("weir_session_{number}") };
        let answer = call(house.http_at(), "GET", "/api/v1/accounts", Some(&guess), b"").unwrap();
        assert!([401, 429].contains(&answer.status), "{}", answer.status);
        (answer.status == 429).then_some(answer)
    });
    assert!(number > 20, "people mistype: the first are free, and it was number {number}");
    assert_eq!(answer.json()["code"], "too_many_failures");
    assert!(answer.head.to_ascii_lowercase().contains("retry-after:"), "{}", answer.head);
    assert!(house.figure("weir_sign_ins_failed_total{via=\"http\"") > 20.0);
    house.send(&shop.key, "bob@mail.test", json!({}));
    house.operate("GET", "/accounts", &Value::Null);
}
