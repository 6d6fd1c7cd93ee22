//! The parser of policy files: whatever is written, there is a policy, or a diagnostic that a terminal
//! can show.
#![no_main]
#![allow(
    dead_code,
    reason = "the program's own modules, of which this uses the parser"
)]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/policy/diagnostic.rs"]
mod diagnostic;
#[path = "../../src/policy/file.rs"]
mod file;
#[path = "../../src/sinks/words.rs"]
mod words;

/// Where the program has what the diagnostics use.
mod sinks {
    pub(crate) use crate::words as text;
}

fuzz_target!(|text: &str| {
    if let Err(diagnostic) = file::parse(text) {
        let source = diagnostic::Source {
            name: "policy.toml".to_owned(),
            text: text.to_owned(),
        };
        let shown = diagnostic.render(&source);
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }
});
