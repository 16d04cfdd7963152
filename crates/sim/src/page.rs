//! How does a rehearsal look on paper? One page, complete in itself: charts, figures, decisions; no script, nothing to fetch.

use crate::rehearsal::{ARRIVED_PERCENT, Day, Outcome, SiteDay};
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 28.0;
const TOP: f64 = 10.0;
/// Above a chart that stands alone, for its title and legend.
const HEAD: f64 = 48.0;
/// About as wide as a letter of the legend.
const LETTER: f64 = 6.2;
/// Decisions beyond that are counted and not shown.
const DECISIONS_MAX: usize = 200;

const COLOURS: &str = "\
:root{--ink:#1c2430;--soft:#5b6675;--paper:#fff;--line:#d9dee5;--a:#2563a8;--b:#d08a2e;--c:#b3403a;--d:#4b8f5a}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa5b4;--paper:#12161c;--line:#2c3440;--a:#6ea8e6;--b:#e2ad62;--c:#e07b74;--d:#86c294}}";

const STYLE: &str = "\
body{margin:0 auto;max-width:800px;padding:32px 20px;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
h1{font-size:1.6em;margin:0 0 .2em}h2{font-size:1.1em;margin:2em 0 .3em}p{margin:.3em 0}.soft{color:var(--soft)}\
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px;margin:1.2em 0}\
dt{color:var(--soft);font-size:.85em}dd{margin:0;font-size:1.5em;font-variant-numeric:tabular-nums}\
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:12px}\
table{border-collapse:collapse;width:100%;font-size:.85em}td,th{text-align:left;padding:4px 8px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}\
.legend span{margin-right:1.2em;white-space:nowrap}.legend i{display:inline-block;width:12px;height:12px;margin-right:6px;border-radius:2px}";

/// A line of a chart.
struct Series {
    name: &'static str,
    colour: &'static str,
    values: Vec<f64>,
}

struct Chart {
    /// Of its file, where it is one.
    name: String,
    title: String,
    series: Vec<Series>,
}

/// A chart as a file of its own.
pub struct Picture {
    /// Without folder and ending.
    pub name: String,
    pub svg: String,
}

/// The whole page.
#[must_use]
pub fn page(title: &str, words: &str, outcome: &Outcome) -> String {
    let mut page = String::new();
    let days = outcome.days.len();
    let arrived = outcome.arrived().map_or_else(|| format!("not within {days} days"), |day| format!("day {day}"));
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{COLOURS}{STYLE}</style></head><body><h1>{0}</h1><p>{1}</p>\
         <p class=\"soft\">A rehearsal of {days} days against providers that do not exist. Their figures are plausible and not \
         measured: it shows how things go, and promises nothing.</p><dl>",
        escaped(title),
        escaped(words)
    );
    let facts = [
        (format!("{ARRIVED_PERCENT} % by its own IPs"), arrived),
        ("messages".to_owned(), grouped(outcome.sum(|site| site.offered))),
        ("asked to come again".to_owned(), percent(outcome.deferred_share())),
        ("blocked".to_owned(), grouped(outcome.sum(|site| site.blocked))),
        ("given up".to_owned(), grouped(outcome.sum(|site| site.lost))),
        ("95 % had arrived within".to_owned(), format!("{} min", grouped(outcome.delay_minutes(95)))),
        ("cost".to_owned(), format!("{:.2} USD", outcome.cost())),
    ];
    for (what, figure) in facts {
        let _ = write!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(&what), escaped(&figure));
    }
    page.push_str("</dl>");
    for chart in charts(outcome) {
        let (title, described) = (escaped(&chart.title), escaped(&described(&chart.series)));
        let _ = write!(
            page,
            "<h2>{title}</h2><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{title}</title><desc>{described}</desc>"
        );
        draw(&mut page, &chart.series);
        page.push_str("</svg><p class=\"legend soft\">");
        for one in &chart.series {
            let _ = write!(page, "<span><i style=\"background:{}\"></i>{}</span>", one.colour, escaped(one.name));
        }
        page.push_str("<span>day from left to right</span></p>");
    }
    decisions(&mut page, outcome);
    page.push_str("</body></html>\n");
    page
}

/// The same charts, each complete in itself: for documents, and for whoever shows one of them.
#[must_use]
pub fn pictures(outcome: &Outcome) -> Vec<Picture> {
    let drawn = |chart: Chart| {
        let mut svg = String::new();
        let (title, described) = (escaped(&chart.title), escaped(&described(&chart.series)));
        let _ = write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{0}\" viewBox=\"0 -{HEAD} {WIDTH} {0}\" role=\"img\">\
             <title>{title}</title><desc>{described}</desc><style>{COLOURS}text{{fill:var(--soft);font:12px system-ui,sans-serif}}</style>\
             <rect y=\"-{HEAD}\" width=\"100%\" height=\"100%\" fill=\"var(--paper)\"/>\
             <text x=\"{LEFT}\" y=\"-28\" style=\"fill:var(--ink);font-size:14px;font-weight:600\">{title}</text>",
            HEIGHT + HEAD
        );
        let mut x = LEFT;
        for one in &chart.series {
            let (colour, name) = (one.colour, escaped(one.name));
            let _ = write!(
                svg,
                "<rect x=\"{x}\" y=\"-16\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/><text x=\"{}\" y=\"-6\">{name}</text>",
                x + 18.0
            );
            x += 40.0 + one.name.len() as f64 * LETTER;
        }
        draw(&mut svg, &chart.series);
        svg.push_str("</svg>\n");
        Picture { name: chart.name, svg }
    };
    charts(outcome).into_iter().map(drawn).collect()
}

fn charts(outcome: &Outcome) -> Vec<Chart> {
    let of = |figure: fn(&SiteDay) -> u64| -> Vec<f64> {
        outcome.days.iter().map(|day| day.sites.iter().map(figure).sum::<u64>() as f64).collect()
    };
    let routes = [
        Series { name: "by its own IPs", colour: "var(--a)", values: of(|site| site.dedicated) },
        Series { name: "by the shared pool", colour: "var(--b)", values: of(|site| site.shared) },
        Series { name: "waiting at midnight", colour: "var(--c)", values: of(|site| site.waiting) },
    ];
    let mut charts = vec![chart("routes", "Messages a day, by route", routes)];
    let noes = [
        Series { name: "asked to come again", colour: "var(--b)", values: of(|site| site.deferred) },
        Series { name: "blocked", colour: "var(--c)", values: of(|site| site.blocked) },
    ];
    charts.push(chart("noes", "Answers a day that were no yes", noes));
    for (at, name) in outcome.sites.iter().enumerate() {
        let of = |figure: &dyn Fn(&SiteDay) -> u64| -> Vec<f64> {
            outcome.days.iter().map(|day| figure(&day.sites[at]) as f64).collect()
        };
        let lines = [
            Series {
                name: "what it may send",
                colour: "var(--d)",
                values: of(&|site| site.allowed.unwrap_or(site.offered)),
            },
            Series { name: "asked for", colour: "var(--soft)", values: of(&|site| site.offered) },
            Series { name: "sent", colour: "var(--a)", values: of(&|site| site.dedicated) },
        ];
        charts.push(chart(&format!("use-{name}"), &format!("{name}: allowance and use"), lines));
    }
    let cost: Vec<f64> = outcome.days.iter().map(|day: &Day| day.cost).collect();
    charts.push(chart(
        "cost",
        "Cost a day, in US dollars",
        [Series { name: "IPs and shared sending", colour: "var(--a)", values: cost }],
    ));
    charts
}

fn chart(name: &str, title: &str, series: impl Into<Vec<Series>>) -> Chart {
    Chart { name: name.to_owned(), title: title.to_owned(), series: series.into() }
}

/// Grid, days and lines.
fn draw(page: &mut String, series: &[Series]) {
    let days = series.iter().map(|one| one.values.len()).max().unwrap_or(0);
    let most = series.iter().flat_map(|one| &one.values).copied().fold(0.0, f64::max);
    let top = nice(most);
    let x = |day: usize| LEFT + (WIDTH - LEFT - 8.0) * day as f64 / (days.max(2) - 1) as f64;
    let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value / top);
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let _ = write!(
            page,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"var(--line)\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - 8.0,
            LEFT - 8.0,
            y(value) + 4.0,
            grouped(value.round() as u64),
            y = y(value)
        );
    }
    let every = days.div_ceil(10).max(1);
    for day in (0..days).step_by(every) {
        let _ =
            write!(page, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", x(day), HEIGHT - 8.0, day + 1);
    }
    for one in series {
        let points: Vec<String> =
            one.values.iter().enumerate().map(|(day, value)| format!("{:.1},{:.1}", x(day), y(*value))).collect();
        let _ = write!(
            page,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\" points=\"{}\"/>",
            one.colour,
            points.join(" ")
        );
    }
}

/// For who does not see the chart.
fn described(series: &[Series]) -> String {
    let one = |one: &Series| {
        let (first, last) = (one.values.first().copied().unwrap_or(0.0), one.values.last().copied().unwrap_or(0.0));
        let most = one.values.iter().copied().fold(0.0, f64::max);
        let figures = [first, last, most].map(|value| grouped(value.round() as u64));
        format!("{}: {} on the first day, {} on the last, {} at most.", one.name, figures[0], figures[1], figures[2])
    };
    series.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn decisions(page: &mut String, outcome: &Outcome) {
    page.push_str(
        "<h2>What was decided, and why</h2><table><tr><th>day</th><th>time</th><th>where</th><th>decision</th></tr>",
    );
    for told in outcome.told.iter().take(DECISIONS_MAX) {
        let place = told.provider.as_deref().unwrap_or("the pool");
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{:02}:{:02}</td><td>{}</td><td>{}</td></tr>",
            told.day + 1,
            told.minute / 60,
            told.minute % 60,
            escaped(place),
            escaped(&told.words)
        );
    }
    page.push_str("</table>");
    let left = outcome.told.len().saturating_sub(DECISIONS_MAX);
    if left > 0 {
        let _ = write!(page, "<p class=\"soft\">And {} more.</p>", grouped(left as u64));
    }
}

/// The next round figure above.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 4.0;
    }
    let scale = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * scale).find(|round| *round >= value).unwrap_or(value).max(4.0)
}

/// With a comma after each three digits.
#[must_use]
pub fn grouped(figure: u64) -> String {
    let digits = figure.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Of ten thousandths.
#[must_use]
pub fn percent(parts: u64) -> String {
    format!("{}.{:02} %", parts / 100, parts % 100)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failing unwrap is a failing test.
    use super::{escaped, grouped, nice, page, pictures};
    use crate::rehearsal::rehearse;
    use crate::scenario::Scenario;

    // R8.2: complete in itself, and with all that was found.
    #[test]
    fn the_page_holds_charts_figures_and_decisions() {
        let outcome = rehearse(&Scenario::named("good-sender").unwrap().setting(1));
        let page = page("A <good> sender", "one IP & more", &outcome);
        for part in [
            "A &lt;good&gt; sender",
            "one IP &amp; more",
            "by its own IPs",
            "google: allowance and use",
            "it may send more",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<script") && !page.contains("http"), "nothing is fetched");
        assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (9, 9));
        assert!(page.len() < 200_000, "{}", page.len());
        let pictures = pictures(&outcome);
        assert_eq!(pictures.len(), 9);
        assert_eq!((pictures[0].name.as_str(), pictures[2].name.as_str()), ("routes", "use-google"));
        for picture in pictures {
            let lines = picture.svg.matches("<polyline").count();
            assert!(
                lines > 0 && picture.svg.ends_with("</svg>\n") && !picture.svg.contains("<h2>"),
                "{}",
                picture.name
            );
        }
    }

    #[test]
    fn figures_can_be_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 3.0, 101.0, 112_000.0].map(nice), [4.0, 4.0, 120.0, 120_000.0]);
        assert_eq!(escaped("<a href=\"x\">"), "&lt;a href=&quot;x&quot;&gt;");
    }
}
