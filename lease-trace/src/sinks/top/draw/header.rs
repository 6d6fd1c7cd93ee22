//! The top of the screen: whose figures these are, the sums and their curves, and what makes them
//! doubtful. And its last line: what to press.

use std::collections::BTreeSet;

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Sparkline, Widget as _},
};

use super::super::{
    Theme,
    row::Standing,
    state::{From, Overlay, Pane, Screen},
};
use super::lines;
use crate::sinks::text;

/// Columns that the sums take before the curves begin.
const SUMS: u16 = 46;
/// A curve of fewer columns says nothing.
const SHORTEST_CURVE: u16 = 10;

/// Lines that the top takes of a screen of this height.
pub const fn height(screen: u16) -> u16 {
    if screen < 12 { 1 } else { 3 }
}

pub fn draw(screen: &Screen, theme: Theme, area: Rect, out: &mut Buffer) {
    let [title, zombies, pins] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    self::title(screen, theme, title, out);
    let history = &screen.history;
    let sums = self::zombies(screen, theme, area.width);
    curve(sums, &history.zombies, theme.bad(), zombies, out);
    curve(
        self::pins(screen, theme),
        &history.pins,
        theme.curve(),
        pins,
        out,
    );
}

/// `lease-trace top  monitor 812, every 1s                  10:30:13`
fn title(screen: &Screen, theme: Theme, area: Rect, out: &mut Buffer) {
    let time = screen.clock.now().time_of_day(screen.zone);
    let mut spans = vec![
        Span::styled("lease-trace top", Theme::heading()),
        Span::raw(format!("  {}", from(screen))),
    ];
    if screen.paused {
        spans.push(Span::styled("  paused", theme.warning()));
    }
    Line::from(spans).render(area, out);
    let time = Line::raw(time).right_aligned();
    let width = time.width() as u16;
    // It gives way to what is more important.
    let clear = area.width.saturating_sub(width + 1);
    if out
        .cell((area.x + clear, area.y))
        .is_some_and(|cell| cell.symbol() == " ")
    {
        time.render(area, out);
    }
}

fn from(screen: &Screen) -> String {
    let every = humantime::format_duration(screen.facts.every);
    let whose = match screen.facts.from {
        From::Monitor(pid) => format!("from monitor {pid}"),
        From::Enforcement => "from the enforcement in place".to_owned(),
        From::Own => {
            let since = screen.began.now().time_of_day(screen.zone);
            format!("watching by itself since {since}")
        }
    };
    format!("{whose}, every {every}")
}

fn zombies<'a>(screen: &Screen, theme: Theme, width: u16) -> Line<'a> {
    let zombies = screen.count(Standing::Zombie);
    let style = if zombies == 0 {
        Style::new()
    } else {
        theme.bad()
    };
    let (started, ended) = (screen.facts.started, screen.facts.ended);
    let mut spans = vec![
        Span::styled("zombies ", theme.label()),
        Span::styled(format!("{zombies:<6}"), style),
    ];
    if let Some(oldest) = screen.oldest_ms().filter(|_| width >= SUMS) {
        spans.push(Span::raw(format!("oldest {}, ", super::list::age(oldest))));
    }
    spans.push(Span::raw(format!("started {started}, ended {ended}")));
    Line::from(spans)
}

fn pins<'a>(screen: &Screen, theme: Theme) -> Line<'a> {
    let processes: BTreeSet<u32> = screen.rows().map(|row| row.key.tgid).collect();
    let stakes = text::counted(screen.rows().len() as u64, "stake");
    let processes = match processes.len() {
        1 => "1 process".to_owned(),
        many => format!("{many} processes"),
    };
    Line::from(vec![
        Span::styled("pins    ", theme.label()),
        Span::raw(format!(
            "{:<6}in {stakes} of {processes}",
            format!("{} ", screen.pins())
        )),
    ])
}

/// Sums, and behind them the newest part of their curve.
fn curve<'a>(
    sums: Line<'a>,
    values: impl IntoIterator<Item = &'a u64, IntoIter: DoubleEndedIterator>,
    style: Style,
    area: Rect,
    out: &mut Buffer,
) {
    let left = (sums.width() as u16 + 2).max(SUMS).min(area.width);
    let [text, rest] =
        Layout::horizontal([Constraint::Length(left), Constraint::Fill(1)]).areas(area);
    sums.render(text, out);
    if rest.width < SHORTEST_CURVE {
        return;
    }
    let mut newest: Vec<u64> = values
        .into_iter()
        .rev()
        .take(rest.width.into())
        .copied()
        .collect();
    newest.reverse();
    // The present is at the right edge.
    let missing = rest.width - newest.len() as u16;
    let [_, rest] =
        Layout::horizontal([Constraint::Length(missing), Constraint::Fill(1)]).areas(rest);
    Sparkline::default()
        .data(newest)
        .style(style)
        .render(rest, out);
}

/// What the figures leave out: never let them look complete when they are not.
pub fn notes<'a>(screen: &Screen, theme: Theme, width: u16) -> Vec<Line<'a>> {
    let mut notes = Vec::new();
    let mut note = |text: String, style| {
        let text = text::shorten_end(&text, width.into());
        notes.push(Line::styled(text, style));
    };
    if let Some(trouble) = &screen.trouble {
        note(trouble.clone(), theme.bad());
    }
    if let Some(most) = screen.facts.lost.iter().max_by_key(|lost| lost.count) {
        let more = match screen.facts.lost.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        note(
            format!("lost (l): {} {}{more}", most.count, most.what),
            theme.warning(),
        );
    }
    let cannot = screen.facts.cannot.len() as u64;
    if cannot > 0 {
        let things = text::counted(cannot, "thing");
        note(
            format!("{things} cannot be seen on this kernel (l)"),
            theme.warning(),
        );
    }
    notes
}

/// What to press, as far as there is room; what was typed while something is.
pub fn foot(screen: &Screen, theme: Theme, area: Rect, out: &mut Buffer) {
    if screen.typing {
        let line = Line::from(vec![
            Span::styled("find: ", theme.label()),
            Span::raw(screen.find.clone()),
            Span::styled(" ", Theme::selected()),
            Span::styled("  Enter keeps it, Esc clears it", Theme::faint()),
        ]);
        lines([line], area, out);
        return;
    }
    let hints: &[(&str, &str)] = match (screen.overlay, screen.pane) {
        (Some(Overlay::Help | Overlay::Losses), _) => &[("any key", "back"), ("↑↓", "scroll")],
        (None, Pane::Whole) => &[
            ("q", "quit"),
            ("Esc", "back"),
            ("↑↓", "other stake"),
            ("PgUp PgDn", "scroll"),
            ("?", "help"),
        ],
        (None, _) => &[
            ("q", "quit"),
            ("?", "help"),
            ("↑↓", "select"),
            ("Enter", "details"),
            ("s", "sort"),
            ("f", "filter"),
            ("/", "find"),
            ("r", "reverse"),
            ("space", "pause"),
            ("l", "losses"),
        ],
    };
    let mut spans = Vec::new();
    let mut room = usize::from(area.width);
    for (key, does) in hints {
        let width = text::width(key) + text::width(does) + 3;
        if width > room + 2 {
            break;
        }
        room = room.saturating_sub(width);
        spans.push(Span::styled(
            *key,
            theme.label().add_modifier(ratatui::style::Modifier::BOLD),
        ));
        spans.push(Span::raw(format!(" {does}  ")));
    }
    lines([Line::from(spans)], area, out);
}
