//! How are the figures of a run written down?

use std::fmt;

/// A flat JSON object, in the order in which the figures were noted.
#[derive(Default)]
pub struct Figures(Vec<(String, String)>);

impl Figures {
    pub fn count(&mut self, name: &str, value: u64) {
        self.0.push((name.into(), value.to_string()));
    }

    pub fn number(&mut self, name: &str, value: f64) {
        // JSON knows neither NaN nor infinity.
        let text = if value.is_finite() { format!("{value:.3}") } else { "null".into() };
        self.0.push((name.into(), text));
    }

    pub fn text(&mut self, name: &str, value: &str) {
        self.0.push((name.into(), quoted(value)));
    }

    pub fn counts(&mut self, name: &str, values: &[u64]) {
        let list: Vec<String> = values.iter().map(u64::to_string).collect();
        self.0.push((name.into(), format!("[{}]", list.join(","))));
    }

    /// p50, p90, p99 and the greatest of `micros`, in milliseconds.
    pub fn spread_ms(&mut self, name: &str, micros: &mut [u32]) {
        micros.sort_unstable();
        for (suffix, share) in [("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("max", 1.0)] {
            self.number(&format!("{name}_{suffix}_ms"), f64::from(quantile(micros, share)) / 1000.0);
        }
    }

    /// Takes another set of figures in, each name with `prefix` before it.
    pub fn absorb(&mut self, prefix: &str, other: Figures) {
        self.0.extend(other.0.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)));
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<String> = self.0.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
        write!(out, "{{{}}}", members.join(","))
    }
}

/// The smallest value that at least `share` of the sorted values do not exceed; 0 for none.
fn quantile(sorted: &[u32], share: f64) -> u32 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(quantile(&values, 0.50), 50);
        assert_eq!(quantile(&values, 0.99), 99);
        assert_eq!(quantile(&values, 1.0), 100);
        assert_eq!(quantile(&[7], 0.5), 7);
        assert_eq!(quantile(&[], 0.5), 0);
    }

    #[test]
    fn figures_are_json() {
        let mut figures = Figures::default();
        figures.count("sent", 3);
        figures.number("rate", f64::NAN);
        figures.text("refusal", "451 \"later\"\r\n");
        assert_eq!(figures.to_string(), r#"{"sent":3,"rate":null,"refusal":"451 \"later\"\u000d\u000a"}"#);
    }
}
