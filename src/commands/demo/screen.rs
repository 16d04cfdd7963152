//! How does the demo look? As a page of lines that is drawn over itself on a terminal, as a line now and then elsewhere.

use crate::commands::demo::board::{Board, Story};
use crate::commands::demo::tenants::{PLANNED, Place, Tenant};
use crate::world::SITES;
use engine::event::EventKind;
use engine::time::Timestamp;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};

const LABEL_WIDTH: usize = 11;
const CELL_WIDTH: usize = 8;
const STORIES_MAX: usize = 8;
const STORIES_MIN: usize = 3;

/// What fits on the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub rows: usize,
    pub columns: usize,
}

impl Size {
    /// As the terminal says; without an answer, what every terminal has had for fifty years.
    pub fn ask() -> Size {
        Size::asked().unwrap_or(Size { rows: 24, columns: 80 })
    }

    fn asked() -> Option<Size> {
        let terminal = File::open("/dev/tty").ok()?;
        let answer = Command::new("stty").arg("size").stdin(terminal).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(answer.stdout).ok()?;
        let mut numbers = text.split_whitespace().map(|word| word.parse::<usize>().ok().filter(|number| *number > 0));
        Some(Size { rows: numbers.next()??, columns: numbers.next()?? })
    }
}

/// The part of the terminal that is drawn over.
#[derive(Default)]
pub struct Screen {
    drawn: usize,
}

impl Screen {
    pub fn draw(&mut self, lines: &[Line], size: Size) -> io::Result<()> {
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for line in lines {
            // One column stays free: some terminals wrap when the last one is written.
            let _ = write!(text, "\r{}\x1b[K\n", line.painted(size.columns.saturating_sub(1)));
        }
        text.push_str("\x1b[J");
        self.drawn = lines.len();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// How a piece of a line is painted: the code that stands in an escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Plain,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Paint::Plain => "0",
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Green => "32",
            Paint::Yellow => "33",
            Paint::Red => "31",
        }
    }
}

/// One line, in pieces of one paint each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Paint, String)>);

impl Line {
    fn of(paint: Paint, text: impl Into<String>) -> Line {
        Line(vec![(paint, text.into())])
    }

    fn and(mut self, paint: Paint, text: impl Into<String>) -> Line {
        self.0.push((paint, text.into()));
        self
    }

    /// At most so many characters, and what they are painted with.
    fn painted(&self, width: usize) -> String {
        let mut left = width;
        let mut out = String::new();
        for (paint, text) in &self.0 {
            let shown: String = text.chars().filter(|letter| !letter.is_control()).take(left).collect();
            left -= shown.chars().count();
            let _ = write!(out, "\x1b[{}m{shown}\x1b[0m", paint.code());
        }
        out
    }
}

/// The whole page.
pub fn page(
    board: &Board,
    tenants: &[Tenant],
    (refused, told_of): (u64, u64),
    (began, now): Span,
    size: Size,
) -> Vec<Line> {
    let mut lines = vec![Line::default(), headline(board, refused, (began, now)), heard(board, told_of), header()];
    // What cannot be seen at once is not drawn: a page taller than the terminal cannot be drawn over.
    let detailed = size.rows > page_rows(true) + STORIES_MIN;
    for tenant in tenants {
        lines.push(headed(board, tenant));
        for place in tenant.planned.places() {
            lines.push(delivered(board, place.ip()));
            if detailed {
                lines.push(troubles(board, *place));
            }
        }
    }
    lines.push(legend());
    let room = size.rows.saturating_sub(page_rows(detailed) + 1).min(STORIES_MAX);
    let mut stories: Vec<Line> = board.latest(room).into_iter().map(|story| told(story, began)).collect();
    stories.resize(room, Line::default());
    lines.extend(stories);
    lines.truncate(size.rows.saturating_sub(1));
    lines
}

/// Rows without the stories.
fn page_rows(detailed: bool) -> usize {
    let places: usize = PLANNED.iter().map(|planned| planned.places().len()).sum();
    5 + PLANNED.len() + places * if detailed { 2 } else { 1 }
}

/// Who it is, and what became of its mail.
fn headed(board: &Board, tenant: &Tenant) -> Line {
    let share = board.share(&tenant.id);
    let warming = |ip: IpAddr| board.warming(ip).map(|warming| format!("  {ip} {}", warming.words()));
    let warming: String = tenant.planned.fresh().filter_map(warming).collect();
    Line::of(Paint::Bold, tenant.planned.account)
        .and(Paint::Dim, format!("  {}", tenant.planned.words))
        .and(Paint::Plain, format!("  {} accepted", share.accepted))
        .and(Paint::Green, format!("  {} delivered", share.cell.delivered))
        .and(Paint::Yellow, warming)
}

/// From when until when.
pub type Span = (Timestamp, Timestamp);

fn headline(board: &Board, refused: u64, (began, now): Span) -> Line {
    Line::of(Paint::Bold, clock(began, now))
        .and(Paint::Plain, format!("  accepted {} ({:.0}/s)", board.accepted, board.accepted_rate()))
        .and(Paint::Green, format!("  delivered {}", board.total.delivered))
        .and(Paint::Yellow, format!("  deferred {}", board.total.deferred))
        .and(Paint::Red, format!("  bounced {}", board.total.bounced))
        .and(Paint::Plain, format!("  queued {}", board.open()))
        .and(if refused > 0 { Paint::Red } else { Paint::Dim }, format!("  refused {refused}"))
}

/// What comes back, at once or later, and how much of what happened acme's program was told.
fn heard(board: &Board, told_of: u64) -> Line {
    Line::of(Paint::Red, format!("       sent back {}  complaints {}", board.returned, board.complained))
        .and(Paint::Dim, format!("  spared {}", board.suppressed))
        .and(Paint::Green, format!("  opened {}  clicked {}", board.opened, board.clicked))
        .and(Paint::Plain, format!("  ended {}  told to acme {told_of}", board.unsubscribed))
}

fn header() -> Line {
    let labels: String = SITES.iter().map(|site| format!("{:>CELL_WIDTH$}", site.label)).collect();
    Line::of(Paint::Bold, format!("{:LABEL_WIDTH$}{labels}", ""))
}

fn delivered(board: &Board, ip: IpAddr) -> Line {
    let mut line = Line::of(Paint::Plain, format!("{:LABEL_WIDTH$}", ip.to_string()));
    for site in SITES {
        let count = board.cell(ip, site.provider).delivered;
        let recent = board.recently_delivered(ip, site.provider);
        let (paint, text) = match (count, recent) {
            (0, _) => (Paint::Dim, "0".to_owned()),
            (_, 0) => (Paint::Plain, short(count)),
            (_, recent) => (Paint::Green, format!("{}+{recent}", short(count))),
        };
        line = line.and(paint, format!("{text:>CELL_WIDTH$}"));
    }
    line
}

fn troubles(board: &Board, place: Place) -> Line {
    let ip = place.ip();
    let mut line = Line::of(Paint::Dim, format!("{:LABEL_WIDTH$}", format!("  {}", place.note())));
    for site in SITES {
        let cell = board.cell(ip, site.provider);
        let marked = |mark: &str, count: u64| if count > 0 { format!("{mark}{}", short(count)) } else { String::new() };
        let held_back =
            board.held_back(ip, site.provider).map_or_else(String::new, |waiting| marked("!", waiting.max(1)));
        let (deferred, bounced) = (marked("~", cell.deferred), marked("x", cell.bounced));
        let waits = format!("{deferred}{held_back}");
        let width = CELL_WIDTH.saturating_sub(bounced.len());
        line = line.and(Paint::Yellow, format!("{waits:>width$}")).and(Paint::Red, bounced);
    }
    line
}

fn legend() -> Line {
    Line::of(Paint::Dim, "delivered")
        .and(Paint::Green, "+in 5 s")
        .and(Paint::Yellow, "  ~deferred  !waiting: slowed by the provider")
        .and(Paint::Red, "  xbounced")
}

fn told(story: &Story, began: Timestamp) -> Line {
    let paint = match story.kind {
        EventKind::Delivered => Paint::Green,
        EventKind::Bounced | EventKind::Expired => Paint::Red,
        EventKind::Deferred | EventKind::LaneSlowed | EventKind::LaneSuspended => Paint::Yellow,
        _ => Paint::Plain,
    };
    Line::of(Paint::Dim, clock(began, story.at)).and(paint, format!(" {}", story.words))
}

/// For where nothing can be drawn over: one line.
pub fn status(board: &Board, (refused, told_of): (u64, u64), (began, now): Span) -> String {
    let total = &board.total;
    let mut line = format!(
        "{}  accepted {}, delivered {}, deferred {}, bounced {}, sent back later {}, complained {}, spared {}, opened {}, clicked {}, ended {}, told to acme {told_of}, queued {}, refused {refused}; delivered from",
        clock(began, now),
        board.accepted,
        total.delivered,
        total.deferred,
        total.bounced,
        board.returned,
        board.complained,
        board.suppressed,
        board.opened,
        board.clicked,
        board.unsubscribed,
        board.open()
    );
    for ip in PLANNED.iter().flat_map(|planned| planned.places()).map(|place| place.ip()) {
        let _ = write!(line, " {ip} {}", board.delivered_from(ip));
    }
    for ip in PLANNED.iter().flat_map(|planned| planned.fresh()) {
        if let Some(warming) = board.warming(ip) {
            let _ = write!(line, "; {ip} {}", warming.words());
        }
    }
    line
}

fn clock(began: Timestamp, at: Timestamp) -> String {
    let minutes = at.since(began).as_secs() / 60;
    format!("day {} {:02}:{:02}", minutes / 1_440 + 1, minutes / 60 % 24, minutes % 60)
}

/// Four characters at most.
fn short(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Line, Paint, Size, page};
    use crate::commands::demo::board::Board;
    use crate::commands::demo::tenants::{PLANNED, Tenant};
    use engine::time::Timestamp;

    #[test]
    fn a_page_fits_on_the_terminal() {
        let tenant = |planned| Tenant {
            planned,
            id: String::new(),
            user: String::new(),
            password: String::new(),
            key: String::new(),
        };
        let tenants = PLANNED.map(tenant);
        let now = Timestamp::from_unix_seconds(100);
        for (rows, columns) in [(10, 40), (16, 80), (24, 80), (25, 132), (60, 200)] {
            let lines = page(&Board::default(), &tenants, (0, 0), (now, now), Size { rows, columns });
            assert!(lines.len() < rows, "{} lines on {rows} rows", lines.len());
        }
    }

    #[test]
    fn nothing_is_wider_than_asked_and_nothing_steers_the_terminal() {
        let line = Line::of(Paint::Red, "bell\u{7} and \u{1b}[2J").and(Paint::Plain, "behind");
        assert_eq!(line.painted(8), "\u{1b}[31mbell and\u{1b}[0m\u{1b}[0m\u{1b}[0m");
    }
}
