//! Colours: the sixteen that every terminal has, and none where none are wanted. What a colour says
//! is always said by a word, too.

use ratatui::style::{Color, Modifier, Style};

use super::row::Standing;

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    pub colour: bool,
}

impl Theme {
    fn in_colour(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    pub fn standing(self, standing: Standing) -> Style {
        match standing {
            Standing::Zombie => self.bad(),
            Standing::OrphanedPin => self.in_colour(Color::Magenta).add_modifier(Modifier::BOLD),
            Standing::BarePin => self.in_colour(Color::Yellow),
            Standing::Covered => self.in_colour(Color::Green),
            Standing::Leased => Style::new(),
            Standing::AtRest => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// What somebody has to look at.
    pub fn bad(self) -> Style {
        self.in_colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// What makes the figures doubtful.
    pub fn warning(self) -> Style {
        self.in_colour(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// Names of things, beside the things themselves.
    pub fn label(self) -> Style {
        self.in_colour(Color::Cyan)
    }

    /// The curve of pins.
    pub fn curve(self) -> Style {
        self.in_colour(Color::Cyan)
    }

    pub const fn heading() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub const fn faint() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub const fn selected() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
