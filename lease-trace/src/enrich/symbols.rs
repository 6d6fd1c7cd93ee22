//! The kernel's symbol table as addresses to names: /proc/kallsyms with /proc/modules.
//!
//! This is for reading stacks. Which functions exist, and whether they can be traced, is asked
//! elsewhere.

use std::{io::ErrorKind, ops::Range};

/// Farther from the nearest symbol than this, an address is in none. No function of the kernel
/// comes near it.
const LONGEST: u64 = 256 << 10;

/// One function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    pub name: &'a str,
    /// The module it is from; `None`: the kernel itself.
    pub module: Option<&'a str>,
}

/// All functions, by address.
pub struct Symbols {
    /// kallsyms as read; the entries point into it.
    text: String,
    entries: Vec<Entry>,
    modules: Vec<Module>,
}

struct Entry {
    address: u64,
    name: Range<u32>,
    /// Empty: the kernel itself.
    module: Range<u32>,
}

#[derive(Debug, PartialEq, Eq)]
struct Module {
    name: String,
    base: u64,
    size: u64,
}

/// Why there are no symbols.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {reason}")]
    Read {
        path: &'static str,
        reason: std::io::Error,
    },
    #[error(
        "/proc/kallsyms shows no addresses; set kernel.kptr_restrict to 1 or 0, and give \
         lease-trace CAP_SYSLOG"
    )]
    Hidden,
}

impl Symbols {
    pub fn load() -> Result<Self, Error> {
        let symbols = Self::parse(read("/proc/kallsyms")?, &modules()?);
        if symbols.entries.is_empty() {
            return Err(Error::Hidden);
        }
        Ok(symbols)
    }

    /// From the text of both files.
    pub fn parse(text: String, modules: &str) -> Self {
        let mut entries: Vec<_> = text
            .lines()
            .filter_map(|line| Entry::parse(&text, line))
            .collect();
        entries.sort_by_key(|entry| entry.address);
        Self {
            text,
            entries,
            modules: parse_modules(modules),
        }
    }

    /// Whether modules came or went since this was loaded.
    pub fn is_stale(&self) -> bool {
        modules().is_ok_and(|text| parse_modules(&text) != self.modules)
    }

    /// The function that `address` is in.
    pub fn find(&self, address: u64) -> Option<Function<'_>> {
        let after = self
            .entries
            .partition_point(|entry| entry.address <= address);
        let last = self.entries.get(after.checked_sub(1)?)?;
        // Several names may share an address: a global one says most, and stands first in the
        // file or last; any of them is right, so take the first.
        let first = self
            .entries
            .partition_point(|entry| entry.address < last.address);
        let entry = self.entries.get(first)?;
        if address - entry.address >= LONGEST {
            return None;
        }
        let module = self.slice(&entry.module);
        // A module's last symbol must not claim what was loaded behind it.
        if let Some(module) = self.modules.iter().find(|known| known.name == module)
            && address >= module.base
            && address - module.base >= module.size
        {
            return None;
        }
        Some(Function {
            name: self.slice(&entry.name),
            module: (!module.is_empty()).then_some(module),
        })
    }

    /// All functions with the addresses that [`Self::find`] takes for theirs, in order.
    pub fn functions(&self) -> impl Iterator<Item = (Range<u64>, Function<'_>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let entry = self.entries.get(at)?;
            let more = &self.entries[at..];
            at += more.partition_point(|other| other.address == entry.address);
            let next = self.entries.get(at).map_or(u64::MAX, |next| next.address);
            let module = self.slice(&entry.module);
            let known = self.modules.iter().find(|known| known.name == module);
            let behind = known
                .filter(|module| entry.address >= module.base)
                .map_or(u64::MAX, |module| module.base.saturating_add(module.size));
            let longest = entry.address.saturating_add(LONGEST);
            let end = next.min(behind).min(longest).max(entry.address);
            let function = Function {
                name: self.slice(&entry.name),
                module: (!module.is_empty()).then_some(module),
            };
            Some((entry.address..end, function))
        })
    }

    fn slice(&self, range: &Range<u32>) -> &str {
        self.text
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }
}

impl Entry {
    /// `ffffffffc0a81230 t rxe_reg_user_mr\t[rdma_rxe]`; only code, and only if not hidden.
    fn parse(text: &str, line: &str) -> Option<Self> {
        let (address, rest) = line.split_once(' ')?;
        let (kind, rest) = rest.split_once(' ')?;
        if !matches!(kind, "t" | "T" | "w" | "W") {
            return None;
        }
        let address = u64::from_str_radix(address, 16)
            .ok()
            .filter(|at| *at != 0)?;
        let (name, module) = match rest.split_once('\t') {
            Some((name, module)) => (name, module.trim_matches(['[', ']'])),
            None => (rest, ""),
        };
        let place = |part: &str| {
            let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())? as u32;
            Some(start..start + part.len() as u32)
        };
        Some(Self {
            address,
            name: place(name)?,
            module: if module.is_empty() {
                0..0
            } else {
                place(module)?
            },
        })
    }
}

/// `rdma_rxe 180224 0 - Live 0xffffffffc0a80000`. How often a module is used does not matter here.
fn parse_modules(text: &str) -> Vec<Module> {
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let size = words.next()?.parse().ok()?;
        let base = words.find_map(|word| word.strip_prefix("0x"))?;
        let base = u64::from_str_radix(base, 16).ok()?;
        Some(Module { name, base, size })
    };
    text.lines().filter_map(parse).collect()
}

fn read(path: &'static str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|reason| Error::Read { path, reason })
}

/// A kernel without modules does not have the file.
fn modules() -> Result<String, Error> {
    match read("/proc/modules") {
        Err(Error::Read { reason, .. }) if reason.kind() == ErrorKind::NotFound => {
            Ok(String::new())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "\
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff812f0a10 T pin_user_pages_fast
ffffffff812f0b00 T pin_user_pages
ffffffff82a00000 D init_task
ffffffffc0a80010 t rxe_mr_init_user\t[rdma_rxe]
ffffffffc0a80210 t rxe_reg_user_mr\t[rdma_rxe]
";
    const MODULES: &str = "rdma_rxe 4096 1 - Live 0xffffffffc0a80000\n";

    fn name(address: u64) -> Option<(String, Option<String>)> {
        let symbols = Symbols::parse(KALLSYMS.to_owned(), MODULES);
        let found = symbols.find(address)?;
        Some((found.name.to_owned(), found.module.map(str::to_owned)))
    }

    #[test]
    fn an_address_is_in_the_function_before_it() {
        assert_eq!(
            name(0xffff_ffff_812f_0a55),
            Some(("pin_user_pages_fast".into(), None))
        );
        assert_eq!(
            name(0xffff_ffff_c0a8_0210),
            Some(("rxe_reg_user_mr".into(), Some("rdma_rxe".into())))
        );
    }

    #[test]
    fn an_address_in_no_function_has_no_name() {
        assert_eq!(name(0x1000), None);
        assert_eq!(name(0xffff_ffff_8200_0000), None, "a gap");
        assert_eq!(name(0xffff_ffff_c0a8_1000), None, "behind the module");
    }

    #[test]
    fn functions_have_the_addresses_that_are_found() {
        let symbols = Symbols::parse(KALLSYMS.to_owned(), MODULES);
        let functions: Vec<_> = symbols.functions().collect();
        assert_eq!(
            functions.len(),
            5,
            "two names of one address are one function"
        );
        for (range, function) in &functions {
            assert_eq!(symbols.find(range.start), Some(*function));
            assert_eq!(symbols.find(range.end - 1), Some(*function));
            assert_ne!(symbols.find(range.end), Some(*function));
        }
    }

    #[test]
    fn hidden_addresses_are_no_symbols() {
        let hidden = KALLSYMS.replace("ffffffff", "00000000");
        let hidden = hidden.lines().map(|line| {
            let rest = line.split_once(' ').map_or("", |(_, rest)| rest);
            format!("0000000000000000 {rest}\n")
        });
        let symbols = Symbols::parse(hidden.collect(), "");
        assert!(symbols.entries.is_empty());
    }

    #[test]
    fn use_counts_of_modules_do_not_matter() {
        let busier = MODULES.replace("4096 1", "4096 7");
        assert_eq!(parse_modules(MODULES), parse_modules(&busier));
    }
}
