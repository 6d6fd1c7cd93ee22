//! A timeline as SVG: a document of its own, light or dark as its reader likes it, with the details
//! of each bar as its `<title>`.

use std::fmt::Write as _;

use super::{
    axis,
    follow::{Bar, Edge, Kind, Mark},
    read::Micros,
    timeline::{Strip, Timeline},
    xml::{escape, one_line},
};
use crate::sinks::text;

const STYLE: &str = include_str!("style.css");

const WIDTH: f64 = 1200.0;
/// Where time begins and ends; bars that go on beyond it fade into what is left and right of it.
pub const LEFT: f64 = 330.0;
pub const RIGHT: f64 = 1150.0;
const FADE: f64 = 26.0;
const MARGIN: f64 = 24.0;
/// Of the first row.
const TOP: f64 = 122.0;
const ROW: f64 = 46.0;
const BAR: f64 = 14.0;
/// However short it was, it can be seen.
const NARROWEST: f64 = 3.0;
/// What a letter in a bar takes, at most.
const LETTER: f64 = 6.2;
/// Columns of a path.
const PATH: usize = 44;
const MARKS: i64 = 8;

const KINDS: [(Kind, &str, &str); 5] = [
    (Kind::Lease, "lease", "lease"),
    (Kind::Covered, "covered", "pins under it"),
    (Kind::Zombie, "zombie", "zombie: pins whose lease went"),
    (Kind::Bare, "bare", "pins without a lease"),
    (Kind::Orphaned, "orphaned", "orphaned pins"),
];

fn class(kind: Kind) -> &'static str {
    let mut kinds = KINDS.into_iter();
    let found = kinds.find(|(one, ..)| *one == kind);
    found.map_or("", |(_, class, _)| class)
}

/// The whole document.
pub fn draw(timeline: &Timeline) -> String {
    format!("{}\n", Drawing::of(timeline).out)
}

/// A document in the making.
struct Drawing<'a> {
    out: String,
    timeline: &'a Timeline,
}

impl<'a> Drawing<'a> {
    fn of(timeline: &'a Timeline) -> Self {
        let mut drawing = Self {
            out: String::new(),
            timeline,
        };
        drawing.all();
        drawing
    }

    fn line(&mut self, markup: &str) {
        self.out.push_str(markup);
        self.out.push('\n');
    }

    fn words(&mut self, class: &str, x: f64, y: f64, words: &str) {
        let words = escape(words);
        self.line(&format!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{words}</text>"#
        ));
    }

    fn x(&self, at: Micros) -> f64 {
        let Timeline { begin, end, .. } = self.timeline;
        let at = at.clamp(*begin, *end);
        LEFT + (at - begin) as f64 / (end - begin) as f64 * (RIGHT - LEFT)
    }

    fn all(&mut self) {
        let timeline = self.timeline;
        let rows = timeline.strips.len().max(1) as f64 * ROW;
        let notes = notes(timeline);
        let height = TOP + rows + 22.0 + 18.0 * notes.len() as f64 + 10.0;
        let Timeline { begin, end, .. } = timeline;
        self.line(&format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" role="figure" aria-labelledby="title about" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" data-begin="{begin}" data-end="{end}" data-left="{LEFT}" data-right="{RIGHT}">"#
        ));
        self.line("<title id=\"title\">Leases and pins</title>");
        let about = escape(&about(timeline));
        self.line(&format!("<desc id=\"about\">{about}</desc>"));
        self.line(&format!("<style>\n{STYLE}</style>"));
        self.defs(height);
        self.line(r#"<rect class="paper" width="100%" height="100%"/>"#);
        self.words("h ink", MARGIN, 38.0, "Leases and pins");
        self.line(&format!(
            r#"<text class="t mute" x="{MARGIN}" y="60">{about}</text>"#
        ));
        self.legend();
        self.axis(rows);
        if timeline.strips.is_empty() {
            self.words("t mute", MARGIN, TOP + 28.0, "No leases and no breaches.");
        }
        for (index, strip) in timeline.strips.iter().enumerate() {
            self.strip(TOP + index as f64 * ROW, strip);
        }
        let mut y = TOP + rows + 28.0;
        for (class, note) in notes {
            self.words(class, MARGIN, y, &note);
            y += 18.0;
        }
        self.out.push_str("</svg>");
    }

    fn defs(&mut self, height: f64) {
        self.line("<defs>");
        for (_, class, _) in KINDS {
            for (side, first, last) in [("l", 0, 1), ("r", 1, 0)] {
                self.line(&format!(
                    r#"<linearGradient id="{side}-{class}"><stop class="s-{class}" stop-opacity="{first}"/><stop class="s-{class}" offset="1" stop-opacity="{last}"/></linearGradient>"#
                ));
            }
        }
        let (x, width) = (LEFT - FADE, RIGHT - LEFT + 2.0 * FADE);
        self.line(&format!(
            r#"<clipPath id="clip"><rect x="{x}" y="0" width="{width}" height="{height}"/></clipPath>"#
        ));
        self.line("</defs>");
    }

    fn legend(&mut self) {
        let strips = &self.timeline.strips;
        let mut x = MARGIN;
        for (kind, class, words) in KINDS {
            let usual = matches!(kind, Kind::Lease | Kind::Covered | Kind::Zombie);
            let shown = |bar: &Bar| bar.kind == kind;
            if !usual && !strips.iter().flat_map(|strip| &strip.bars).any(shown) {
                continue;
            }
            self.line(&format!(
                r#"<rect class="{class}" x="{x:.1}" y="74" width="22" height="12" rx="3"/>"#
            ));
            self.words("p ink", x + 29.0, 84.0, words);
            x += 29.0 + 6.4 * words.len() as f64 + 22.0;
        }
        if strips.iter().any(|strip| !strip.marks.is_empty()) {
            self.line(&format!(
                r#"<path class="mark" d="{}"/>"#,
                diamond(x + 6.0, 80.0)
            ));
            self.words("p ink", x + 18.0, 84.0, "a rule acted");
            x += 18.0 + 6.4 * 12.0 + 22.0;
        }
        self.line(&format!(
            r#"<rect fill="url(#r-lease)" x="{x:.1}" y="74" width="22" height="12"/>"#
        ));
        self.words("p ink", x + 29.0, 84.0, "begins or ends out of sight");
    }

    fn axis(&mut self, rows: f64) {
        let Timeline { begin, end, .. } = self.timeline;
        let bottom = TOP + rows;
        self.line(&format!(
            r#"<g id="axis" data-top="{TOP}" data-bottom="{bottom}" aria-hidden="true">"#
        ));
        for (at, label) in axis::marks(*begin, *end, MARKS) {
            let x = self.x(at);
            self.line(&format!(
                r#"<line class="line" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom}"/><text class="p mute" text-anchor="middle" x="{x:.1}" y="{:.1}">{label}</text>"#,
                TOP - 7.0
            ));
        }
        self.line("</g>");
    }

    fn strip(&mut self, top: f64, strip: &Strip) {
        let Strip {
            pid,
            comm,
            path,
            bars,
            marks,
        } = strip;
        let (comm, path) = (one_line(comm), one_line(path));
        let zombie = bars.iter().any(|bar| bar.kind == Kind::Zombie);
        let who = escape(&format!("{comm} [{pid}]\n{path}"));
        let _ = writeln!(self.out, "<g>\n<g><title>{who}</title>");
        self.line(&format!(
            r#"<line class="line" x1="{MARGIN}" x2="{}" y1="{top}" y2="{top}"/>"#,
            WIDTH - MARGIN
        ));
        if zombie {
            self.line(&format!(
                r#"<rect class="zombie" x="{}" y="{}" width="3" height="{}" rx="1.5"/>"#,
                MARGIN - 10.0,
                top + 7.0,
                ROW - 14.0
            ));
        }
        let comm = escape(&text::shorten_end(&comm, 24));
        self.line(&format!(
            r#"<text class="c ink" x="{MARGIN}" y="{:.1}">{comm} <tspan class="t mute" font-weight="400">{pid}</tspan></text>"#,
            top + 19.0
        ));
        self.words(
            "p mute",
            MARGIN,
            top + 36.0,
            &text::shorten_path(&path, PATH),
        );
        self.line("</g>\n<g clip-path=\"url(#clip)\">");
        for (index, bar) in bars.iter().enumerate() {
            let next = bars[index + 1..]
                .iter()
                .find(|next| lane(next) == lane(bar));
            let next = next.map_or(self.timeline.end, |next| self.ends(next).0);
            self.bar(top, bar, next, &who);
        }
        for mark in marks {
            self.mark(top, mark);
        }
        self.line("</g>\n</g>");
    }

    /// What is certain of a bar.
    fn ends(&self, bar: &Bar) -> (Micros, Micros) {
        let from = match bar.from {
            Edge::At(at) | Edge::Unseen(at) => at,
            Edge::Beyond => self.timeline.begin,
        };
        let to = match bar.to {
            Edge::At(at) | Edge::Unseen(at) => at,
            Edge::Beyond => self.timeline.end,
        };
        (from, to.max(from))
    }

    fn bar(&mut self, top: f64, bar: &Bar, next: Micros, who: &str) {
        let class = class(bar.kind);
        let y = top + 8.0 + f64::from(lane(bar)) * (BAR + 3.0);
        let (from, to) = self.ends(bar);
        let (left, right) = (self.x(from), self.x(to));
        let width = (right - left).max(NARROWEST);
        let title = escape(&bar.title);
        let begin = self.timeline.begin;
        self.line(&format!(
            r#"<g class="bar" data-kind="{class}" data-a="{}" data-b="{}" data-n="{}"><title>{who}&#10;{title}</title>"#,
            from.saturating_sub(begin),
            to.saturating_sub(begin),
            next.saturating_sub(begin)
        ));
        let open = (
            !matches!(bar.from, Edge::At(_)),
            !matches!(bar.to, Edge::At(_)),
        );
        if open.0 {
            self.line(&format!(
                r#"<rect class="l" fill="url(#l-{class})" x="{:.1}" y="{y}" width="{FADE}" height="{BAR}"/>"#,
                left - FADE
            ));
        }
        let corner = if open == (false, false) { 3.0 } else { 0.0 };
        self.line(&format!(
            r#"<rect class="b {class}" x="{left:.1}" y="{y}" width="{width:.1}" height="{BAR}" rx="{corner}"/>"#
        ));
        if open.1 {
            self.line(&format!(
                r#"<rect class="r" fill="url(#r-{class})" x="{:.1}" y="{y}" width="{FADE}" height="{BAR}"/>"#,
                left + width
            ));
        }
        let label = escape(&bar.label);
        let wide = bar.label.chars().count() as f64 * LETTER + 12.0;
        // Before it, what fades would be drawn over.
        let after = left + width + if open.1 { FADE } else { 0.0 };
        let y = y + BAR - 3.6;
        if wide < width {
            self.line(&format!(
                r#"<text class="in" x="{:.1}" y="{y:.1}">{label}</text>"#,
                left + 6.0
            ));
        } else {
            let room = after + wide < self.x(next);
            let hidden = if room { "" } else { r#" display="none""# };
            self.line(&format!(
                r#"<text class="out {class}" x="{:.1}" y="{y:.1}"{hidden}>{label}</text>"#,
                after + 6.0
            ));
        }
        self.line("</g>");
    }

    fn mark(&mut self, top: f64, mark: &Mark) {
        let title = escape(&mark.title);
        let x = self.x(mark.at);
        let at = mark.at.saturating_sub(self.timeline.begin);
        self.line(&format!(
            r#"<g class="bar" data-a="{at}"><title>{title}</title><path class="mark" d="{}" transform="translate({x:.1} 0)"/></g>"#,
            diamond(0.0, top + 23.5)
        ));
    }
}

/// Leases above, pins below.
fn lane(bar: &Bar) -> u8 {
    u8::from(bar.kind != Kind::Lease)
}

fn diamond(x: f64, y: f64) -> String {
    format!("M{x:.1} {:.1}l5 5l-5 5l-5-5z", y - 5.0)
}

/// What the picture is of, in one line.
fn about(timeline: &Timeline) -> String {
    let Timeline {
        begin,
        end,
        kernel,
        strips,
        zombies,
        remaining,
        ..
    } = timeline;
    let mut about = format!(
        "{}, {} to {} UTC",
        axis::date(*begin),
        axis::clock(*begin),
        axis::clock(*end)
    );
    let _ = write!(about, "  ·  {}", text::counted(strips.len() as u64, "row"));
    let _ = write!(about, "  ·  {}", text::counted(*zombies, "zombie"));
    if *remaining > 0 {
        let _ = write!(about, ", {remaining} still there at the end");
    }
    if let Some(kernel) = kernel {
        let _ = write!(about, "  ·  Linux {kernel}");
    }
    about
}

/// What is said below the rows: how it is drawn.
fn notes(timeline: &Timeline) -> Vec<(&'static str, String)> {
    let mut notes: Vec<_> = timeline
        .notes
        .iter()
        .map(|note| ("t warn", format!("\u{26a0} {note}")))
        .collect();
    notes.push((
        "p mute",
        "Pins that were dropped while their lease still held are not in a record, \
         so only breaches have a bar of pins."
            .to_owned(),
    ));
    notes
}
