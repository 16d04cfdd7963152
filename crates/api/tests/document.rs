//! The description of the interface is the interface: nothing more and nothing less.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use axum::http::Method;
use serde_json::Value;
use std::path::{Path, PathBuf};
use support::House;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

// R9.2
#[test]
fn what_is_checked_in_is_what_is_generated() {
    let (path, generated) = (root().join("docs/openapi.json"), api::doors::document());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == generated, "docs/openapi.json is not what the code says; UPDATE_GOLDEN=1 rewrites it");
}

fn calls(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &Value)| {
        let of = |(method, call): (&String, &Value)| (method.clone(), path.clone(), call.clone());
        item.as_object().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[tokio::test]
async fn every_call_that_is_described_is_served() {
    let house = House::open().await;
    for (method, path, _) in calls(&house.document) {
        let path = path.strip_prefix("/api/v1").map_or(format!("/{path}"), str::to_owned);
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        // Without a key: an address that is not served says that it is not known, or does not take the method.
        let told = house.call(None, method.clone(), &path, None, &[]).await;
        let is_known = told.status != 405 && told.body["detail"] != "This address is not known here.";
        assert!(is_known, "{method} {path}: {}", told.text);
    }
    house.call(None, Method::GET, "/nothing", None, &[]).await.refused(404, "not_found");
    house.call(None, Method::PUT, "/messages", None, &[]).await.refused(405, "method_not_allowed");
    let served = house.call(None, Method::GET, "/openapi.json", None, &[]).await;
    assert_eq!(served.text, api::doors::document());
}

/// A handler is described where it stands; one that was forgotten in a list of routes, or is served past the description, is found.
#[test]
fn every_call_that_is_served_is_described() {
    let document: Value = serde_json::from_str(api::doors::document()).unwrap();
    let (mut described, mut folders) = (0, vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap();
            described += text.matches("#[utoipa::path(").count();
            // A door of its own, for people who follow links and not for programs.
            let is_for_readers = entry.file_name() == "tracking.rs";
            assert!(
                is_for_readers || !text.contains(".route("),
                "{} serves past the description",
                entry.path().display()
            );
        }
    }
    assert_eq!(calls(&document).len(), described);
}

#[test]
fn every_call_has_a_name_of_its_own_and_says_what_it_does() {
    let document: Value = serde_json::from_str(api::doors::document()).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for (method, path, call) in calls(&document) {
        assert!(names.insert(call["operationId"].to_string()), "{method} {path} is called as another");
        assert!(call["summary"].as_str().is_some_and(|words| !words.is_empty()), "{method} {path} says nothing");
        for parameter in call["parameters"].as_array().into_iter().flatten() {
            let words = parameter["description"].as_str().unwrap_or_default();
            assert!(parameter["in"] != "path" || !words.is_empty(), "{method} {path}: what is {}?", parameter["name"]);
        }
    }
}
