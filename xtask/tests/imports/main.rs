//! Who may import whom. Data goes one way: from the kernel's hooks through the tracer and the session
//! to the records and to what shows them; whoever is on that way knows nothing of what comes later.

mod graph;
mod kernel_side;
mod source;

use std::{fmt::Write as _, path::Path};

use graph::{Crate, Imports, circle};

/// A directory or a file, and what it may import at most.
type Rule = (&'static str, &'static [&'static str]);

/// The user side, as far as there is more to say than that there is no circle.
const USER: [Rule; 2] = [("kernel", &[]), ("tracer", &["kernel"])];

/// What is typed and what is done about it concern nobody else on the user side.
const ABOVE: [Rule; 2] = [("cli", &["commands", "main"]), ("commands", &["main"])];

fn sources(of: &str) -> Crate {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    Crate::at(&workspace.expect("a workspace").join(of).join("src"))
}

/// What breaks the rules, a line each. A rule about a file comes before one about its directory.
fn breaches(imports: &Imports, rules: &[Rule]) -> String {
    let mut found = String::new();
    for (from, imported) in imports {
        let directory = top(from);
        let rule = |of: &str| rules.iter().find(|(name, _)| *name == of);
        let Some((_, allowed)) = rule(from).or_else(|| rule(directory)) else {
            continue;
        };
        for (to, shown) in imported {
            let is_allowed =
                top(to) == directory || allowed.iter().any(|may| *may == to || *may == top(to));
            if !is_allowed {
                let _ = writeln!(found, "{from} may not import {to}: {shown}");
            }
        }
    }
    found
}

fn top(name: &str) -> &str {
    name.split_once('/')
        .map_or(name, |(directory, _)| directory)
}

#[test]
fn the_user_side_has_no_circle() {
    if let Some(shown) = circle(&sources("lease-trace").directories()) {
        panic!("{shown}");
    }
}

#[test]
fn the_user_side_keeps_its_rules() {
    let directories = sources("lease-trace").directories();
    // That they are read at all.
    assert!(directories["commands"].contains_key("session"));
    assert!(directories["tracer"].contains_key("kernel"));
    let mut found = breaches(&directories, &USER);
    for (above, by) in ABOVE {
        for (from, imported) in &directories {
            if let Some(shown) = imported.get(above)
                && !by.contains(&from.as_str())
            {
                let _ = writeln!(found, "{from} may not import {above}: {shown}");
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

/// A crate of these files.
fn made_up(files: &[(&str, &str)]) -> Crate {
    let owned = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    Crate::of(&owned.collect::<Vec<_>>())
}

/// Who imports whom, a word each.
fn pairs(imports: &Imports) -> String {
    let pairs = imports
        .iter()
        .flat_map(|(from, imported)| imported.keys().map(move |to| format!("{from}>{to}")));
    pairs.collect::<Vec<_>>().join(" ")
}

#[test]
fn imports_are_found_wherever_they_stand() {
    let made_up = made_up(&[
        (
            "main.rs",
            "mod a; mod b; mod c; mod d; mod e; mod f; fn main() { a::run(); }",
        ),
        ("a.rs", "use crate::{b::{self, X as Y}, c};"),
        (
            "b.rs",
            "fn f<'a>() -> &'a str { super::c::g(\"crate::e\", '\"', r#\"\"crate::e\"#) }",
        ),
        (
            "c.rs",
            "mod i { use super::super::d; } // crate::e\n/* crate::e */ struct S;",
        ),
        (
            "d/mod.rs",
            "mod low; macro_rules! m { () => { $crate::e::x!() } }",
        ),
        ("d/low.rs", "use super::super::f as g; use std::f;"),
        ("e.rs", ""),
        ("f.rs", "enum E { A } fn f(e: E) { E::A; self::g(); }"),
    ]);
    let directories = pairs(&made_up.directories());
    assert_eq!(directories, "a>b a>c b>c c>d d>e d>f main>a");
    let files = pairs(&made_up.files());
    assert_eq!(files, "a>b a>c b>c c>d d>e d/low>f main>a");
}

#[test]
fn what_is_for_tests_only_does_not_count() {
    let made_up = made_up(&[
        ("main.rs", "mod a; mod b; #[cfg(test)] mod made;"),
        (
            "a.rs",
            "#[cfg_attr(test, x = crate::b::f)] struct S; \
             #[cfg(test)] use crate::{b, made}; \
             fn f(z: Z) { match z { #[cfg(test)] Z::A => crate::b::f(), Z::B => crate::c::f() } } \
             #[cfg(test)] mod tests;",
        ),
        ("a/tests.rs", "use crate::b;"),
        (
            "b.rs",
            "#[cfg(test)] mod tests { use crate::a; } use crate::c;",
        ),
        ("c.rs", ""),
        ("made.rs", "use crate::a;"),
    ]);
    assert_eq!(pairs(&made_up.directories()), "a>c b>c");
}

#[test]
fn what_a_directory_gives_on_is_where_it_was_written() {
    let made_up = made_up(&[
        (
            "a/mod.rs",
            "mod x; mod y; pub use self::x::{One, Two as Three};",
        ),
        ("a/x.rs", ""),
        ("a/y.rs", "use super::One;"),
        ("b.rs", "use crate::a::Three;"),
    ]);
    assert_eq!(pairs(&made_up.files()), "a/y>a/x b>a/x");
}

#[test]
fn a_circle_is_named() {
    let made_up = made_up(&[
        ("a.rs", "use crate::b::f;"),
        ("b/mod.rs", "mod low;"),
        ("b/low.rs", "use crate::c;"),
        ("c.rs", "fn f() { crate::b::g() }"),
    ]);
    assert_eq!(circle(&made_up.files()), None);
    let shown = circle(&made_up.directories()).expect("there is one");
    assert_eq!(
        shown,
        "b -> c -> b\n  b/low has crate::c\n  c has crate::b::g"
    );
}

#[test]
fn a_rule_is_held_against_each_file() {
    const RULES: [Rule; 3] = [("a", &["b"]), ("a/x", &["c"]), ("b", &["c/y"])];
    let made_up = made_up(&[
        ("a/mod.rs", "mod x; use crate::{b, c};"),
        ("a/x.rs", "use crate::{b, c};"),
        ("b.rs", "use crate::c::{y, z};"),
        ("c/mod.rs", "mod y; mod z; use crate::a;"),
        ("c/y.rs", ""),
        ("c/z.rs", ""),
    ]);
    let found = breaches(&made_up.files(), &RULES);
    assert_eq!(
        found,
        "a may not import c: a has crate::c\n\
         a/x may not import b: a/x has crate::b\n\
         b may not import c/z: b has crate::c::z\n"
    );
}
