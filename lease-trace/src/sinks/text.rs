//! Words and figures fit for a terminal: escaped, shortened, wrapped. Pure functions.

pub use super::words::{escape, shorten_end, width, wrap};
use super::words::{prefix, suffix};
use crate::record::{FilePath, Holder, PinSource, ProcessRef};

/// Sentences for people are broken at this width.
pub const TALK_WIDTH: usize = 80;

/// An already escaped cell as one word, so that blanks separate columns and nothing else.
pub fn raw_word(cell: &str) -> String {
    let mut word = String::with_capacity(cell.len());
    for character in cell.chars() {
        match character {
            ' ' => word.push_str("\\x20"),
            '\n' => word.push_str("\\x0a"),
            _ => word.push(character),
        }
    }
    word
}

/// A path as the tables show it, and what is to be said of it.
pub fn path(path: Option<&FilePath>) -> (String, &'static str) {
    let Some(path) = path else {
        return ("?".to_owned(), "");
    };
    let mut text = escape(&path.bytes);
    if path.partial {
        text.insert(0, '…');
    }
    (text, if path.deleted { " (deleted)" } else { "" })
}

/// Pins, with a mark if that is doubtful.
pub fn pins(pins: u64, is_doubtful: bool) -> String {
    format!("{}{pins}", if is_doubtful { "~" } else { "" })
}

/// The file through which pins live: its descriptor and the last component of its name.
pub fn context(source: &PinSource) -> Option<String> {
    let name = source.context.as_deref()?;
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = escape(name.as_bytes());
    Some(match source.context_fd {
        Some(fd) => format!("{fd} {name}"),
        None => name,
    })
}

/// `NAME[PID]`
pub fn process(who: &ProcessRef) -> String {
    format!("{}[{}]", escape(who.comm.as_bytes()), who.pid)
}

/// Some of those who hold a file, each once: `cp[77], rsync[81] and 4 more`.
pub fn people(holders: &[Holder]) -> String {
    const NAMED: usize = 3;
    let mut people: Vec<&ProcessRef> = holders.iter().map(|holder| &holder.process).collect();
    people.dedup_by_key(|process| process.pid);
    let named: Vec<_> = people.iter().take(NAMED).map(|who| process(who)).collect();
    let more = people.len() - named.len();
    match more {
        0 => named.join(", "),
        _ => format!("{} and {more} more", named.join(", ")),
    }
}

/// Below this many columns, only the end of a path is worth showing.
const ROOM_FOR_BOTH: usize = 20;

/// A path in at most `limit` columns: if it is longer, the middle goes, because its beginning says
/// where and its end says what. The end gets two thirds, or all if there is little room.
pub fn shorten_path(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let keep = limit.saturating_sub(1);
    let head = if limit < ROOM_FOR_BOTH { 0 } else { keep / 3 };
    let tail = suffix(text, keep - head);
    let head = prefix(text, head);
    format!("{head}…{tail}")
}

/// A duration in at most five columns, for the first 27 years.
pub fn age(ms: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..MINUTE => format!("{seconds}.{}s", ms % 1000 / 100),
        MINUTE..HOUR if seconds < 10 * MINUTE => {
            format!("{}m{:02}s", seconds / MINUTE, seconds % MINUTE)
        }
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        HOUR..DAY if seconds < 10 * HOUR => {
            format!("{}h{:02}m", seconds / HOUR, seconds % HOUR / MINUTE)
        }
        HOUR..DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 10 * DAY => format!("{}d{:02}h", seconds / DAY, seconds % DAY / HOUR),
        _ => format!("{}d", seconds / DAY),
    }
}

/// A size in the manner of lslocks: powers of 1024, at most one decimal.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "K", "M", "G", "T", "P", "E"];
    let mut unit = 0;
    let mut scale: u64 = 1;
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        scale <<= 10;
        unit += 1;
    }
    let tenths = (u128::from(bytes) * 10 / u128::from(scale)) as u64;
    if tenths.is_multiple_of(10) || tenths >= 1000 {
        format!("{}{}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// `1 zombie`, `2 zombies`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_control_the_terminal() {
        assert_eq!(escape(b"a\x1b[31m\nb\\"), r"a\x1b[31m\nb\\");
        assert_eq!(escape(b"\xff\xc3\xa9"), r"\xffé");
        assert_eq!(
            escape("x\u{202e}fdp.exe\u{85}".as_bytes()),
            r"x\u{202e}fdp.exe\u{85}"
        );
    }

    #[test]
    fn doubtful_pins_are_marked() {
        assert_eq!([pins(256, false), pins(256, true)], ["256", "~256"]);
    }

    #[test]
    fn raw_words_have_no_blanks() {
        assert_eq!(raw_word("/a b (deleted)"), r"/a\x20b\x20(deleted)");
    }

    #[test]
    fn a_path_keeps_its_beginning_and_its_end() {
        let long = "/srv/database/segments/000017.db";
        assert_eq!(shorten_path(long, 20), "/srv/d…nts/000017.db");
        assert_eq!(shorten_path(long, 12), "…s/000017.db");
        assert_eq!(shorten_path("/short", 20), "/short");
        assert_eq!(shorten_path("/äöü/äöü/äöü/äöü", 9), "…/äöü/äöü");
        assert_eq!(shorten_path("abc", 1), "…");
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(shorten_path("/数据/数据/数据/数据", 10), "…数据/数据");
        assert_eq!(shorten_end("数据库", 4), "数…");
    }

    #[test]
    fn ages_stay_narrow() {
        let seconds = [
            0,
            59,
            60,
            599,
            3_599,
            3_600,
            86_399,
            90_000,
            864_000,
            315_360_000,
        ];
        let shown = seconds.map(|seconds| age(seconds * 1000 + 999));
        assert_eq!(
            shown,
            [
                "999ms", "59.9s", "1m00s", "9m59s", "59m", "1h00m", "23h", "1d01h", "10d", "3650d"
            ]
        );
        assert!(shown.iter().all(|age| age.len() <= 5));
    }

    #[test]
    fn sizes_read_like_lslocks() {
        let shown = [
            0,
            1023,
            1024,
            1536,
            1 << 20,
            (150 << 20) + 700_000,
            u64::MAX,
        ]
        .map(size);
        assert_eq!(shown, ["0B", "1023B", "1K", "1.5K", "1M", "150M", "15.9E"]);
    }

    #[test]
    fn long_sentences_are_wrapped() {
        assert_eq!(wrap("one two three", 8, 2), "one two\n  three");
        assert_eq!(wrap("unbreakable", 4, 2), "unbreakable");
    }
}
