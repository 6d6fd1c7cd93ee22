//! Text that anybody may have written, made fit for a terminal: how wide it is, what is escaped, where it
//! is cut.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that `text` takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `bytes` with everything that is not plain text written as an escape, so that no file or
/// process name can move the cursor, change colours or turn the reading direction.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                '\\' => text.push_str("\\\\"),
                _ if character.is_ascii_control() => push_hex(&mut text, character as u8),
                _ if character.is_control() || is_invisible(character) => {
                    text.extend(character.escape_unicode());
                }
                _ => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            push_hex(&mut text, *byte);
        }
    }
    text
}

/// Line and paragraph separators, and marks that turn the reading direction or have no width.
const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

fn push_hex(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\\x{byte:02x}");
}

/// `text` in at most `limit` columns: if it is longer, the end goes.
pub fn shorten_end(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    format!("{}…", prefix(text, limit.saturating_sub(1)))
}

pub fn prefix(text: &str, limit: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, character)| {
        used += character.width().unwrap_or(0);
        used > limit
    });
    end.map_or(text, |(at, _)| &text[..at])
}

pub fn suffix(text: &str, limit: usize) -> &str {
    let mut used = 0;
    let start = text.char_indices().rev().find(|(_, character)| {
        used += character.width().unwrap_or(0);
        used > limit
    });
    start.map_or(text, |(at, character)| &text[at + character.len_utf8()..])
}

/// `text` broken between words into lines of at most `limit` columns, every line after the first
/// begun with `indent` blanks.
pub fn wrap(text: &str, limit: usize, indent: usize) -> String {
    let mut lines = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let room = width(word);
        if used == 0 {
            used = room;
        } else if used + 1 + room > limit {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            used = indent + room;
        } else {
            lines.push(' ');
            used += 1 + room;
        }
        lines.push_str(word);
    }
    lines
}
