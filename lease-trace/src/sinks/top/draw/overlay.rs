//! What lies over the list when it is asked for: the help, and what the figures leave out.

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
};

use super::super::{
    Theme, keys,
    state::{Overlay, Screen},
};
use super::{lines, rule};
use crate::sinks::text;

/// What the names of keys take.
const KEYS: usize = 12;

pub fn draw(overlay: Overlay, screen: &mut Screen, theme: Theme, area: Rect, out: &mut Buffer) {
    let [line, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let width = usize::from(area.width);
    let (title, all) = match overlay {
        Overlay::Help => ("help", help(theme, width)),
        Overlay::Losses => ("what the figures leave out", losses(screen, theme, width)),
    };
    rule(title, "", Theme::heading(), line, out);
    let last = (all.len() as u16).saturating_sub(body.height);
    screen.scroll = screen.scroll.min(last);
    lines(all.into_iter().skip(screen.scroll.into()), body, out);
}

fn help<'a>(theme: Theme, width: usize) -> Vec<Line<'a>> {
    let mut all = Vec::new();
    for (keys, does) in keys::HELP {
        let wrapped = text::wrap(does, width.saturating_sub(KEYS), 0);
        for (at, line) in wrapped.lines().enumerate() {
            let keys = if at == 0 { *keys } else { "" };
            let blanks = " ".repeat(KEYS.saturating_sub(text::width(keys)));
            all.push(Line::from(vec![
                Span::styled(format!("{keys}{blanks}"), theme.label()),
                Span::raw(line.to_owned()),
            ]));
        }
    }
    all
}

fn losses<'a>(screen: &Screen, theme: Theme, width: usize) -> Vec<Line<'a>> {
    let mut all = Vec::new();
    let mut section = |title: &'static str, none: &'static str, items: Vec<String>| {
        all.push(Line::styled(title, theme.label()));
        let items = if items.is_empty() {
            vec![none.to_owned()]
        } else {
            items
        };
        for item in items {
            let item = text::wrap(&item, width.saturating_sub(2), 2);
            all.extend(item.lines().map(|line| Line::raw(format!("  {line}"))));
        }
    };
    let facts = &screen.facts;
    let lost = facts.lost.iter();
    let lost = lost.map(|lost| format!("{}: {}", lost.count, lost.what));
    section("Lost since who watches began", "nothing", lost.collect());
    section(
        "Cannot be seen on this kernel",
        "nothing, as far as is known here; `lease-trace doctor` tells more",
        facts.cannot.clone(),
    );
    section(
        "Never seen",
        "",
        vec![
            "pins older than who watches".to_owned(),
            "what begins and ends between two looks: only the sums count it".to_owned(),
        ],
    );
    all
}
