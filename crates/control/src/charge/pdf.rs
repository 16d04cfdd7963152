//! How is plain text, with amounts at the right, written as a PDF?
//!
//! As little of ISO 32000 as an invoice needs: pages of lines in the two Helveticas that every reader has, nothing compressed. Letters are
//! those of WinAnsi; one that it has not becomes a question mark. All octets are ASCII.

use std::fmt::Write as _;

/// A4, in points.
const WIDTH: f64 = 595.0;
const HEIGHT: f64 = 842.0;
const MARGIN: f64 = 56.0;
/// What a line of text may take where an amount stands at its right.
const AMOUNT: f64 = 90.0;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Title,
}

impl Style {
    fn size(self) -> f64 {
        if self == Style::Title { 18.0 } else { 10.0 }
    }

    fn font(self) -> &'static str {
        if self == Style::Plain { "F1" } else { "F2" }
    }

    /// Helvetica's widths in thousandths, from the blank to the tilde; the bold one is a little wider. Others are taken as a capital.
    fn width(self, text: &str) -> f64 {
        const WIDTHS: [u16; 95] = [
            278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556,
            556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278,
            500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469,
            556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500,
            278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
        ];
        let of = |letter: char| {
            let place = u32::from(letter).checked_sub(32).and_then(|place| WIDTHS.get(place as usize));
            f64::from(place.copied().unwrap_or(722))
        };
        let thousandths: f64 = text.chars().map(of).sum();
        let wider = if self == Style::Plain { 1.0 } else { 1.07 };
        thousandths / 1_000.0 * self.size() * wider
    }
}

pub(super) struct Pdf {
    title: String,
    /// What is drawn on each page.
    pages: Vec<String>,
    /// Where the next line stands on the last one.
    at: f64,
}

impl Pdf {
    pub(super) fn new(title: &str) -> Pdf {
        Pdf { title: title.to_owned(), pages: vec![String::new()], at: HEIGHT - MARGIN }
    }

    pub(super) fn gap(&mut self) {
        self.at -= 12.0;
    }

    pub(super) fn text(&mut self, style: Style, text: &str) {
        for line in wrapped(style, text, WIDTH - 2.0 * MARGIN) {
            self.advance(style);
            self.put(style, MARGIN, &line);
        }
    }

    /// A text, and at the right of its first line an amount.
    pub(super) fn row(&mut self, style: Style, text: &str, amount: &str) {
        for (place, line) in wrapped(style, text, WIDTH - 2.0 * MARGIN - AMOUNT).iter().enumerate() {
            self.advance(style);
            self.put(style, MARGIN, line);
            if place == 0 {
                self.put(style, WIDTH - MARGIN - style.width(amount), amount);
            }
        }
        self.at -= 3.0;
    }

    fn advance(&mut self, style: Style) {
        self.at -= style.size() * 1.4;
        if self.at < MARGIN {
            self.pages.push(String::new());
            self.at = HEIGHT - MARGIN - style.size();
        }
    }

    fn put(&mut self, style: Style, x: f64, text: &str) {
        let (font, size, y) = (style.font(), style.size(), self.at);
        if let Some(page) = self.pages.last_mut() {
            // Writing into a text cannot fail.
            let _ = writeln!(page, "BT /{font} {size:.1} Tf {x:.2} {y:.2} Td ({}) Tj ET", written(text));
        }
    }

    /// Catalogue, pages, fonts, title; then for each page itself and what is drawn on it; then where each of them begins.
    pub(super) fn finish(self) -> String {
        let kids: Vec<String> = (0..self.pages.len()).map(|page| format!("{} 0 R", 6 + page * 2)).collect();
        let font =
            |name: &str| format!("<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>");
        let mut objects = vec![
            "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
            format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), kids.len()),
            font("Helvetica"),
            font("Helvetica-Bold"),
            format!("<< /Title ({}) /Producer (Weir) >>", written(&self.title)),
        ];
        for (page, drawn) in self.pages.iter().enumerate() {
            objects.push(format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH:.0} {HEIGHT:.0}] \
                 /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> /Contents {} 0 R >>",
                7 + page * 2
            ));
            objects.push(format!("<< /Length {} >>\nstream\n{drawn}endstream", drawn.len()));
        }
        let mut out = String::from("%PDF-1.4\n");
        let mut begins = Vec::with_capacity(objects.len());
        for (place, object) in objects.iter().enumerate() {
            begins.push(out.len());
            let _ = write!(out, "{} 0 obj\n{object}\nendobj\n", place + 1);
        }
        let table = out.len();
        let _ = write!(out, "xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
        for begin in begins {
            let _ = writeln!(out, "{begin:010} 00000 n ");
        }
        let _ = write!(
            out,
            "trailer\n<< /Size {} /Root 1 0 R /Info 5 0 R >>\nstartxref\n{table}\n%%EOF\n",
            objects.len() + 1
        );
        out
    }
}

/// At blanks; a word that is wider than the line, anywhere.
fn wrapped(style: Style, text: &str, width: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if style.width(&longer) <= width {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for letter in word.chars() {
            line.push(letter);
            if style.width(&line) > width {
                line.pop();
                lines.push(std::mem::replace(&mut line, letter.to_string()));
            }
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// As a string of PDF, in ASCII.
fn written(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '(' | ')' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            ' '..='~' => out.push(letter),
            _ => match win_ansi(letter) {
                Some(octet) => {
                    let _ = write!(out, "\\{octet:03o}");
                }
                None => out.push('?'),
            },
        }
    }
    out
}

/// The octets above ASCII: Latin-1, and what Windows has put before it.
fn win_ansi(letter: char) -> Option<u8> {
    let above = [
        ('€', 0x80),
        ('‚', 0x82),
        ('ƒ', 0x83),
        ('„', 0x84),
        ('…', 0x85),
        ('†', 0x86),
        ('‡', 0x87),
        ('ˆ', 0x88),
        ('‰', 0x89),
        ('Š', 0x8a),
        ('‹', 0x8b),
        ('Œ', 0x8c),
        ('Ž', 0x8e),
        ('‘', 0x91),
        ('’', 0x92),
        ('“', 0x93),
        ('”', 0x94),
        ('•', 0x95),
        ('–', 0x96),
        ('—', 0x97),
        ('˜', 0x98),
        ('™', 0x99),
        ('š', 0x9a),
        ('›', 0x9b),
        ('œ', 0x9c),
        ('ž', 0x9e),
        ('Ÿ', 0x9f),
    ];
    match u32::from(letter) {
        code @ 0xa0..=0xff => u8::try_from(code).ok(),
        _ => above.iter().find(|(known, _)| *known == letter).map(|(_, octet)| *octet),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Pdf, Style, win_ansi, wrapped, written};

    // As a reader of PDFs goes through it: from the end to the table, and from there to each object.
    #[test]
    fn a_reader_finds_every_object() {
        let mut pdf = Pdf::new("Invoice (1)");
        for line in 0..120 {
            pdf.row(Style::Plain, &format!("Line {line} with \\ and (brackets), Größe 3 €, 日本"), "1.00");
        }
        let text = pdf.finish();
        assert!(text.is_ascii() && text.starts_with("%PDF-1.4") && text.ends_with("%%EOF\n"));
        let table: usize = text.rsplit("startxref\n").next().unwrap().lines().next().unwrap().parse().unwrap();
        let mut lines = text[table..].lines();
        assert_eq!(lines.next(), Some("xref"));
        let count: usize = lines.next().unwrap().strip_prefix("0 ").unwrap().parse().unwrap();
        assert_eq!(lines.next(), Some("0000000000 65535 f "));
        for number in 1..count {
            let entry = lines.next().unwrap();
            assert_eq!(entry.len() + 1, 20, "an entry has twenty octets with its line end");
            let begin: usize = entry[..10].parse().unwrap();
            assert!(text[begin..].starts_with(&format!("{number} 0 obj\n")), "{number}");
        }
        let pages = text.matches("/Type /Page /Parent").count();
        assert!(pages >= 3 && text.contains(&format!("/Count {pages}")));
        for stream in text.split("/Length ").skip(1) {
            let length: usize = stream.split(' ').next().unwrap().parse().unwrap();
            let drawn = stream.split_once("stream\n").unwrap().1;
            assert!(drawn[length..].starts_with("endstream"));
        }
        assert!(text.contains("with \\\\ and \\(brackets\\), Gr\\366\\337e 3 \\200, ??"));
    }

    #[test]
    fn long_words_and_lines_find_room() {
        for text in ["", "a", &"word ".repeat(90), &"W".repeat(300)] {
            let lines = wrapped(Style::Plain, text, 200.0);
            assert!(!lines.is_empty() && lines.iter().all(|line| Style::Plain.width(line) <= 200.0), "{text}");
            let letters = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).count();
            assert_eq!(lines.iter().map(|line| letters(line)).sum::<usize>(), letters(text));
        }
        assert_eq!((win_ansi('é'), win_ansi('日'), written("\u{7}")), (Some(0xe9), None, "?".to_owned()));
    }
}
