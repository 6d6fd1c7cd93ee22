//! What each key does to the screen.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::{Overlay, Pane, Screen};

/// Keys and what they do, as the help has them.
pub const HELP: &[(&str, &str)] = &[
    (
        "↑ ↓  k j",
        "select a stake; Home, End, PgUp and PgDn go further",
    ),
    (
        "Enter",
        "its details: below the list, then alone, then away again",
    ),
    (
        "s  r",
        "sort by state, age, pins, command or path; reverse it",
    ),
    (
        "f",
        "show all, breaches, zombies, what has pins, leases without",
    ),
    ("z", "zombies only, and back to all"),
    ("/", "find: rows that mention what you type; Enter keeps it"),
    ("Esc", "one step back: details, then find, then the filter"),
    (
        "Space",
        "pause, to read in peace; nothing is lost meanwhile",
    ),
    ("l", "losses, and what this kernel cannot show"),
    ("?  h", "this help"),
    ("q  Ctrl-C", "quit"),
];

/// What is to be done after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Stay,
    Quit,
}

/// A key was pressed.
pub fn press(screen: &mut Screen, key: KeyEvent) -> After {
    if key.kind == KeyEventKind::Release {
        return After::Stay;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && key.code == KeyCode::Char('c') {
        return After::Quit;
    }
    if screen.typing {
        typed(screen, key.code, control);
        return After::Stay;
    }
    if let Some(overlay) = screen.overlay {
        return over(screen, overlay, key.code);
    }
    match key.code {
        KeyCode::Char('q') => return After::Quit,
        KeyCode::Esc => back(screen),
        KeyCode::Enter => details(screen),
        KeyCode::Up | KeyCode::Char('k') => screen.step(-1),
        KeyCode::Down | KeyCode::Char('j') => screen.step(1),
        KeyCode::PageUp => page(screen, -1),
        KeyCode::PageDown => page(screen, 1),
        KeyCode::Home => screen.select(0),
        KeyCode::End => screen.select(usize::MAX),
        KeyCode::Char(letter) => letter_key(screen, letter),
        _ => {}
    }
    After::Stay
}

fn letter_key(screen: &mut Screen, letter: char) {
    use super::order::Only;
    match letter {
        's' => screen.sort = screen.sort.next(),
        'r' => screen.reverse = !screen.reverse,
        'f' => screen.only = screen.only.next(),
        'z' => {
            screen.only = if screen.only == Only::Zombies {
                Only::All
            } else {
                Only::Zombies
            }
        }
        '/' => screen.typing = true,
        ' ' => screen.paused = !screen.paused,
        'l' => lay(screen, Overlay::Losses),
        '?' | 'h' => lay(screen, Overlay::Help),
        _ => return,
    }
    screen.arrange();
}

fn lay(screen: &mut Screen, overlay: Overlay) {
    screen.overlay = Some(overlay);
    screen.scroll = 0;
}

/// Any key that has no other meaning there takes the overlay away.
fn over(screen: &mut Screen, overlay: Overlay, code: KeyCode) -> After {
    match (overlay, code) {
        (_, KeyCode::Up | KeyCode::PageUp) => screen.scroll = screen.scroll.saturating_sub(1),
        (_, KeyCode::Down | KeyCode::PageDown) => screen.scroll = screen.scroll.saturating_add(1),
        (Overlay::Help, KeyCode::Char('l')) => lay(screen, Overlay::Losses),
        (Overlay::Losses, KeyCode::Char('?' | 'h')) => lay(screen, Overlay::Help),
        _ => {
            screen.overlay = None;
            screen.scroll = 0;
        }
    }
    After::Stay
}

fn typed(screen: &mut Screen, code: KeyCode, control: bool) {
    match code {
        KeyCode::Enter => screen.typing = false,
        KeyCode::Esc => {
            screen.typing = false;
            screen.find.clear();
        }
        KeyCode::Backspace => {
            screen.find.pop();
        }
        KeyCode::Char('u') if control => screen.find.clear(),
        KeyCode::Char(letter) if !control => screen.find.push(letter),
        _ => {}
    }
    screen.arrange();
}

fn details(screen: &mut Screen) {
    if screen.selected_at().is_none() {
        screen.select(0);
    }
    screen.scroll = 0;
    screen.pane = match screen.pane {
        Pane::Closed if screen.selected_at().is_none() => Pane::Closed,
        Pane::Closed => Pane::Below,
        Pane::Below => Pane::Whole,
        Pane::Whole => Pane::Closed,
    };
}

fn back(screen: &mut Screen) {
    use super::order::Only;
    match screen.pane {
        Pane::Whole => screen.pane = Pane::Below,
        Pane::Below => screen.pane = Pane::Closed,
        Pane::Closed if !screen.find.is_empty() => screen.find.clear(),
        Pane::Closed if screen.only != Only::All => screen.only = Only::All,
        Pane::Closed => screen.deselect(),
    }
    screen.scroll = 0;
    screen.arrange();
}

/// In the details when they are alone, else in the list.
fn page(screen: &mut Screen, by: i16) {
    if screen.pane == Pane::Whole {
        screen.scroll = screen.scroll.saturating_add_signed(by * 5);
    } else {
        screen.step(by as isize * screen.page.max(1) as isize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::top::{
        order::{Only, Sort},
        row::Standing,
        top_tests::{row, screen},
    };

    fn keys(screen: &mut Screen, keys: &[KeyCode]) -> After {
        let press = |key: &KeyCode| press(screen, KeyEvent::from(*key));
        keys.iter().map(press).last().expect("some keys")
    }

    fn two() -> Screen {
        screen(vec![
            row(1, Standing::Zombie, 90),
            row(2, Standing::Leased, 80),
        ])
    }

    #[test]
    fn quitting() {
        assert_eq!(keys(&mut two(), &[KeyCode::Char('q')]), After::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let mut screen = two();
        screen.typing = true;
        assert_eq!(press(&mut screen, interrupt), After::Quit);
    }

    #[test]
    fn letters_are_text_while_something_is_typed() {
        let mut screen = two();
        let typed = ['/', 'q', 's', 'x'].map(KeyCode::Char);
        assert_eq!(keys(&mut screen, &typed), After::Stay);
        keys(&mut screen, &[KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!((screen.find.as_str(), screen.typing), ("qs", false));
        assert_eq!(screen.listed().len(), 0);
        keys(&mut screen, &[KeyCode::Esc]);
        assert_eq!(screen.listed().len(), 2);
    }

    #[test]
    fn sorting_and_filtering() {
        let mut screen = two();
        keys(&mut screen, &[KeyCode::Char('s'), KeyCode::Char('r')]);
        assert_eq!((screen.sort, screen.reverse), (Sort::Age, true));
        keys(&mut screen, &[KeyCode::Char('z')]);
        assert_eq!(screen.listed().len(), 1);
        keys(&mut screen, &[KeyCode::Char('z')]);
        assert_eq!(screen.only, Only::All);
        keys(&mut screen, &[KeyCode::Char('f'), KeyCode::Esc]);
        assert_eq!(screen.only, Only::All);
    }

    #[test]
    fn details_open_grow_and_close() {
        let mut screen = two();
        for expected in [Pane::Below, Pane::Whole, Pane::Closed] {
            keys(&mut screen, &[KeyCode::Enter]);
            assert_eq!(screen.pane, expected);
        }
        keys(&mut screen, &[KeyCode::Enter, KeyCode::Down]);
        assert_eq!(screen.detail_key().map(|key| key.tgid), Some(2));
        keys(&mut screen, &[KeyCode::Enter, KeyCode::PageDown]);
        assert_eq!(screen.scroll, 5);
        keys(&mut screen, &[KeyCode::Esc, KeyCode::Esc, KeyCode::Esc]);
        assert_eq!((screen.pane, screen.selected_at()), (Pane::Closed, None));
        let mut empty = self::screen(Vec::new());
        keys(&mut empty, &[KeyCode::Enter]);
        assert_eq!(empty.pane, Pane::Closed);
    }

    #[test]
    fn overlays_go_with_any_key() {
        let mut screen = two();
        keys(&mut screen, &[KeyCode::Char('?'), KeyCode::Char('l')]);
        assert_eq!(screen.overlay, Some(Overlay::Losses));
        assert_eq!(keys(&mut screen, &[KeyCode::Char('q')]), After::Stay);
        assert_eq!(screen.overlay, None);
    }

    #[test]
    fn every_letter_of_the_help_does_something() {
        let letters = HELP.iter().flat_map(|(keys, _)| keys.split_whitespace());
        let letters = letters.filter_map(|key| {
            let mut letters = key.chars();
            letters
                .next()
                .filter(|letter| letter.is_ascii() && letters.next().is_none())
        });
        for letter in letters.filter(|letter| *letter != 'q') {
            let (mut screen, before) = (two(), two());
            screen.step(0);
            keys(&mut screen, &[KeyCode::Char(letter)]);
            let state = |screen: &Screen| {
                let Screen {
                    sort,
                    reverse,
                    only,
                    typing,
                    paused,
                    overlay,
                    ..
                } = screen;
                format!("{sort:?}{reverse}{only:?}{typing}{paused}{overlay:?}")
            };
            let moved = screen.selected_at() != Some(0) || letter == 'k';
            assert!(moved || state(&screen) != state(&before), "{letter}");
        }
    }
}
