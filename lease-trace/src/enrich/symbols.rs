//! The kernel's symbol table as addresses to names: /proc/kallsyms with /proc/modules.
//!
//! This is for reading stacks. Which functions exist, and whether they can be traced, is asked
//! elsewhere.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind},
    ops::Range,
};

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
    /// Names, one behind the other; the entries point into it.
    text: String,
    entries: Vec<Entry>,
    modules: Modules,
}

/// The modules that are loaded, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Modules(Vec<Module>);

impl Modules {
    pub fn now() -> Result<Self, Error> {
        Ok(Self::parse(&modules()?))
    }

    /// `rdma_rxe 180224 0 - Live 0xffffffffc0a80000`. How often a module is used does not matter here.
    fn parse(text: &str) -> Self {
        let parse = |line: &str| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            let size = words.next()?.parse().ok()?;
            let base = words.find_map(|word| word.strip_prefix("0x"))?;
            let base = u64::from_str_radix(base, 16).ok()?;
            Some(Module { name, base, size })
        };
        Self(text.lines().filter_map(parse).collect())
    }
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

const KALLSYMS: &str = "/proc/kallsyms";

impl Symbols {
    pub fn load() -> Result<Self, Error> {
        let file = File::open(KALLSYMS).map_err(unreadable)?;
        let symbols = Self::parse(BufReader::new(file), &modules()?).map_err(unreadable)?;
        if symbols.entries.is_empty() {
            return Err(Error::Hidden);
        }
        Ok(symbols)
    }

    /// Whether they could be loaded, without loading them: the kernel takes long to write them all.
    pub fn check() -> Result<(), Error> {
        let file = File::open(KALLSYMS).map_err(unreadable)?;
        for line in BufReader::new(file).lines() {
            let line = line.map_err(unreadable)?;
            // Without the addresses, those of functions are zeroes, too.
            match Function::parse(&line) {
                Some((0, _)) => return Err(Error::Hidden),
                Some(_) => return Ok(()),
                None => {}
            }
        }
        Err(Error::Hidden)
    }

    /// From the text of both files; of the first only the names are kept.
    pub fn parse(mut kallsyms: impl BufRead, modules: &str) -> io::Result<Self> {
        let mut text = String::new();
        let mut entries = Vec::new();
        // The symbols of a module stand together.
        let mut module = 0..0;
        let mut line = String::new();
        while {
            line.clear();
            kallsyms.read_line(&mut line)? > 0
        } {
            let Some((address, function)) = Function::parse(line.trim_end()) else {
                continue;
            };
            if address == 0 {
                continue;
            }
            let of_module = function.module.unwrap_or_default();
            if text.get(module.start as usize..module.end as usize) != Some(of_module) {
                module = keep(&mut text, of_module);
            }
            entries.push(Entry {
                address,
                name: keep(&mut text, function.name),
                module: module.clone(),
            });
        }
        text.shrink_to_fit();
        entries.shrink_to_fit();
        entries.sort_by_key(|entry| entry.address);
        Ok(Self {
            text,
            entries,
            modules: Modules::parse(modules),
        })
    }

    /// Whether modules came or went since this was loaded.
    pub fn is_stale(&self) -> bool {
        Modules::now().is_ok_and(|modules| modules != self.modules)
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
        if let Some(module) = self.modules.0.iter().find(|known| known.name == module)
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
            let known = self.modules.0.iter().find(|known| known.name == module);
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

impl<'a> Function<'a> {
    /// `ffffffffc0a81230 t rxe_reg_user_mr\t[rdma_rxe]`; only code.
    fn parse(line: &'a str) -> Option<(u64, Self)> {
        let (address, rest) = line.split_once(' ')?;
        let (kind, rest) = rest.split_once(' ')?;
        if !matches!(kind, "t" | "T" | "w" | "W") {
            return None;
        }
        let address = u64::from_str_radix(address, 16).ok()?;
        let (name, module) = match rest.split_once('\t') {
            Some((name, module)) => (name, Some(module.trim_matches(['[', ']']))),
            None => (rest, None),
        };
        Some((address, Self { name, module }))
    }
}

/// Appends a name, and says where it is.
fn keep(text: &mut String, name: &str) -> Range<u32> {
    let start = text.len() as u32;
    text.push_str(name);
    start..text.len() as u32
}

fn unreadable(reason: io::Error) -> Error {
    Error::Read {
        path: KALLSYMS,
        reason,
    }
}

/// A kernel without modules does not have the file.
fn modules() -> Result<String, Error> {
    const MODULES: &str = "/proc/modules";
    match fs::read_to_string(MODULES) {
        Err(reason) if reason.kind() == ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(|reason| Error::Read {
            path: MODULES,
            reason,
        }),
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

    fn symbols(kallsyms: &str) -> Symbols {
        Symbols::parse(kallsyms.as_bytes(), MODULES).expect("text in memory")
    }

    fn name(address: u64) -> Option<(String, Option<String>)> {
        let symbols = symbols(KALLSYMS);
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
        let symbols = symbols(KALLSYMS);
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
        let hidden: String = hidden.collect();
        let symbols = symbols(&hidden);
        assert!(symbols.entries.is_empty());
    }

    #[test]
    fn use_counts_of_modules_do_not_matter() {
        let busier = MODULES.replace("4096 1", "4096 7");
        assert_eq!(Modules::parse(MODULES), Modules::parse(&busier));
    }
}
