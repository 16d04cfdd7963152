//! Is an answer one that the description promises? As much of JSON Schema as the description uses, and values made from it.

use super::Told;
use axum::http::Method;
use serde_json::{Map, Value, json};

/// The description of the call that an address belongs to.
pub fn find<'a>(document: &'a Value, method: &str, path: &str) -> Option<&'a Value> {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |pattern: &str| {
        let (mut own, mut given) = (pattern.split('/'), path.split('/'));
        loop {
            match (own.next(), given.next()) {
                (None, None) => return true,
                (Some(own), Some(given)) if own == given || (own.starts_with('{') && !given.is_empty()) => {}
                _ => return false,
            }
        }
    };
    let paths = document["paths"].as_object()?;
    // A word of its own comes before a name.
    let exact = paths.get(path);
    let item = exact.or_else(|| paths.iter().find(|(pattern, _)| fits(pattern)).map(|(_, item)| item))?;
    item.get(method)
}

#[track_caller]
pub fn check(document: &Value, method: &Method, path: &str, told: &Told) {
    let name = method.as_str().to_lowercase();
    let Some(call) = find(document, &name, path) else {
        assert!(matches!(told.status.as_u16(), 404 | 405), "{method} {path} is not described, and answers {told:?}");
        return;
    };
    let status = told.status.as_u16().to_string();
    let response = resolved(document, &call["responses"][&status]);
    assert!(response.is_object(), "{method} {path} may not answer {status}: {}", told.text);
    let Some(content) = response["content"].as_object() else {
        assert!(told.text.is_empty(), "{method} {path} {status} has no body, and says {}", told.text);
        return;
    };
    let kind = told.header("content-type").split(';').next().unwrap_or_default();
    let content = content.get(kind).unwrap_or_else(|| panic!("{method} {path} {status} is not described as {kind}"));
    if kind.ends_with("json") {
        let mut wrong = Vec::new();
        fits(document, &content["schema"], &told.body, "", &mut wrong);
        assert!(wrong.is_empty(), "{method} {path} {status}: {wrong:?}\n{}", told.text);
    }
}

pub fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => resolved(document, document.pointer(&reference[1..]).expect("a reference leads somewhere")),
        None => schema,
    }
}

fn fits(document: &Value, schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let fit = |choice: &Value| {
            let mut wrong = Vec::new();
            fits(document, choice, value, place, &mut wrong);
            wrong.is_empty()
        };
        if !choices.iter().any(fit) {
            wrong.push(format!("{place} fits nothing of {choices:?}"));
        }
        return;
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        wrong.push(format!("{place} is {value}, none of {words:?}"));
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    // What is whole is a number, too.
    let is_known = kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
    if !kinds.is_empty() && !is_known {
        wrong.push(format!("{place} is {value}, which is no {kinds:?}"));
        return;
    }
    if let Value::Array(items) = value {
        for (at, item) in items.iter().enumerate() {
            fits(document, &schema["items"], item, &format!("{place}[{at}]"), wrong);
        }
    }
    if let Value::Object(fields) = value {
        let known = schema["properties"].as_object().cloned().unwrap_or_default();
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                wrong.push(format!("{place}.{name} is missing"));
            }
        }
        for (name, value) in fields {
            match (known.get(name), schema.get("additionalProperties")) {
                (Some(schema), _) => fits(document, schema, value, &format!("{place}.{name}"), wrong),
                (None, Some(schema)) if schema.is_object() => {
                    fits(document, schema, value, &format!("{place}.{name}"), wrong);
                }
                // The description promises all that is shown.
                (None, _) if !known.is_empty() => wrong.push(format!("{place}.{name} is not described")),
                (None, _) => {}
            }
        }
    }
}

/// A value that the schema allows, with every field; `own` gives the values of fields by name.
pub fn example(document: &Value, schema: &Value, own: &dyn Fn(&str) -> Option<Value>) -> Value {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let choice = choices.iter().find(|choice| choice["type"] != "null").expect("one is a value");
        return example(document, choice, own);
    }
    if let Some(word) = schema["enum"].as_array().and_then(|words| words.first()) {
        return word.clone();
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.as_str(),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null"),
        _ => "object",
    };
    match kind {
        "string" if schema["format"] == "ip" => json!("192.0.2.77"),
        "string" if schema["format"] == "date-time" => json!("2030-01-01T00:00:00Z"),
        "string" => json!("example"),
        "integer" => json!(1),
        "boolean" => json!(true),
        "array" => json!([example(document, &schema["items"], own)]),
        _ => {
            let mut fields = Map::new();
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                let value = match own(name) {
                    Some(value) if resolved(document, schema)["type"] == "array" => json!([value]),
                    Some(value) => value,
                    None => example(document, schema, own),
                };
                fields.insert(name.clone(), value);
            }
            Value::Object(fields)
        }
    }
}
