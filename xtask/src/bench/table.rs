//! What do the figures of several rounds say, side by side?

use std::fmt::Write;

/// The value of a number in a flat JSON object, as the bench writes it.
pub fn figure(json: &str, name: &str) -> Option<f64> {
    let at = json.find(&format!("\"{name}\":"))? + name.len() + 3;
    let value = &json[at..];
    value[..value.find([',', '}'])?].parse().ok()
}

/// The value of a text in such an object; these need no escapes.
pub fn text(json: &str, name: &str) -> Option<String> {
    let quoted = format!("\"{name}\":\"");
    let value = &json[json.find(&quoted)? + quoted.len()..];
    Some(value[..value.find('"')?].to_owned())
}

/// All rounds of one server in one way of sending.
pub struct Row {
    pub name: String,
    pub way: &'static str,
    pub rounds: Vec<String>,
}

impl Row {
    /// The median of its rounds.
    fn median(&self, name: &str) -> Option<f64> {
        let mut values: Vec<f64> = self.rounds.iter().filter_map(|json| figure(json, name)).collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(values[middle]),
            _ => Some((values[middle - 1] + values[middle]) / 2.0),
        }
    }

    fn greatest(&self, name: &str) -> f64 {
        self.rounds.iter().filter_map(|json| figure(json, name)).fold(0.0, f64::max)
    }
}

/// The rows as Markdown; ratios are to `base` in the same way of sending.
pub fn table(rows: &[Row], base: &str) -> String {
    let mut out = String::from(
        "| server | connections | messages/s | × | CPU s per 1,000 | × | peak PSS MiB | ack p50 / p99 ms | at 200/s: ack p50 / p99 / max ms | fdatasync p50 / p99 ms | at 200/s: fdatasync p50 / p99 ms | lost, doubled, refused |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let other = rows.iter().find(|other| other.name == base && other.way == row.way);
        let ratio = |name: &str| {
            let share = other.and_then(|other| Some(row.median(name)? / other.median(name)?));
            share.filter(|share| share.is_finite() && *share > 0.0).map_or("–".into(), |share| format!("{share:.2}"))
        };
        let value =
            |name: &str, digits: usize| row.median(name).map_or("–".into(), |value| format!("{value:.digits$}"));
        let bad = ["lost", "duplicates", "refused"].map(|name| format!("{:.0}", row.greatest(name))).join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} / {} | {} / {} / {} | {} / {} | {} / {} | {bad} |",
            row.name,
            row.way,
            value("end_to_end_per_second", 0),
            ratio("end_to_end_per_second"),
            value("cpu_seconds_per_1000", 3),
            ratio("cpu_seconds_per_1000"),
            value("peak_pss_mib", 0),
            value("ack_p50_ms", 2),
            value("ack_p99_ms", 2),
            value("paced_ack_p50_ms", 2),
            value("paced_ack_p99_ms", 2),
            value("paced_ack_max_ms", 2),
            value("fdatasync_p50_ms", 2),
            value("fdatasync_p99_ms", 2),
            value("paced_fdatasync_p50_ms", 2),
            value("paced_fdatasync_p99_ms", 2),
        );
    }
    out
}

/// What telling of all that happened costs, beside the same server that tells nobody.
pub fn told(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows.iter().filter(|row| row.median("events_told").is_some()) {
        let plain = row.name.strip_suffix("+events").unwrap_or(&row.name);
        let other = rows.iter().find(|other| other.name == plain && other.way == row.way);
        let share = |name: &str| other.and_then(|other| Some(row.median(name)? / other.median(name)?));
        let value = |name: &str| row.median(name).unwrap_or(f64::NAN);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}, {}: {:.0} % of the messages/s of {plain} ({:.0} %, until the last event was told), {:.2} × its CPU; \
             {:.0} events told, the last {:.1} s after the mail, {:.0} told again",
            row.name,
            row.way,
            share("end_to_end_per_second").unwrap_or(f64::NAN) * 100.0,
            value("all_told_per_second") * 100.0
                / other.and_then(|other| other.median("end_to_end_per_second")).unwrap_or(f64::NAN),
            share("cpu_seconds_per_1000").unwrap_or(f64::NAN),
            value("events_told"),
            value("told_after_mail_seconds"),
            row.greatest("events_told_again"),
        );
    }
    out
}

/// The medians of all rounds of all rows.
pub fn median_of_all(rows: &[Row], name: &str) -> Option<f64> {
    let rounds = rows.iter().flat_map(|row| row.rounds.iter().cloned()).collect();
    Row { name: String::new(), way: "", rounds }.median(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_found_by_its_whole_name() {
        let json = r#"{"paced_ack_p50_ms":2.5,"ack_p50_ms":1.250,"lost":0}"#;
        assert_eq!(figure(json, "ack_p50_ms"), Some(1.25));
        assert_eq!(figure(json, "lost"), Some(0.0));
        assert_eq!(figure(json, "seconds"), None);
        assert_eq!(figure(r#"{"rate":null}"#, "rate"), None);
        assert_eq!(text(r#"{"the_id":"b","id":"a"}"#, "id").as_deref(), Some("a"));
    }

    #[test]
    fn ratios_are_of_medians_to_the_base() {
        let row = |name: &str, rates: &[f64]| Row {
            name: name.into(),
            way: "new each",
            rounds: rates.iter().map(|rate| format!("{{\"end_to_end_per_second\":{rate},\"lost\":{rate}}}")).collect(),
        };
        let text = table(&[row("base", &[100.0, 300.0, 200.0]), row("other", &[500.0, 300.0])], "base");
        assert!(text.contains("| base | new each | 200 | 1.00 |"), "{text}");
        assert!(text.contains("| other | new each | 400 | 2.00 |"), "{text}");
        assert!(text.contains("| 500, 0, 0 |"), "{text}");
    }
}
