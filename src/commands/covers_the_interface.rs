//! Can all that the interface offers be typed, and nothing that it does not know? (R9.2) Held against its own description.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

use super::verb::{Act, Arg, Kind, Place, Verb};
use super::{NOUNS, alone};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What has a command of its own, in a file that is no table.
const WRITTEN_OUT: &[(&str, &str)] = &[
    ("post", "/messages"),
    ("get", "/messages/{id}"),
    ("get", "/queue"),
    ("post", "/queue/{order}"),
    ("get", "/lanes"),
    ("post", "/lanes/resume"),
];
/// For programs that read descriptions.
const NOT_TYPED: &[(&str, &str)] = &[("get", "/openapi.json")];

fn verbs() -> impl Iterator<Item = (String, &'static Verb)> {
    let of_nouns =
        NOUNS.iter().flat_map(|noun| noun.verbs.iter().map(|verb| (format!("{} {}", noun.name, verb.name), verb)));
    of_nouns.chain(alone::VERBS.iter().map(|verb| (verb.name.to_owned(), verb)))
}

/// The calls that a verb makes, as the description writes them.
fn calls(verb: &Verb) -> Vec<(&'static str, String)> {
    let method = match verb.act {
        Act::Get => "get",
        Act::Post => "post",
        Act::Put => "put",
        Act::Patch => "patch",
        Act::Delete => "delete",
    };
    match verb.path.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((of_account, rest)) => vec![(method, format!("/{of_account}{rest}")), (method, format!("/{rest}"))],
        None => vec![(method, format!("/{}", verb.path))],
    }
}

fn document() -> Value {
    serde_json::from_str(api::doors::document()).unwrap()
}

/// All calls below the base: method and path, and what they take.
fn described(document: &Value) -> BTreeMap<(String, String), &Value> {
    let mut all = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(path) = path.strip_prefix(crate::client::BASE) else { continue };
        all.extend(item.as_object().unwrap().iter().map(|(method, call)| ((method.clone(), path.to_owned()), call)));
    }
    all
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let schema =
        schema["oneOf"].as_array().and_then(|ways| ways.iter().find(|way| way["type"] != "null")).unwrap_or(schema);
    match schema["$ref"].as_str() {
        Some(place) => resolved(document, document.pointer(&place[1..]).unwrap()),
        None => schema,
    }
}

fn is(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::String(is) => is == kind,
        Value::Array(kinds) => kinds.iter().any(|is| is == kind),
        _ => false,
    }
}

/// Whether the service reads what this argument becomes.
fn fits(document: &Value, arg: &Arg, schema: &Value) -> bool {
    let own = resolved(document, schema);
    let words = if is(own, "array") { resolved(document, &own["items"]) } else { own };
    let known = |value: &&str| words["enum"].as_array().is_none_or(|words| words.iter().any(|word| word == value));
    arg.values().iter().all(known)
        && match arg.kind {
            Kind::Text | Kind::File | Kind::Secret => is(own, "string") || own["enum"].is_array(),
            Kind::Number => is(own, "integer"),
            Kind::Decimal => is(own, "number"),
            Kind::Flag | Kind::YesNo => is(own, "boolean"),
            Kind::List | Kind::Objects => is(own, "array"),
            Kind::Object => own["$ref"].is_string() || own["oneOf"].is_array() || is(own, "object"),
            Kind::Away(_) => {
                is(schema, "null")
                    || schema["oneOf"].as_array().is_some_and(|ways| ways.iter().any(|way| is(way, "null")))
            }
        }
}

// R9.2
#[test]
fn every_call_can_be_typed_and_every_verb_is_a_call() {
    let document = document();
    let described: BTreeSet<_> = described(&document).into_keys().collect();
    let owned = |(method, path): (&str, &str)| (method.to_owned(), path.to_owned());
    let mut typed: BTreeSet<_> = WRITTEN_OUT.iter().chain(NOT_TYPED).copied().map(owned).collect();
    typed.extend(verbs().flat_map(|(_, verb)| calls(verb)).map(|(method, path)| (method.to_owned(), path)));
    let missing: Vec<_> = described.difference(&typed).collect();
    let unknown: Vec<_> = typed.difference(&described).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "cannot be typed: {missing:?}; not in the interface: {unknown:?}"
    );
}

// R9.2
#[test]
fn every_field_can_be_typed_and_every_argument_is_a_field() {
    let document = document();
    let described = described(&document);
    let mut left: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (typed, verb) in verbs() {
        for (method, path) in calls(verb) {
            let call = described[&(method.to_owned(), path.clone())];
            let body = resolved(&document, &call["requestBody"]["content"]["application/json"]["schema"]);
            let properties = body["properties"].as_object().cloned().unwrap_or_default();
            let parameters = call["parameters"].as_array().cloned().unwrap_or_default();
            let queries: BTreeMap<String, Value> = (parameters.iter())
                .filter(|parameter| parameter["in"] == "query")
                .map(|parameter| (parameter["name"].as_str().unwrap().to_owned(), parameter["schema"].clone()))
                .collect();
            let all = properties.keys().chain(queries.keys()).cloned().collect();
            let left = left.entry((method.to_owned(), path.clone())).or_insert_with(|| all);
            let mut said: BTreeSet<String> = verb.fixed.iter().map(|(field, _)| (*field).to_owned()).collect();
            for arg in verb.args {
                let schema = match arg.place {
                    Place::Body => properties.get(&arg.field()),
                    Place::Query => queries.get(&arg.field()),
                    Place::Path | Place::Here => continue,
                };
                let schema = schema.unwrap_or_else(|| panic!("{typed}: {method} {path} takes no {}", arg.field()));
                assert!(fits(&document, arg, schema), "{typed} --{}: {schema}", arg.name);
                said.insert(arg.field());
            }
            let required = body["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for field in required {
                assert!(said.contains(field), "{typed} does not say {field}, which {method} {path} wants");
            }
            left.retain(|field| !said.contains(field));
        }
    }
    // Of every list, and of every list that can be narrowed to an account.
    let shared = ["limit", "after", "account"];
    for (call, fields) in left {
        let forgotten: Vec<_> = fields.iter().filter(|field| !shared.contains(&field.as_str())).collect();
        assert!(forgotten.is_empty(), "{call:?}: {forgotten:?} cannot be typed");
    }
}

#[test]
fn the_whole_line_is_sound() {
    crate::line().debug_assert();
}

#[test]
fn every_example_can_be_typed() {
    for (typed, verb) in verbs() {
        let words = words(verb.example);
        assert!(verb.example.starts_with(&format!("weir {typed}")), "{typed}: {}", verb.example);
        let parsed = crate::line().try_get_matches_from(words);
        assert!(parsed.is_ok(), "{}: {}", verb.example, parsed.unwrap_err());
    }
}

/// As a shell would split it, up to where input comes from.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" < ").next().unwrap();
    let pieces = line.split('"').enumerate();
    pieces
        .flat_map(|(place, piece)| match place % 2 {
            0 => piece.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            _ => vec![piece.to_owned()],
        })
        .collect()
}
