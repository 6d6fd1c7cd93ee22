//! The screen as text. What has no room is left out, the least useful first; nothing is wrapped
//! where a line is one thing.

mod detail;
mod header;
mod list;
mod overlay;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::Widget as _,
};

use super::{
    Theme,
    state::{Pane, Screen},
};
use crate::sinks::text;

/// Less than this is no screen.
const SMALLEST: (u16, u16) = (24, 6);
/// With fewer lines, details take the place of the list.
const LINES_FOR_BOTH: u16 = 16;

/// Draws all of it.
pub fn draw(screen: &mut Screen, theme: Theme, frame: &mut Frame<'_>) {
    let area = frame.area();
    let out = frame.buffer_mut();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        Line::raw("too small").render(area, out);
        return;
    }
    let notes = header::notes(screen, theme, area.width);
    let [head, note, body, foot] = Layout::vertical([
        Constraint::Length(header::height(area.height)),
        Constraint::Length(notes.len() as u16),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    header::draw(screen, theme, head, out);
    lines(notes, note, out);
    if let Some(overlay) = screen.overlay {
        overlay::draw(overlay, screen, theme, body, out);
    } else {
        self::body(screen, theme, body, out);
    }
    header::foot(screen, theme, foot, out);
}

/// The list, the details, or both.
fn body(screen: &mut Screen, theme: Theme, area: Rect, out: &mut Buffer) {
    match screen.pane {
        Pane::Closed => list::draw(screen, theme, area, out),
        Pane::Below if area.height >= LINES_FOR_BOTH => {
            let [upper, lower] =
                Layout::vertical([Constraint::Fill(1), Constraint::Fill(2)]).areas(area);
            list::draw(screen, theme, upper, out);
            detail::draw(screen, theme, lower, out);
        }
        Pane::Below | Pane::Whole => detail::draw(screen, theme, area, out),
    }
}

/// A line across the screen with words in it: `── words ─────── words ──`.
fn rule(left: &str, right: &str, style: Style, area: Rect, out: &mut Buffer) {
    let room = usize::from(area.width);
    let left = text::shorten_end(left, room.saturating_sub(6));
    let mut used = text::width(&left) + 4;
    let mut spans = vec![
        Span::styled("─ ", Theme::faint()),
        Span::styled(left, style),
        Span::raw(" "),
    ];
    let right = (used + text::width(right) + 6 <= room).then_some(right);
    let right = right.filter(|right| !right.is_empty());
    used += right.map_or(0, |right| text::width(right) + 4);
    spans.push(Span::styled(
        "─".repeat(room.saturating_sub(used) + 1),
        Theme::faint(),
    ));
    if let Some(right) = right {
        spans.push(Span::raw(format!(" {right} ")));
        spans.push(Span::styled("──", Theme::faint()));
    }
    Line::from(spans).render(area, out);
}

/// One below the other, as many as there is room for.
fn lines<'a>(lines: impl IntoIterator<Item = Line<'a>>, area: Rect, out: &mut Buffer) {
    for (line, row) in lines.into_iter().zip(area.rows()) {
        line.render(row, out);
    }
}
