//! The same picture as a page of its own: the SVG, and a script that shows details and zooms. It
//! loads nothing from anywhere, and says so to the browser.

use super::{svg, timeline::Timeline};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");

/// The whole page.
pub fn draw(timeline: &Timeline) -> String {
    let (before, rest) = PAGE.split_once("<!-- picture -->").unwrap_or((PAGE, ""));
    let (between, after) = rest.split_once("/* script */").unwrap_or((rest, ""));
    format!("{before}{}{between}{SCRIPT}{after}", svg::draw(timeline))
}
