//! Do the documents name everything there is: each key of the configuration file, each metric, each reason?
//!
//! The sources are read as text, simply: a change of their form that hides all names fails here too, by the counts.

use std::fs;
use std::path::Path;

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

/// The names that are missing from a document, where each stands in backquotes.
fn missing(names: &[String], document: &str) -> Vec<String> {
    names.iter().filter(|name| !document.contains(&format!("`{name}`"))).cloned().collect()
}

/// What stands between the quotes that follow `before`, once for each line that has it.
fn quoted_after(source: &str, before: &str) -> Vec<String> {
    let value = |line: &str| Some(line.split_once(before)?.1.split('"').next()?.to_owned());
    source.lines().filter_map(value).collect()
}

/// A section of the file: the heading that the document gives it, the type that reads it, and its keys.
struct Section {
    heading: String,
    keys: Vec<String>,
}

/// Where a type's section stands in the file. A type that is not here fails the test: it has no place in the document.
const HEADINGS: &[(&str, &str)] = &[
    ("Written", "### Top"),
    ("Limits", "### `[limits]`"),
    ("SpoolSection", "### `[spool]`"),
    ("TlsSection", "### `[tls]`"),
    ("Listener", "### `[[listener]]`"),
    ("Http", "### `[http]`"),
    ("TrackingSection", "### `[tracking]`"),
    ("TracesSection", "### `[traces]`"),
    ("ReturnsSection", "### `[returns]`"),
    ("ReturnsLimits", "### `[returns.limits]`"),
    ("ControlSection", "### `[control]`"),
    ("Account", "### `[[account]]`"),
    ("Credential", "### `[[credential]]`"),
    ("DomainSection", "### `[[domain]]`"),
    ("Dkim", "### `[[domain]]`"),
    ("Ip", "### `[[ip]]`"),
    ("Pool", "### `[[pool]]`"),
    ("Delivery", "### `[delivery]`"),
    ("PatienceSection", "### `[delivery.patience]`"),
    ("Dns", "### `[dns]`"),
    ("Answer", "### `[[dns.answer]]`"),
    ("WarmUpSection", "### `[warm_up]`"),
    ("Shaping", "### `[[shaping]]`"),
];

/// The keys of every type that is read from the file. A key whose value is a section of its own is left to that section.
fn sections(source: &str) -> Vec<Section> {
    let mut sections = Vec::new();
    for part in source.split("#[serde(deny_unknown_fields").skip(1) {
        let Some(name) = part.split_once("pub struct ").and_then(|(_, rest)| rest.split_once(" {")) else { continue };
        let (name, body) = name;
        let heading = HEADINGS.iter().find(|(known, _)| *known == name);
        let (_, heading) = heading.unwrap_or_else(|| panic!("{name} has no section in configuration.md"));
        let body = body.split("\n}").next().unwrap_or_default();
        let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
        let keys = fields
            .filter(|(_, kind)| !HEADINGS.iter().any(|(known, _)| *known != "Dkim" && mentions(kind, known)))
            .map(|(key, _)| key.to_owned())
            .collect();
        sections.push(Section { heading: (*heading).to_owned(), keys });
    }
    sections
}

/// Whether a type's text has this name as a word of its own.
fn mentions(kind: &str, name: &str) -> bool {
    kind.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == name)
}

#[test]
fn each_configuration_key_stands_in_its_section() {
    let document = text("docs/operate/configuration.md");
    let sections = sections(&text("src/config.rs"));
    assert_eq!(sections.len(), HEADINGS.len(), "a type of src/config.rs was not found");
    for Section { heading, keys } in sections {
        let (_, part) = document.split_once(&heading).unwrap_or_else(|| panic!("there is no heading {heading}"));
        let part = part.split("\n### ").next().unwrap_or_default();
        assert!(!keys.is_empty(), "{heading}: no keys were found");
        assert_eq!(missing(&keys, part), Vec::<String>::new(), "{heading} of configuration.md");
    }
}

#[test]
fn each_metric_is_documented() {
    let source = text("crates/mta/src/metrics.rs");
    let registered: Vec<&str> = source.split("registry.register(").skip(1).collect();
    // A counter's name ends with _total on the page.
    let counters: Vec<&str> =
        source.lines().filter(|line| line.contains("Counter>,") || line.contains(": Counter,")).collect();
    let named = registered.iter().filter_map(|call| {
        let name = call.split('"').nth(1)?;
        let field = call.split_once("metrics.")?.1.split('.').next()?;
        let counts = counters.iter().any(|line| line.trim().starts_with(&format!("pub {field}:")));
        Some(format!("weir_{name}{}", if counts { "_total" } else { "" }))
    });
    let names: Vec<String> = named.collect();
    assert!(names.len() == registered.len() && names.len() > 5, "{names:?}");
    let document = text("docs/operate/metrics.md");
    assert_eq!(missing(&names, &document), Vec::<String>::new(), "metrics.md");
    for help in registered.iter().filter_map(|call| call.split('"').nth(3)) {
        assert!(document.contains(help), "metrics.md lacks the help text: {help}");
    }
}

#[test]
fn each_reason_is_documented() {
    let source = text("crates/engine/src/why.rs");
    let (_, codes) = source.split_once("pub fn code").expect("a reason has a code");
    let codes = codes.split("pub fn words").next().unwrap_or_default();
    let names = quoted_after(codes, "=> \"");
    assert!(names.len() > 30, "{names:?}");
    assert_eq!(missing(&names, &text("docs/operate/queue.md")), Vec::<String>::new(), "queue.md");
}

#[test]
fn each_step_of_a_warm_up_is_documented() {
    let source = text("crates/engine/src/judged.rs");
    let names: Vec<String> =
        quoted_after(&source, "=> \"").into_iter().filter(|name| name.starts_with("warm-up-")).collect();
    assert!(names.len() > 15, "{names:?}");
    assert_eq!(missing(&names, &text("docs/operate/warm-up.md")), Vec::<String>::new(), "warm-up.md");
}

// The other direction: a document that names a reason or a metric that is gone misleads.
#[test]
fn no_document_names_what_is_gone() {
    let why = text("crates/engine/src/why.rs");
    let queue = text("docs/operate/queue.md");
    let (_, table) = queue.split_once("\n## Why\n").expect("queue.md has the reasons");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for code in rows {
        assert!(why.contains(&format!("=> \"{code}\"")), "queue.md names the reason {code}, which does not exist");
    }
    let metrics = text("crates/mta/src/metrics.rs");
    for row in
        text("docs/operate/metrics.md").lines().filter_map(|line| line.strip_prefix("| `weir_")?.split('`').next())
    {
        let name = row.strip_suffix("_total").unwrap_or(row);
        assert!(
            metrics.contains(&format!("\"{name}\"")),
            "metrics.md names the series weir_{row}, which does not exist"
        );
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let operate = root.join("operate");
    let pages = [&root, &operate].into_iter().flat_map(|folder| fs::read_dir(folder).expect("the folder is there"));
    let mut links = 0;
    for page in pages
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
    {
        let text = fs::read_to_string(&page).expect("UTF-8");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name("").join(file) };
            let there = fs::read_to_string(&target).unwrap_or_default();
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            let anchored = place.is_empty() || there.lines().any(|line| line.starts_with('#') && anchor(line) == place);
            assert!(anchored, "{}: {link}: no such heading", page.display());
            links += 1;
        }
    }
    assert!(links > 20, "only {links} links were found");
}

/// The name that a heading gets in its page's address.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

// R6.7
#[test]
fn the_dashboard_shows_series_that_exist() {
    let metrics = text("crates/mta/src/metrics.rs");
    let board: serde_json::Value = serde_json::from_str(&text("docs/operate/grafana.json")).expect("it is JSON");
    let panels = board["panels"].as_array().expect("it has panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let asked: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
    assert!(asked.len() > 10, "{asked:?}");
    for expression in asked {
        let names = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let series: Vec<&str> = names.filter_map(|name| name.strip_prefix("weir_")).collect();
        assert!(!series.is_empty(), "{expression}");
        for name in series {
            let name = ["_total", "_bucket"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(metrics.contains(&format!("\"{name}\"")), "{expression}: there is no series {name}");
        }
    }
}
