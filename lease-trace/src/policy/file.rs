//! The policy as written: a TOML file. Every value keeps its place, so that whatever turns out to
//! be wrong with it later can be shown there.

use std::{fmt, fs, io, marker::PhantomData, ops::Range, path::Path};

use lease_trace_common::{
    cause::Cause,
    lease::Kind,
    policy::{Action, Mode},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IntoDeserializer as _, SeqAccess, Visitor},
};
use toml::Spanned;

use super::diagnostic::{Diagnostic, Source};

/// Where the policy is unless another file is named.
pub const DEFAULT_PATH: &str = "/etc/lease-trace/policy.toml";

/// A policy file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    mode: Option<Spanned<Mode>>,
    pub hold_limit_ms: Option<Spanned<u64>>,
    #[serde(default)]
    pub rule: Vec<Rule>,
}

impl File {
    pub fn mode(&self) -> Mode {
        self.mode
            .as_ref()
            .map_or_else(Mode::default, |mode| *mode.get_ref())
    }

    /// What is written in words that were replaced; it means what it did.
    pub fn old_forms(&self, text: &str) -> Vec<Diagnostic> {
        let old = |span, old: &str, new: &str| {
            Diagnostic::warning(
                span,
                format!("{old} is the old form"),
                format!("write {new}"),
            )
        };
        let modes = self.rule.iter().filter_map(|rule| rule.mode.as_ref());
        let modes = self.mode.iter().chain(modes).map(Spanned::span);
        let modes = modes.filter(|span| {
            let written = text.get(span.clone()).unwrap_or_default();
            written.trim_matches(['"', '\'']) == Mode::OLD_AUDIT
        });
        let fallbacks = self.rule.iter().filter_map(|rule| {
            let value = rule.fallback.as_ref()?.span();
            key_before(text, value.start).filter(|key| &text[key.clone()] == OLD_FALLBACK)
        });
        modes
            .map(|span| old(span, "mode \"monitor\"", "\"audit\""))
            .chain(fallbacks.map(|span| old(span, "`otherwise`", "`fallback`")))
            .collect()
    }
}

const OLD_FALLBACK: &str = "otherwise";

/// Where the key of the value that begins here is written.
fn key_before(text: &str, value: usize) -> Option<Range<usize>> {
    let key = text.get(..value)?.trim_end().strip_suffix('=')?;
    let key = key.trim_end().trim_end_matches(['"', '\'']);
    let start = key
        .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .map_or(0, |at| at + 1);
    Some(start..key.len())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub name: Spanned<String>,
    pub on: Option<Spanned<List<On>>>,
    #[serde(default, rename = "match")]
    pub matching: Match,
    pub action: Spanned<Action>,
    #[serde(alias = "otherwise")]
    pub fallback: Option<Spanned<Action>>,
    /// Instead of the policy's.
    mode: Option<Spanned<Mode>>,
    pub grace_ms: Option<Spanned<u64>>,
}

impl Rule {
    pub fn mode(&self, of_policy: Mode) -> Mode {
        self.mode.as_ref().map_or(of_policy, |mode| *mode.get_ref())
    }
}

/// The breach a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    Zombie,
    BarePin,
}

/// What a breach must be like. What is left out matches everything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    pub path: Option<Spanned<String>>,
    pub cgroup: Option<Spanned<String>>,
    pub uid: Option<Spanned<Id>>,
    pub gid: Option<Spanned<Id>>,
    pub comm: Option<Spanned<String>>,
    pub lease: Option<Spanned<LeaseMode>>,
    pub kind: Option<Spanned<List<Kind>>>,
    pub consumer: Option<Spanned<List<Spanned<String>>>>,
    pub cause: Option<Spanned<List<Spanned<Cause>>>>,
    pub min_pins: Option<Spanned<u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseMode {
    Read,
    Write,
}

/// A user or group as written: a number, a range of them or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    Number(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a range such as \"1000-1999\", or a name")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Id, E> {
                Ok(Id::Number(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Id, E> {
                // What does not fit is no id either way.
                Ok(Id::Number(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Id, E> {
                Ok(Id::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Written)
    }
}

/// One word or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<'de, T: Item> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written<T>(PhantomData<T>);
        impl<'de, T: Item> Visitor<'de> for Written<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word in quotes, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<List<T>, E> {
                Ok(List(vec![T::alone(word)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = words.next_element()? {
                    list.push(item);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(Written(PhantomData))
    }
}

/// What a [`List`] may be of.
trait Item: DeserializeOwned {
    fn alone<E: serde::de::Error>(word: &str) -> Result<Self, E>;
}

impl Item for On {
    fn alone<E: serde::de::Error>(word: &str) -> Result<Self, E> {
        Self::deserialize(word.into_deserializer())
    }
}

impl Item for Kind {
    fn alone<E: serde::de::Error>(word: &str) -> Result<Self, E> {
        Self::deserialize(word.into_deserializer())
    }
}

/// An empty place: who has the list knows the place of its only word.
impl<T: DeserializeOwned> Item for Spanned<T> {
    fn alone<E: serde::de::Error>(word: &str) -> Result<Self, E> {
        let item = T::deserialize(word.into_deserializer())?;
        Ok(Self::new(0..0, item))
    }
}

/// The text of a policy file.
pub fn read(path: &Path) -> io::Result<Source> {
    Ok(Source {
        name: path.display().to_string(),
        text: fs::read_to_string(path)?,
    })
}

/// Reads the form of the file; what it means is worked out by `compile`.
pub fn parse(text: &str) -> Result<File, Diagnostic> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let (what, instead) = advice(error.message());
        Diagnostic::error(span, what, instead)
    })
}

/// What the TOML reader says, as what is wrong and what to write.
fn advice(message: &str) -> (String, String) {
    let message = message.lines().next().unwrap_or_default();
    let message = message
        .replace("unknown field", "unknown key")
        .replace("duplicate field", "duplicate key")
        // Old forms are understood, and nobody is told to write them.
        .replace(
            "one of `audit`, `monitor`, `enforce`",
            "`audit` or `enforce`",
        )
        .replace("`fallback`, `otherwise`", "`fallback`")
        .replace("missing field", "missing key")
        .replace("unknown variant", "unknown word");
    let (what, expected) = match message.split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (message.as_str(), None),
    };
    let instead = match (what, expected) {
        (_, Some("u64")) => "write a whole number, 0 or more".to_owned(),
        // Of lists that take nothing but a list there is one.
        (_, Some("a sequence")) => "write [[rule]], in two brackets".to_owned(),
        (_, Some("literal string" | "a string")) => "write it in quotes".to_owned(),
        (_, Some(expected)) => format!("write {expected}"),
        ("missing key `name`", None) => "add name = \"...\"".to_owned(),
        ("missing key `action`", None) => format!("add action = {}", actions()),
        (what, None) if what.starts_with("duplicate key") => "keep one of them".to_owned(),
        ("wanted string or table", None) => {
            return (
                "this is no word".to_owned(),
                "write one word in quotes".to_owned(),
            );
        }
        _ => "write TOML (docs/policy.md has examples)".to_owned(),
    };
    (what.to_owned(), instead)
}

/// `"report", ... or "kill"`
fn actions() -> String {
    let [rest @ .., last] = Action::ALL.map(|action| format!("\"{}\"", action.name()));
    format!("{} or {last}", rest.join(", "))
}
