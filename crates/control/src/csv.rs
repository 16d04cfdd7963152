//! How is a table written and read as text? RFC 4180, with either line end.

/// The records of a table that have something in them, each with the line it begins in, from one.
pub fn records(text: &str) -> impl Iterator<Item = (usize, Vec<String>)> + '_ {
    let mut rest = text;
    let mut line = 1;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            rest = unmarked(rest);
            let (record, octets) = record(rest);
            let begun = line;
            line += rest[..octets].matches('\n').count();
            rest = &rest[octets..];
            if record.iter().any(|field| !field.is_empty()) || record.len() > 1 {
                return Some((begun, record));
            }
        }
        None
    })
}

/// Without the byte order mark: files that were put together have one before each.
fn unmarked(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The first record, and how many octets it takes with its line end.
fn record(text: &str) -> (Vec<String>, usize) {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek().is_some_and(|(_, next)| *next == '"') => {
                letters.next();
                field.push('"');
            }
            '"' if is_quoted || field.is_empty() => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            '\n' if !is_quoted => {
                if field.ends_with('\r') {
                    field.pop();
                }
                fields.push(field);
                return (fields, at + 1);
            }
            letter => field.push(letter),
        }
    }
    fields.push(field);
    (fields, text.len())
}

/// A field as it is written; no spreadsheet takes it for a formula. An amount below nought is a number of ours.
#[must_use]
pub fn field(text: &str) -> String {
    let is_number =
        text.strip_prefix('-').is_some_and(|rest| rest.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.'));
    let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// Whether the text ends outside of quotes: then what follows is another record.
#[must_use]
pub fn is_whole(text: &str) -> bool {
    let (mut begins, mut is_quoted) = (true, false);
    for letter in unmarked(text).chars() {
        match letter {
            // Two of them within quotes are one sign: out and in again.
            '"' if is_quoted || begins => (begins, is_quoted) = (is_quoted, !is_quoted),
            ',' | '\n' if !is_quoted => begins = true,
            _ => begins = false,
        }
    }
    !is_quoted
}

#[cfg(test)]
mod tests {
    use super::{is_whole, records};

    fn read(text: &str) -> Vec<(usize, Vec<String>)> {
        records(text).collect()
    }

    #[test]
    fn fields_may_be_quoted_and_lines_empty() {
        let table = "a,b\r\n\"x, \"\"y\"\"\",\"two\nlines\"\n\n,\nlast";
        let told: Vec<(usize, Vec<&str>)> =
            vec![(1, vec!["a", "b"]), (2, vec!["x, \"y\"", "two\nlines"]), (5, vec!["", ""]), (6, vec!["last"])];
        let told: Vec<(usize, Vec<String>)> =
            told.into_iter().map(|(line, fields)| (line, fields.into_iter().map(str::to_owned).collect())).collect();
        assert_eq!(read(table), told);
        assert_eq!(read("\u{feff}a\n\u{feff}\"b\n,\"\n"), [(1, vec!["a".to_owned()]), (2, vec!["b\n,".to_owned()])]);
        // Found by fuzzing: what follows the mark is the front of the text for both.
        assert!(!is_whole("\u{feff}\"a\n") && is_whole("\u{feff}\"a\n\"\n"));
        assert_eq!(read("\"never ended, \n x").len(), 1);
        assert!(
            is_whole("a,\"b\"\"c\"\n") && is_whole("5\" nails, x\n") && !is_whole("a,\"b\n") && !is_whole("\"a\"\"\n")
        );
        assert!(read("").is_empty() && read("\n\r\n").len() <= 1);
    }
}
