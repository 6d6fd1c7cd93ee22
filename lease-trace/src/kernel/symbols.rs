//! Which functions the running kernel has: /proc/kallsyms.

use std::{collections::HashSet, io::BufRead};

use anyhow::Context as _;

/// Names of functions, of modules too.
pub struct Symbols(HashSet<String>);

impl Symbols {
    /// Reads those of the running kernel that are in `wanted`.
    pub fn of_kernel(wanted: &[&str]) -> anyhow::Result<Self> {
        const PATH: &str = "/proc/kallsyms";
        let file = std::fs::File::open(PATH)
            .with_context(|| format!("cannot open {PATH}: the kernel needs CONFIG_KALLSYMS"))?;
        Self::read(std::io::BufReader::with_capacity(1 << 16, file), wanted)
            .with_context(|| format!("cannot read {PATH}"))
    }

    /// Reads `address type name [module]` lines.
    pub fn read(mut lines: impl BufRead, wanted: &[&str]) -> std::io::Result<Self> {
        let wanted: HashSet<&str> = wanted.iter().copied().collect();
        let mut found = HashSet::new();
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            let mut words = line.split_ascii_whitespace().skip(1);
            if let (Some("t" | "T"), Some(name)) = (words.next(), words.next())
                && wanted.contains(name)
            {
                found.insert(name.to_owned());
            }
            line.clear();
        }
        Ok(Self(found))
    }

    pub fn has(&self, function: &str) -> bool {
        self.0.contains(function)
    }
}
