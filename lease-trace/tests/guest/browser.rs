//! The page that `plot` makes, in a real browser: drawn, alive, and right in light and dark.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Scratch, Tool};
use crate::plot::record_a_zombie;

/// Before the page's own script.
const BEFORE: &str = r#"<script>
const told = { errors: [] };
addEventListener("error", (event) => told.errors.push(event.message));
</script>
<style>"#;

/// Behind it.
const AFTER: &str = include_str!("browser.js");

/// What the browser saw, where the reader's system is light (1) or dark (0).
fn look(scratch: &Scratch, page: &str, scheme: u8) -> Value {
    let path = scratch.file("page.html");
    let page = page.replacen("<style>", BEFORE, 1);
    let page = page.replacen("</body>", &format!("<script>{AFTER}</script></body>"), 1);
    fs::write(&path, page).expect("writes");
    let output = Command::new("chromium-headless-shell")
        .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--window-size=1280,800", "--dump-dom"])
        .arg(format!("--user-data-dir={}", scratch.file("profile")))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("file://{path}"))
        .output()
        .expect("a browser");
    let dom = String::from_utf8_lossy(&output.stdout);
    let told = dom
        .split_once("<body>")
        .and_then(|(_, rest)| rest.split_once("</body>"))
        .unwrap_or_else(|| panic!("{output:?}"));
    let told = told.0.replace("&lt;", "<").replace("&gt;", ">");
    let told = told.replace("&amp;", "&");
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {dom}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn the_page_is_alive_in_light_and_dark() {
    let scratch = Scratch::new();
    let (record, pid) = record_a_zombie(&scratch);
    let page = Tool::run(&["plot", &record, "--html"]).exits(0).stdout;
    for (scheme, paper, red) in [
        (1, "rgb(255, 255, 255)", "rgb(209, 36, 47)"),
        (0, "rgb(13, 17, 23)", "rgb(229, 72, 77)"),
    ] {
        let told = look(&scratch, &page, scheme);
        assert_eq!(told["errors"], Value::Array(Vec::new()), "{told}");
        for place in ["paper", "body"] {
            assert_eq!(told[place], paper, "{told}");
        }
        assert_eq!(told["fill"], red, "{told}");
        assert_eq!(told["spilt"], 0, "{told}");
        let wide = |when: &str| number(&told[when]["zombie"]["width"]);
        let page = &told["page"];
        assert!(
            wide("before") > 50.0 && wide("before") < number(&page["width"]),
            "{told}"
        );
        assert!(number(&page["height"]) > 100.0, "{told}");
        // Around the middle; what is beyond the right end is cut.
        let begins = |when: &str| number(&told[when]["zombie"]["x"]);
        let moved = (begins("zoomed") - begins("before")).abs();
        let grown = (wide("zoomed") - wide("before")).abs();
        assert!(moved + grown > 5.0, "{told}");
        assert_ne!(told["zoomed"]["axis"], told["before"]["axis"], "{told}");
        // The picture's own coordinates are rounded.
        let moved = (wide("after") - wide("before")).abs();
        assert!(moved < 1.0, "{told}");
        assert_eq!(told["after"]["axis"], told["before"]["axis"], "{told}");
        let tip = told["tip"]["text"].as_str().expect("a text");
        assert!(tip.contains(&format!("[{pid}]")), "{tip}");
        assert!(tip.contains("the lease went by unlock"), "{tip}");
        let tip = &told["tip"]["box"];
        let right = number(&tip["x"]) + number(&tip["width"]);
        assert!(number(&tip["x"]) >= 0.0 && right <= 1280.0, "{told}");
        assert!(number(&tip["height"]) > 10.0, "{told}");
        assert_eq!(told["hidden"], "none", "{told}");
    }
}
