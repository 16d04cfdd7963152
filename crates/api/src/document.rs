//! What is told of all this to programs that read descriptions? OpenAPI 3.1, from the code.
//!
//! A call describes what is its own: what it takes and what it answers when all goes well. What all calls of a kind share is added here
//! once: names in addresses, pages, conditions, idempotency keys, and every problem that can be the answer.

use crate::asked::Listed;
use crate::problem::Problem;
use control::page::{LIMIT_DEFAULT, LIMIT_MAX};
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// What stands before a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Nothing.
    Open,
    /// A credential; how much is submitted has quotas of its own.
    Submission,
    /// A credential, and a limit for how often it calls.
    Counted,
    /// As `Counted`; about the control plane, whose changes take idempotency keys.
    Control,
}

/// What may stand in braces in an address.
const NAMES: &[(&str, &str)] = &[
    ("account", "Id or name of the account; `self` is the caller's own"),
    ("subaccount", "Id or name of the subaccount"),
    ("incident", "Id of the incident"),
    ("scaling", "Number of the decision"),
    ("set", "Name or id of the configuration set"),
    ("pool", "Id of the pool, or its name in the home region"),
    ("case", "Id of the case"),
    ("attachment", "Id of the attachment"),
    ("policy", "Id or name of the policy"),
    ("test_drive", "Id of the test drive, or its set: the last one of that"),
    ("invoice", "Number of the invoice or credit note, as it is written on it"),
    ("relay", "Id or name of the relay"),
    ("ip", "The address"),
    ("release", "Id of the release, as it was answered"),
    ("region", "Name of the region"),
    ("name", "Name of the setting"),
    ("credential", "Id of the credential"),
    ("domain", "Name or id of the domain"),
    ("selector", "Selector of the key"),
    ("address", "The mail address"),
    ("person", "Id of the person"),
    ("session", "Id of the session"),
    ("webhook", "Id or name of the webhook"),
    ("id", "Id of the message"),
    ("order", "`hold`, `release`, `retry` or `delete`"),
];

/// The whole description, of all calls with what stands before them.
#[must_use]
pub fn describe(parts: Vec<(Door, OpenApi)>) -> Value {
    let mut whole = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir",
            "description": "Weir's own interface. See docs/api.md for how to begin, and for the codes of problems.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": {},
        "components": {
            "schemas": { "Problem": schema::<Problem>() },
            "responses": PROBLEMS.iter().map(|status| (status.to_string(), problem(*status))).collect::<Map<_, _>>(),
            "securitySchemes": { "key": {
                "type": "http", "scheme": "bearer", "description": "A key of an account or of the operator, or a session's token",
            } },
        },
        "security": [{ "key": [] }],
    });
    for (door, part) in parts {
        let part = serde_json::to_value(part).expect("a description is plain values");
        for (name, schema) in entries(&part["components"]["schemas"]) {
            whole["components"]["schemas"][name] = schema;
        }
        for (path, item) in entries(&part["paths"]) {
            for (method, mut call) in entries(&item) {
                dress(&mut call, door, &method, &path);
                whole["paths"][&path][method] = call;
            }
        }
    }
    whole
}

fn entries(map: &Value) -> Map<String, Value> {
    map.as_object().cloned().unwrap_or_default()
}

fn schema<T: utoipa::PartialSchema>() -> Value {
    serde_json::to_value(T::schema()).expect("a schema is plain values")
}

fn dress(call: &mut Value, door: Door, method: &str, path: &str) {
    call["tags"] = json!([tag(path)]);
    let mut parameters: Vec<Value> = call["parameters"].as_array().cloned().unwrap_or_default();
    for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        let words = NAMES.iter().find(|(known, _)| *known == name).map_or("", |(_, words)| *words);
        parameters.push(json!({
            "name": name, "in": "path", "required": true, "description": words, "schema": { "type": "string" },
        }));
    }
    if answers_with(call, "200").is_some_and(|name| name.starts_with(listed())) && method == "get" {
        let words = format!("Items of a page; numbers outside of 1 to {LIMIT_MAX} are brought into that range");
        parameters.push(json!({
            "name": "limit", "in": "query", "required": false, "description": words,
            "schema": { "type": "integer", "format": "int32", "minimum": 0, "maximum": u32::MAX, "default": LIMIT_DEFAULT },
        }));
        parameters.push(json!({
            "name": "after", "in": "query", "required": false, "description": "`next` of the page before",
            "schema": { "type": "string" },
        }));
    }
    let idempotent = method == "post" && matches!(door, Door::Control | Door::Submission);
    if idempotent {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same key with the same call is answered with the first answer, for 24 hours",
            "schema": { "type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[ -~]+$" },
        }));
    }
    if method == "patch" {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "required": false,
            "description": "The ETag of what was seen; the change is made on nothing else",
            "schema": { "type": "string", "pattern": "^(\"-?[0-9]{1,18}\"|\\*)$" },
        }));
    }
    if !parameters.is_empty() {
        call["parameters"] = Value::Array(parameters);
    }
    if door == Door::Open {
        call["security"] = json!([]);
    }
    // Its fields are all optional, or it may be left out.
    if let Some(body) = call["requestBody"].as_object_mut() {
        body.entry("required").or_insert(json!(true));
    }
    describe_headers(call, door, idempotent);
    for status in problems(door, method) {
        if call["responses"].get(status.to_string()).is_none() {
            call["responses"][status.to_string()] = json!({ "$ref": format!("#/components/responses/{status}") });
        }
    }
}

/// What can go wrong with a call of this kind, by status.
fn problems(door: Door, method: &str) -> &'static [u16] {
    match (door, method) {
        (Door::Open, "get") => &[408],
        (Door::Open, _) => &[400, 401, 404, 408, 413, 429, 503],
        (_, "get") => &[400, 401, 403, 404, 408, 429, 503],
        (_, "patch") => &[400, 401, 403, 404, 408, 409, 412, 413, 429, 503],
        _ => &[400, 401, 403, 404, 408, 409, 413, 429, 503],
    }
}

const PROBLEMS: [u16; 10] = [400, 401, 403, 404, 408, 409, 412, 413, 429, 503];

fn problem(status: u16) -> Value {
    let words = match status {
        400 => "Something in it is wrong; `field` names it",
        401 => "No credential, or none that is good",
        403 => "The credential may not do this",
        404 => "It is not there, or not the caller's",
        408 => "It took too long",
        409 => "It does not go together with how things stand",
        412 => "It was changed since the caller looked",
        413 => "The body is too large",
        429 => "Too often; `Retry-After` says when",
        _ => "It cannot be done at this moment; `Retry-After` says when to try again",
    };
    let mut response = json!({
        "description": words,
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    if matches!(status, 429 | 503) {
        response["headers"] = json!({ "Retry-After": { "description": "Seconds", "schema": { "type": "integer" } } });
    }
    response
}

fn describe_headers(call: &mut Value, door: Door, idempotent: bool) {
    let text = |words: &str| json!({ "description": words, "schema": { "type": "string" } });
    for (status, response) in call["responses"].as_object_mut().into_iter().flatten() {
        if !status.starts_with('2') {
            continue;
        }
        let mut headers = entries(&response["headers"]);
        if matches!(door, Door::Counted | Door::Control) {
            headers.insert("RateLimit-Policy".into(), text("How many calls in how many seconds"));
            headers.insert("RateLimit".into(), text("How many are left, and in how many seconds all are"));
        }
        if idempotent {
            headers.insert("Idempotent-Replayed".into(), text("`true` where this is the first answer once more"));
        }
        if door == Door::Control && matches!(status.as_str(), "200" | "201") {
            headers.insert("ETag".into(), text("Its revision, where it has one; for If-Match"));
        }
        if status == "201" {
            headers.insert("Location".into(), text("Where it is from now on"));
        }
        if !headers.is_empty() {
            response["headers"] = Value::Object(headers);
        }
    }
}

/// The name of the schema that a call answers with.
fn answers_with<'a>(call: &'a Value, status: &str) -> Option<&'a str> {
    call["responses"][status]["content"]["application/json"]["schema"]["$ref"].as_str()?.rsplit('/').next()
}

/// How the schemas of lists begin.
fn listed() -> &'static str {
    std::any::type_name::<Listed<()>>().rsplit("::").next().and_then(|name| name.split('<').next()).unwrap_or("Listed")
}

/// The noun that a call is about.
fn tag(path: &str) -> &str {
    let mut parts = path.trim_start_matches("/api/v1").split('/').filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or("service");
    match (first, parts.nth(1)) {
        ("accounts", Some(noun)) => noun,
        ("livez" | "readyz" | "metrics" | "openapi.json", _) => "service",
        _ => first.split(':').next().unwrap_or(first),
    }
}
