//! Everything about the selected stake: what it is, in which functions its pins were taken, what
//! was seen to happen to it. In two columns, or three where there is room, or one below the other.

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
};

use super::super::{
    Theme,
    row::{Row, Standing},
    state::{Detail, Pane, Screen},
};
use super::{lines, list::age, rule};
use crate::{
    record::{Entry, Holder},
    sinks::text,
};

const TWO_COLUMNS: u16 = 72;
const THREE_COLUMNS: u16 = 120;
/// What names of things take in front of the things.
const LABEL: usize = 9;
/// Others who have the file that are named while there is a list above.
const NAMED: usize = 2;

pub fn draw(screen: &mut Screen, theme: Theme, area: Rect, out: &mut Buffer) {
    let [line, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let Some(row) = screen.selected() else { return };
    let who = format!("{} {}", row.standing.name(), text::process(&row.process));
    let since = row
        .age_ms(screen.clock.boot_ns())
        .map(|ms| format!("for {}", age(ms)));
    let since = since.unwrap_or_default();
    rule(&who, &since, theme.standing(row.standing), line, out);
    let Some(detail) = screen
        .detail
        .as_ref()
        .filter(|detail| detail.key == row.key)
    else {
        lines(
            [Line::styled("no more is known", Theme::faint())],
            body,
            out,
        );
        return;
    };
    let named = if screen.pane == Pane::Whole {
        usize::MAX
    } else {
        NAMED
    };
    let columns = columns(body);
    let last = columns[columns.len() - 1].width;
    let facts = facts(detail, row, theme, columns[0].width.into(), named);
    let stack = stack(
        detail,
        theme,
        if columns.len() == 3 {
            columns[1].width
        } else {
            last
        },
    );
    let history = history(
        screen,
        row,
        theme,
        if columns.len() == 3 {
            last
        } else {
            columns[0].width
        },
    );
    let texts: Vec<Vec<Line<'_>>> = match columns.len() {
        3 => vec![facts, stack, history],
        2 => vec![[facts, history].concat(), stack],
        _ => vec![[facts, history, stack].concat()],
    };
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0) as u16;
    let scroll = screen.scroll.min(longest.saturating_sub(body.height));
    for (text, column) in texts.into_iter().zip(columns) {
        lines(text.into_iter().skip(scroll.into()), column, out);
    }
    screen.scroll = scroll;
}

fn columns(area: Rect) -> Vec<Rect> {
    let parts: &[Constraint] = match area.width {
        THREE_COLUMNS.. => &[
            Constraint::Fill(5),
            Constraint::Fill(3),
            Constraint::Fill(4),
        ],
        TWO_COLUMNS.. => &[Constraint::Fill(1), Constraint::Length(32)],
        _ => &[Constraint::Fill(1)],
    };
    Layout::horizontal(parts).spacing(2).split(area).to_vec()
}

/// Labelled lines that are no wider than there is room.
struct Facts<'a> {
    lines: Vec<Line<'a>>,
    theme: Theme,
    room: usize,
}

impl Facts<'_> {
    fn add(&mut self, label: &'static str, value: &str) {
        self.styled(label, text::shorten_end(value, self.room), Style::new());
    }

    fn path(&mut self, label: &'static str, value: &str) {
        self.styled(label, text::shorten_path(value, self.room), Style::new());
    }

    fn styled(&mut self, label: &'static str, value: String, style: Style) {
        self.lines.push(Line::from(vec![
            Span::styled(format!("{label:<LABEL$}"), self.theme.label()),
            Span::styled(value, style),
        ]));
    }
}

fn facts<'a>(
    detail: &Detail,
    row: &Row,
    theme: Theme,
    width: usize,
    named: usize,
) -> Vec<Line<'a>> {
    let Detail {
        entry, walked_ms, ..
    } = detail;
    let room = width.saturating_sub(LABEL);
    let mut facts = Facts {
        lines: Vec::new(),
        theme,
        room,
    };
    facts.path("file", &row.path);
    facts.add("inode", &inode(entry));
    facts.path("runs in", &place(entry));
    lease(&mut facts, entry, row);
    let peak = entry.peak_pins.unwrap_or(row.pins).max(row.pins);
    facts.add(
        "pins",
        &format!("{} now, {peak} at most", text::pins(row.pins, row.doubtful)),
    );
    asked(&mut facts, entry, row);
    if let Some(keeper) = &entry.held_by {
        facts.add("held by", &format!("{}, for a rule", text::process(keeper)));
    }
    others(&mut facts, entry, *walked_ms, named);
    facts.lines
}

fn inode(entry: &Entry) -> String {
    let unknown = || "?".to_owned();
    let dev = entry.file.dev.map_or_else(unknown, |dev| dev.to_string());
    let ino = entry.file.ino.map_or_else(unknown, |ino| ino.to_string());
    let size = entry
        .size_bytes
        .map(|bytes| format!(", {}", text::size(bytes)));
    format!("{ino} on {dev}{}", size.unwrap_or_default())
}

/// The container, unit or cgroup, whichever says most; and the user.
fn place(entry: &Entry) -> String {
    let owner = &entry.owner;
    let place = match (&owner.container, &owner.unit, &owner.cgroup) {
        (Some(container), ..) => format!("container {container}"),
        (None, Some(unit), _) => unit.clone(),
        (None, None, Some(cgroup)) => format!("cgroup {cgroup}"),
        (None, None, None) => "?".to_owned(),
    };
    let uid = owner.uid.map(|uid| format!(", uid {uid}"));
    text::escape(place.as_bytes()) + &uid.unwrap_or_default()
}

fn lease(facts: &mut Facts<'_>, entry: &Entry, row: &Row) {
    let Some(lease) = &entry.lease else {
        facts.add("lease", "none ever covered these pins");
        return;
    };
    let held = lease.held_ms.map_or_else(
        || "older than who watches".to_owned(),
        |ms| format!("held {}", age(ms)),
    );
    let kind = match lease.kind.name() {
        "lease" => String::new(),
        kind => format!(" {kind}"),
    };
    facts.add("lease", &format!("{}{kind}, {held}", lease.mode));
    let was_one = matches!(row.standing, Standing::Zombie | Standing::AtRest);
    if let (Some(cause), true) = (entry.cause, was_one) {
        let by = match &entry.releaser {
            Some(who) if who.pid != row.process.pid => format!(", by {}", text::process(who)),
            _ => String::new(),
        };
        let ending = match entry.ends_by_itself {
            Some(true) => "; the pins go by themselves",
            _ => "",
        };
        let text = text::shorten_end(&format!("{}{by}{ending}", cause.name()), facts.room);
        facts.styled("ended", text, facts.theme.bad());
        if let Some(who) = &entry.breaker {
            facts.add("wanted", &format!("by {}", text::process(who)));
        }
    } else if row.breaking {
        let who = entry
            .breaker
            .as_ref()
            .map_or_else(|| "somebody".to_owned(), text::process);
        facts.styled("wanted", format!("by {who}"), facts.theme.warning());
    }
}

/// Who asked for the pins, and through which descriptor.
fn asked(facts: &mut Facts<'_>, entry: &Entry, row: &Row) {
    let source = &entry.source;
    let escape = |name: &str| text::escape(name.as_bytes());
    if let Some(consumer) = row.consumer.as_deref() {
        let device = source.device.as_deref();
        let on = device.map(|device| format!(" on {}", escape(device)));
        let who = escape(consumer) + &on.unwrap_or_default();
        facts.add("asked by", &who);
    }
    if let Some(name) = source.context.as_deref() {
        let fd = source.context_fd.map(|fd| format!("fd {fd} "));
        facts.path("through", &(fd.unwrap_or_default() + &escape(name)));
    }
}

/// Everybody else who has the file open or mapped.
fn others(facts: &mut Facts<'_>, entry: &Entry, walked_ms: Option<u64>, named: usize) {
    const LABEL: &str = "others";
    let (Some(holders), Some(walked_ms)) = (&entry.holders, walked_ms) else {
        facts.add(LABEL, "not known");
        return;
    };
    let old = match walked_ms {
        0..5_000 => String::new(),
        ms => format!(" ({} ago)", age(ms)),
    };
    if holders.is_empty() {
        facts.add(LABEL, &format!("nobody has it{old}"));
        return;
    }
    let shown = if holders.len() <= named {
        holders.len()
    } else {
        named.saturating_sub(1).max(1)
    };
    for (at, holder) in holders.iter().take(shown).enumerate() {
        let age = if at == 0 { old.as_str() } else { "" };
        facts.add(
            if at == 0 { LABEL } else { "" },
            &format!("{}{age}", self::holder(holder)),
        );
    }
    if shown < holders.len() {
        facts.add("", &format!("and {} more", holders.len() - shown));
    }
}

fn holder(holder: &Holder) -> String {
    let who = text::process(&holder.process);
    match holder.fd {
        Some(fd) => format!("{who} fd {fd}"),
        None => format!("{who} mapped"),
    }
}

/// The functions that the first pins were taken in.
fn stack<'a>(detail: &Detail, theme: Theme, width: u16) -> Vec<Line<'a>> {
    let title = Line::styled("pinned in, innermost first", theme.label());
    if detail.stack.is_empty() {
        let why = match detail.entry.pins {
            Some(1..) => " not known",
            _ => " there are no pins",
        };
        return vec![title, Line::styled(why, Theme::faint())];
    }
    let functions = detail.stack.iter().map(|name| {
        let name = format!(" {}", text::escape(name.as_bytes()));
        Line::raw(text::shorten_end(&name, width.into()))
    });
    std::iter::once(title).chain(functions).collect()
}

/// What was seen to happen, the newest first.
fn history<'a>(screen: &Screen, row: &Row, theme: Theme, width: u16) -> Vec<Line<'a>> {
    let room = usize::from(width).saturating_sub(LABEL);
    let moments = screen.history.of(&row.key).enumerate();
    let lines = moments.map(|(at, moment)| {
        let time = moment.at.time_of_day(screen.zone);
        let text = format!("{time} {}", moment.what);
        Line::from(vec![
            Span::styled(
                format!("{:<LABEL$}", if at == 0 { "seen" } else { "" }),
                theme.label(),
            ),
            Span::raw(text::shorten_end(&text, room)),
        ])
    });
    lines.collect()
}
