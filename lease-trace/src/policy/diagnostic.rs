//! What is wrong with a policy, told with the place in the file: `FILE:LINE:COLUMN`, the line and
//! a caret under it.

use std::ops::Range;

use serde::Serialize;

use crate::sinks::text;

/// The text of a policy and what it is called.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy is taken as it is.
    Warning,
    /// The policy is refused.
    Error,
    /// The policy is refused because this kernel cannot do what it asks for.
    Kernel,
}

/// One thing to be said about a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    #[serde(skip)]
    pub span: Range<usize>,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

impl Diagnostic {
    pub fn error(span: Range<usize>, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            span,
            what: what.into(),
            instead: instead.into(),
        }
    }

    pub fn warning(
        span: Range<usize>,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(span, what, instead)
        }
    }

    pub fn kernel(span: Range<usize>, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            severity: Severity::Kernel,
            ..Self::error(span, what, instead)
        }
    }

    pub fn is_warning(&self) -> bool {
        self.severity == Severity::Warning
    }

    /// `FILE:LINE:COLUMN: what; what to write instead`, and the line itself.
    pub fn render(&self, source: &Source) -> String {
        let place = Place::find(&source.text, &self.span);
        let warning = if self.is_warning() { "warning: " } else { "" };
        let head = format!(
            "{}:{}:{}: {warning}{}; {}",
            source.name, place.line, place.column, self.what, self.instead
        );
        format!("{}\n{}", text::wrap(&plain(&head), WIDTH, 2), place.draw())
    }
}

const WIDTH: usize = 80;
/// Columns of a source line that are shown.
const SHOWN: usize = 68;

/// A place in the text: line and column begin at 1, a column is a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub line: usize,
    pub column: usize,
    text: &'a str,
    /// Bytes of `text` before the place, and in it.
    before: usize,
    length: usize,
}

impl<'a> Place<'a> {
    pub fn find(text: &'a str, span: &Range<usize>) -> Self {
        let mut at = span.start.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[at..].find('\n').map_or(text.len(), |more| at + more);
        let mut stop = span.end.clamp(at, end);
        while !text.is_char_boundary(stop) {
            stop -= 1;
        }
        Self {
            line: text[..at].matches('\n').count() + 1,
            column: text[start..at].chars().count() + 1,
            text: &text[start..end],
            before: at - start,
            length: stop - at,
        }
    }

    /// The line with a caret for each column meant. Of a long line, what is around the place.
    fn draw(&self) -> String {
        let (before, rest) = self.text.split_at(self.before);
        let (meant, after) = rest.split_at(self.length);
        let [mut before, meant, after] = [before, meant, after].map(plain);
        let mut cut = "";
        while text::width(cut) + text::width(&before) > SHOWN / 2 && self.is_long() {
            cut = "…";
            before.remove(0);
        }
        let mut line = format!("{cut}{before}{meant}{after}");
        if text::width(&line) > SHOWN {
            line = text::shorten_end(&line, SHOWN);
        }
        let lead = text::width(cut) + text::width(&before);
        let carets = text::width(&meant).clamp(1, SHOWN.saturating_sub(lead).max(1));
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        format!(
            " {number} | {}\n {gutter} | {}{}\n",
            line.trim_end(),
            " ".repeat(lead),
            "^".repeat(carets)
        )
    }

    fn is_long(&self) -> bool {
        text::width(&plain(self.text)) > SHOWN
    }
}

/// Text of one line with nothing in it that moves the cursor; a tab is one blank.
fn plain(text: &str) -> String {
    let shown = text.replace('\t', " ");
    text::escape(shown.trim_end_matches('\r').as_bytes()).replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, meant: &str) -> String {
        let at = text.find(meant).expect("is in the text");
        let source = Source {
            name: "policy.toml".to_owned(),
            text: text.to_owned(),
        };
        Diagnostic::error(at..at + meant.len(), "wrong", "write it right").render(&source)
    }

    #[test]
    fn the_line_is_shown_with_a_caret() {
        insta::assert_snapshot!(render("mode = \"enforce\"\n\tgrüße = 1\n", "= 1"), @r#"
        policy.toml:2:8: wrong; write it right
         2 |  grüße = 1
           |        ^^^
        "#);
    }

    #[test]
    fn a_long_line_is_cut_to_what_matters() {
        let line = format!("{} = {}", "k".repeat(60), "v".repeat(100));
        let shown = render(&line, &"v".repeat(100));
        assert!(shown.lines().all(|line| text::width(line) <= 80), "{shown}");
        insta::assert_snapshot!(shown, @r#"
        policy.toml:1:64: wrong; write it right
         1 | …kkkkkkkkkkkkkkkkkkkkkkkkkkkkkk = vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv…
           |                                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#);
    }

    #[test]
    fn a_place_behind_the_end_is_the_end() {
        let place = Place::find("a\nb", &(99..120));
        assert_eq!((place.line, place.column), (2, 2));
        let place = Place::find("", &(0..0));
        assert_eq!((place.line, place.column), (1, 1));
    }

    #[test]
    fn control_characters_are_shown_as_escapes() {
        assert!(render("a\u{1b}[2J = 1", "= 1").contains("\\x1b[2J"));
        let source = Source {
            name: "p\u{1b}".to_owned(),
            text: String::new(),
        };
        let said = Diagnostic::error(0..0, "unknown key `\u{1b}`", "write another").render(&source);
        assert!(!said.contains('\u{1b}'), "{said}");
    }
}
