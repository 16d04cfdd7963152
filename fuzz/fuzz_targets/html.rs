//! Can any mail or HTML text be broken by leading its links elsewhere, or another part of it be changed?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::html::{LINKS_MAX, with_at_end, with_links};
use mail::parts::with_html;

const ELSEWHERE: &str = "https://t.test/c/token";

fuzz_target!(|data: &[u8]| {
    rewritten(data);
    let mut shown = Vec::new();
    let changed = with_html(data, &mut |html| {
        let led = rewritten(html);
        let text = with_at_end(led.as_deref().unwrap_or(html), "<img src=\"https://t.test/o/token\">");
        shown.push(text.clone());
        Some(text)
    });
    assert_eq!(changed.is_none(), shown.is_empty(), "a text that is changed is a message that is");
    let Some(changed) = changed else { return };
    // What is read from the new message is what was put there: the texts, and no part more.
    let mut read = Vec::new();
    let again = with_html(&changed, &mut |html| {
        read.push(html.to_vec());
        None
    });
    assert!(again.is_none());
    assert_eq!(read.len(), shown.len(), "a text became a part, or a part a text");
    for (read, shown) in read.iter().zip(&shown) {
        assert_eq!(read.trim_ascii_end(), shown.trim_ascii_end());
    }
});

/// The text with all its links led elsewhere, and the links seen to lead there.
fn rewritten(html: &[u8]) -> Option<Vec<u8>> {
    let mut links = 0;
    let changed = with_links(html, &mut |link| {
        assert!(!link.chars().any(|c| c.is_control() || c.is_whitespace()), "{link:?}");
        assert!(link.to_ascii_lowercase().starts_with("http"), "{link:?}");
        links += 1;
        Some(ELSEWHERE.to_owned())
    });
    assert!(links <= LINKS_MAX);
    let mut seen = 0;
    let text = changed.as_deref().unwrap_or(html);
    let same = with_links(text, &mut |link| {
        assert_eq!(link, ELSEWHERE);
        seen += 1;
        None
    });
    assert!(same.is_none() && seen == links, "{seen} links of {links} are there");
    changed
}
