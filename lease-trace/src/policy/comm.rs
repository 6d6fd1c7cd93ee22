//! Patterns for the name of a process, compiled to bits that the kernel side compares.

use lease_trace_common::COMM_LEN;

/// Bits that are compared, and what they must be: [`lease_trace_common::policy::Rule::comm_mask`]
/// and `comm_bits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    pub mask: [u64; 2],
    pub bits: [u64; 2],
}

/// The longest name a process can have, without its NUL.
const LONGEST: usize = COMM_LEN - 1;

/// A pattern that cannot be compared so, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the pattern is empty")]
    Empty,
    #[error("the pattern is longer than a name can be ({LONGEST} bytes)")]
    TooLong,
    #[error("`*` stands before the end")]
    Star,
    #[error("`{0}` means nothing in a pattern")]
    Class(char),
    #[error("a NUL is in the pattern")]
    Nul,
    /// Only equality is compared, so a byte that is there cannot be told from the NUL behind.
    #[error("`?` stands last, where any byte cannot be told from none")]
    Last,
}

impl Error {
    pub const fn instead(&self) -> &'static str {
        match self {
            Self::Empty => "leave `comm` out to match every process",
            Self::TooLong => "give its first 15 bytes, which is all the kernel keeps",
            Self::Star => "write one `*` at the end only, and `?` for any one byte",
            Self::Class(_) => "write `?` for any one byte, or a rule for each name",
            Self::Nul => "leave it out",
            Self::Last => "leave the last `?` out, or put a letter behind it",
        }
    }
}

/// Compiles a pattern: literal bytes, `?` for any one byte, one `*` at the end for any rest. An
/// exact name includes its NUL.
pub fn compile(pattern: &str) -> Result<Pattern, Error> {
    let (head, open) = match pattern.strip_suffix('*') {
        Some(head) => (head, true),
        None => (pattern, false),
    };
    match head.chars().find(|c| "*[]{}\\\0".contains(*c)) {
        Some('*') => return Err(Error::Star),
        Some('\0') => return Err(Error::Nul),
        Some(other) => return Err(Error::Class(other)),
        None => {}
    }
    if pattern.is_empty() {
        return Err(Error::Empty);
    }
    if head.len() > LONGEST {
        return Err(Error::TooLong);
    }
    if head.ends_with('?') {
        return Err(Error::Last);
    }
    let (mut mask, mut bits) = ([0_u8; COMM_LEN], [0_u8; COMM_LEN]);
    for (i, byte) in head.bytes().enumerate() {
        if byte != b'?' {
            (mask[i], bits[i]) = (0xff, byte);
        }
    }
    if !open {
        mask[head.len()] = 0xff;
    }
    Ok(Pattern {
        mask: words(&mask),
        bits: words(&bits),
    })
}

/// A name as the two words that are compared.
pub fn words(name: &[u8; COMM_LEN]) -> [u64; 2] {
    let word = |at: usize| {
        let bytes = name[at..at + 8].iter().rev();
        bytes.fold(0_u64, |word, byte| word << 8 | u64::from(*byte))
    };
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let Pattern { mask, bits } = compile(pattern).expect("a pattern");
        let mut comm = [0; COMM_LEN];
        comm[..name.len()].copy_from_slice(name.as_bytes());
        let comm = words(&comm);
        comm[0] & mask[0] == bits[0] && comm[1] & mask[1] == bits[1]
    }

    /// A plain glob matcher.
    fn glob(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([b'*'], _) | ([], []) => true,
            ([b'?', pattern @ ..], [_, name @ ..]) => glob(pattern, name),
            ([p, pattern @ ..], [n, name @ ..]) => p == n && glob(pattern, name),
            _ => false,
        }
    }

    #[test]
    fn names() {
        assert!(matches("ib_*", "ib_write_bw"));
        assert!(!matches("ib_*", "lib_"));
        assert!(matches("db", "db"));
        assert!(!matches("db", "dbx"), "an exact name includes its NUL");
        assert!(matches("abcdefghijklmno", "abcdefghijklmno"));
        assert!(matches("*", "anything"));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let refused = [
            "",
            "a*b",
            "**",
            "[ab]c",
            "{a,b}",
            "a\\b",
            "a\0",
            "abcdefghijklmnop",
            "a?",
            "a?*",
        ];
        let said: Vec<String> = refused
            .iter()
            .map(|pattern| {
                let error = compile(pattern).expect_err(pattern);
                format!("{pattern:?}: {error}; {}", error.instead())
            })
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r#"
        "": the pattern is empty; leave `comm` out to match every process
        "a*b": `*` stands before the end; write one `*` at the end only, and `?` for any one byte
        "**": `*` stands before the end; write one `*` at the end only, and `?` for any one byte
        "[ab]c": `[` means nothing in a pattern; write `?` for any one byte, or a rule for each name
        "{a,b}": `{` means nothing in a pattern; write `?` for any one byte, or a rule for each name
        "a\\b": `\` means nothing in a pattern; write `?` for any one byte, or a rule for each name
        "a\0": a NUL is in the pattern; leave it out
        "abcdefghijklmnop": the pattern is longer than a name can be (15 bytes); give its first 15 bytes, which is all the kernel keeps
        "a?": `?` stands last, where any byte cannot be told from none; leave the last `?` out, or put a letter behind it
        "a?*": `?` stands last, where any byte cannot be told from none; leave the last `?` out, or put a letter behind it
        "#);
    }

    proptest! {
        #[test]
        fn a_pattern_is_a_glob(
            pattern in "([abc?]{0,14}[abc])?[*]?",
            name in "[abc]{0,15}",
        ) {
            prop_assume!(!pattern.is_empty());
            prop_assert_eq!(
                matches(&pattern, &name),
                glob(pattern.as_bytes(), name.as_bytes())
            );
        }

        #[test]
        fn a_name_made_from_the_pattern_matches(
            name in "[a-z_/:0-9]{1,15}",
            hidden in proptest::collection::vec(any::<bool>(), 15),
        ) {
            let mut pattern: String = name
                .chars()
                .zip(hidden)
                .map(|(c, hide)| if hide { '?' } else { c })
                .collect();
            let last = name.chars().last().expect("at least one");
            pattern.pop();
            pattern.push(last);
            prop_assert!(matches(&pattern, &name));
            let stem = pattern + "*";
            prop_assert!(matches(&stem, &name));
        }
    }
}
