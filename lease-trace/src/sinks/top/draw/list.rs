//! The list of stakes.

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::Widget as _,
};

use super::super::{
    Theme,
    order::{Only, Sort},
    row::Row,
    state::{From, Screen},
};
use super::{lines, rule};
use crate::sinks::text;

/// A column.
struct Column {
    name: &'static str,
    /// Screens with fewer columns leave it out.
    from_width: u16,
    most: usize,
    figure: bool,
    cell: fn(&Row, u64) -> String,
}

/// All but the path, which takes what is left.
const COLUMNS: [Column; 9] = [
    column("STATE", 0, 12, |row, _| row.standing.name().to_owned()),
    column("COMMAND", 0, 15, |row, _| word(Some(&row.process.comm))),
    figure("PID", 0, |row, _| row.process.pid.to_string()),
    column("MODE", 90, 5, |row, _| word(row.mode)),
    column("CAUSE", 60, 14, |row, _| match (&row.cause, row.breaking) {
        (None, true) => "wanted".to_owned(),
        (cause, _) => word(cause.as_deref()),
    }),
    figure("AGE", 0, |row, now_ns| {
        row.age_ms(now_ns).map_or_else(|| "?".to_owned(), age)
    }),
    figure("PINS", 40, |row, _| text::pins(row.pins, row.doubtful)),
    column("CONSUMER", 68, 12, |row, _| {
        match (&row.consumer, row.pins) {
            (None, 1..) => "?".to_owned(),
            (consumer, _) => word(consumer.as_deref()),
        }
    }),
    column("UNIT", 110, 24, |row, _| word(row.unit.as_deref())),
];

const fn column(
    name: &'static str,
    from_width: u16,
    most: usize,
    cell: fn(&Row, u64) -> String,
) -> Column {
    Column {
        name,
        from_width,
        most,
        figure: false,
        cell,
    }
}

const fn figure(name: &'static str, from_width: u16, cell: fn(&Row, u64) -> String) -> Column {
    Column {
        name,
        from_width,
        most: 12,
        figure: true,
        cell,
    }
}

/// `-`: does not apply.
fn word(word: Option<&str>) -> String {
    match word {
        None => "-".to_owned(),
        Some("") => "?".to_owned(),
        Some(word) => text::escape(word.as_bytes()),
    }
}

/// A duration that counts on a screen which is drawn once a second: no fractions.
pub fn age(ms: u64) -> String {
    const MINUTE_MS: u64 = 60_000;
    if ms < MINUTE_MS {
        format!("{}s", ms / 1000)
    } else {
        text::age(ms)
    }
}

pub fn draw(screen: &mut Screen, theme: Theme, area: Rect, out: &mut Buffer) {
    let [line, heading, body] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
    ])
    .areas(area);
    let page = usize::from(body.height);
    screen.page = page;
    scroll(screen, page);
    let (left, right) = titles(screen);
    rule(&left, &right, Theme::heading(), line, out);
    if screen.listed().len() == 0 {
        empty(screen, heading.union(body), out);
        return;
    }
    let now_ns = screen.clock.boot_ns();
    let rows: Vec<&Row> = screen.listed().skip(screen.first).take(page).collect();
    let columns = fit(&rows, now_ns, area.width);
    heading_line(&columns, screen).render(heading, out);
    let selected = screen.selected_at();
    let all = rows.iter().enumerate().map(|(at, row)| {
        let line = row_line(&columns, row, now_ns, theme, area.width);
        if selected == Some(screen.first + at) {
            line.style(Theme::selected())
        } else {
            line
        }
    });
    let all: Vec<_> = all.collect();
    for (line, place) in all.iter().zip(body.rows()) {
        // The whole row is marked, not only its words.
        out.set_style(place, line.style);
        line.render(place, out);
    }
}

/// What is listed and how: `7 of 14 stakes: zombies, with "db"` and `by age, reversed`.
fn titles(screen: &Screen) -> (String, String) {
    let (listed, all) = (screen.listed().len(), screen.rows().len());
    let mut left = match screen.only {
        Only::All => "all stakes".to_owned(),
        only => format!("{} of the stakes", only.name()),
    };
    if !screen.find.is_empty() {
        left = format!("{left} with \"{}\"", text::escape(screen.find.as_bytes()));
    }
    if listed < all {
        left = format!("{left}: {listed} of {all}");
    }
    let below = screen
        .listed()
        .len()
        .saturating_sub(screen.first + screen.page);
    let more = if below > 0 {
        format!("{below} more below, ")
    } else {
        String::new()
    };
    let reversed = if screen.reverse { ", reversed" } else { "" };
    (left, format!("{more}by {}{reversed}", screen.sort.name()))
}

/// Moves the part that is shown so that the selected row is in it.
fn scroll(screen: &mut Screen, page: usize) {
    let most = screen.listed().len().saturating_sub(page);
    if let Some(at) = screen.selected_at() {
        screen.first = screen.first.min(at).max((at + 1).saturating_sub(page));
    }
    screen.first = screen.first.min(most);
}

/// The columns that this width has room for, and how wide each is with these rows.
fn fit(rows: &[&Row], now_ns: u64, width: u16) -> Vec<(&'static Column, usize)> {
    let shown = COLUMNS.iter().filter(|column| width >= column.from_width);
    let measured = shown.map(|column| {
        let cells = rows
            .iter()
            .map(|row| text::width(&(column.cell)(row, now_ns)));
        let widest = cells.chain([column.name.len()]).max().unwrap_or(0);
        (column, widest.min(column.most))
    });
    measured.collect()
}

fn heading_line<'a>(columns: &[(&Column, usize)], screen: &Screen) -> Line<'a> {
    let mut line = String::new();
    for (column, width) in columns {
        line += &pad(column.name, *width, column.figure);
    }
    line += "PATH";
    let sorted = match screen.sort {
        Sort::State => "STATE",
        Sort::Age => "AGE",
        Sort::Pins => "PINS",
        Sort::Command => "COMMAND",
        Sort::Path => "PATH",
    };
    let style = Theme::heading();
    // The column that orders the list is underlined.
    match line.find(sorted) {
        Some(at) => Line::from(vec![
            Span::styled(line[..at].to_owned(), style),
            Span::styled(sorted, style.underlined()),
            Span::styled(line[at + sorted.len()..].to_owned(), style),
        ]),
        None => Line::styled(line, style),
    }
}

fn row_line<'a>(
    columns: &[(&Column, usize)],
    row: &Row,
    now_ns: u64,
    theme: Theme,
    width: u16,
) -> Line<'a> {
    let mut spans = Vec::new();
    let mut used = 0;
    for (column, width) in columns {
        let style = match column.name {
            "STATE" => theme.standing(row.standing),
            "CAUSE" if row.breaking => theme.warning(),
            _ if matches!(row.standing, super::super::row::Standing::AtRest) => Theme::faint(),
            _ => Style::new(),
        };
        let cell = text::shorten_end(&(column.cell)(row, now_ns), *width);
        spans.push(Span::styled(pad(&cell, *width, column.figure), style));
        used += width + 1;
    }
    let room = usize::from(width).saturating_sub(used);
    spans.push(Span::raw(text::shorten_path(&row.path, room)));
    Line::from(spans)
}

/// A cell and the blank behind it.
fn pad(cell: &str, width: usize, figure: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(text::width(cell)));
    if figure {
        format!("{blanks}{cell} ")
    } else {
        format!("{cell}{blanks} ")
    }
}

/// Why there is nothing in the list.
fn empty(screen: &Screen, area: Rect, out: &mut Buffer) {
    let all = screen.rows().len() as u64;
    let says: &[&str] = if all > 0 {
        &[
            "Nothing here is what you look for.",
            "Esc shows everything again.",
        ]
    } else {
        match screen.facts.from {
            From::Own => &[
                "Nothing has a lease, and nothing was pinned since this screen was started.",
                "Pins that are older are not known.",
            ],
            From::Monitor(_) | From::Enforcement => &[
                "Nothing has a lease, and nothing is pinned.",
                "Pins older than whoever watches are not known.",
            ],
        }
    };
    let width = usize::from(area.width);
    let wrapped = says.iter().map(|sentence| text::wrap(sentence, width, 0));
    let wrapped: Vec<String> = wrapped
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let top = (usize::from(area.height).saturating_sub(wrapped.len()) / 3) as u16;
    let [_, area] = Layout::vertical([Constraint::Length(top), Constraint::Fill(1)]).areas(area);
    lines(
        wrapped.into_iter().map(|line| Line::raw(line).centered()),
        area,
        out,
    );
}
