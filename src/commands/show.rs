//! How does an answer look to a reader? Tables and cards, of fields named by their JSON pointer without the first slash.

use serde_json::Value;

/// Between two columns.
const GAP: &str = "  ";

/// A row for each item under aligned headings; the last column is as wide as it is.
#[must_use]
pub fn table(items: &[Value], fields: &[&str]) -> String {
    let mut rows: Vec<Vec<String>> = vec![fields.iter().map(|field| heading(field)).collect()];
    rows.extend(items.iter().map(|item| fields.iter().map(|field| or_dash(cell(at(item, field)))).collect()));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..fields.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A line for each field that says something.
#[must_use]
pub fn card(value: &Value, fields: &[&str]) -> String {
    let rows = fields.iter().map(|field| (heading(field), cell(at(value, field))));
    pairs(&rows.filter(|(_, text)| !text.is_empty()).collect::<Vec<_>>())
}

#[must_use]
pub fn pairs(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    rows.iter().map(|(name, text)| format!("{name:<width$}{GAP}{text}")).collect::<Vec<_>>().join("\n")
}

#[must_use]
pub fn at<'a>(value: &'a Value, field: &str) -> &'a Value {
    value.pointer(&format!("/{field}")).unwrap_or(&Value::Null)
}

/// A field that is text.
#[must_use]
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    at(value, field).as_str().unwrap_or_default()
}

#[must_use]
pub fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    at(value, field).as_array().map_or(&[], Vec::as_slice)
}

fn heading(field: &str) -> String {
    let last = field.rsplit('/').next().unwrap_or(field);
    last.trim_end_matches("_at").replace('_', " ")
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(is) => if *is { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.replace('\n', " "),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().map(|item| format!("({})", cell(item))).collect::<Vec<_>>().join(" ")
        }
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Number(_) => value.to_string(),
        Value::Object(fields) => {
            let told = fields.iter().map(|(name, value)| (heading(name), cell(value)));
            told.filter(|(_, text)| !text.is_empty())
                .map(|(name, text)| format!("{name} {text}"))
                .collect::<Vec<_>>()
                .join("; ")
        }
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::{card, table};
    use serde_json::json;

    #[test]
    fn columns_are_aligned_and_what_is_not_there_is_a_dash() {
        let items = [json!({ "id": "a", "sends": true, "created_at": "now" }), json!({ "id": "long", "pool": "p" })];
        let told = "id    sends  pool  created\na     yes    -     now\nlong  -      p     -";
        assert_eq!(table(&items, &["id", "sends", "pool", "created_at"]), told);
    }

    #[test]
    fn a_card_leaves_out_what_is_not_there() {
        let value = json!({ "address": "192.0.2.1", "pool": null, "wiring": { "bind": "10.0.0.1" }, "in": ["a", "b"] });
        assert_eq!(
            card(&value, &["address", "pool", "wiring/bind", "in"]),
            "address  192.0.2.1\nbind     10.0.0.1\nin       a, b"
        );
    }
}
