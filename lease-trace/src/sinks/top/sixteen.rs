//! The sixteen colours in the words that every terminal with colours knows. What draws the screen
//! writes each of them as one of 256 (`38;5;1`), which a terminal of sixteen takes for something
//! else, or for nothing.

use std::io::{self, Write};

/// Passes on what is drawn, a whole picture at a time, with `31` for `38;5;1` and the like.
pub struct Sixteen<W> {
    out: W,
    picture: Vec<u8>,
}

impl<W: Write> Sixteen<W> {
    pub const fn new(out: W) -> Self {
        Self {
            out,
            picture: Vec::new(),
        }
    }
}

impl<W: Write> Write for Sixteen<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.picture.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Nothing is written before: what was asked for may end in the middle of an escape.
    fn flush(&mut self) -> io::Result<()> {
        let picture = std::mem::take(&mut self.picture);
        self.out.write_all(&translate(&picture))?;
        self.out.flush()
    }
}

/// `bytes` with the colours in all of its escapes named anew.
fn translate(bytes: &[u8]) -> Vec<u8> {
    const BEGIN: &[u8] = b"\x1b[";
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(|pair| pair == BEGIN) {
        let (before, escape) = rest.split_at(at + BEGIN.len());
        out.extend_from_slice(before);
        let end = escape.iter().position(|byte| (0x40..=0x7e).contains(byte));
        let (parameters, after) = escape.split_at(end.unwrap_or(escape.len()));
        match (str::from_utf8(parameters), after.first()) {
            (Ok(parameters), Some(b'm')) => out.extend_from_slice(rename(parameters).as_bytes()),
            _ => out.extend_from_slice(parameters),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// The parameters of one escape.
fn rename(parameters: &str) -> String {
    let mut renamed = Vec::new();
    let mut words = parameters.split(';');
    while let Some(word) = words.next() {
        let mut ahead = words.clone();
        let colour = match (word, ahead.next(), ahead.next()) {
            ("38" | "48", Some("5"), Some(colour)) => colour.parse().ok(),
            _ => None,
        };
        let base = if word == "38" { 30 } else { 40 };
        match colour {
            Some(colour @ 0..8) => renamed.push((base + colour).to_string()),
            Some(colour @ 8..16) => renamed.push((base + 60 + colour - 8).to_string()),
            Some(_) | None => {
                renamed.push(word.to_owned());
                continue;
            }
        }
        words = ahead;
    }
    renamed.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(text: &str) -> String {
        let mut sixteen = Sixteen::new(Vec::new());
        for byte in text.bytes() {
            sixteen
                .write_all(&[byte])
                .expect("a vector takes everything");
        }
        assert!(sixteen.out.is_empty(), "half a picture");
        sixteen.flush().expect("a vector takes everything");
        String::from_utf8(sixteen.out).expect("text")
    }

    #[test]
    fn colours_have_their_old_names() {
        for (written, expected) in [
            ("\x1b[38;5;1mred", "\x1b[31mred"),
            ("\x1b[38;5;9;48;5;4m", "\x1b[91;44m"),
            (
                "\x1b[1m\x1b[38;5;6;49mx\x1b[0m",
                "\x1b[1m\x1b[36;49mx\x1b[0m",
            ),
            ("\x1b[48;5;15m", "\x1b[107m"),
        ] {
            assert_eq!(translated(written), expected);
        }
    }

    #[test]
    fn everything_else_stays() {
        for text in [
            "38;5;1m is text",
            "\x1b[38;5;1H",
            "\x1b[38;5;200m",
            "\x1b[38;2;1;2;3m",
            "\x1b[?1049h\x1b[2;5H─ ⏎ \x1b[",
            "\x1b[38;5m",
        ] {
            assert_eq!(translated(text), text);
        }
    }
}
