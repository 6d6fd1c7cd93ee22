//! The table by which the kernel side tells the consumer of a pin: code addresses, and which of the
//! consumers that the policy names they belong to.

use lease_trace_common::policy::{CONSUMERS, OTHER_CONSUMER, TEXT_RANGES, TextRange};

use crate::enrich::{consumer::Part, symbols::Symbols};

/// Consumers that a policy can name.
pub const MOST: usize = CONSUMERS as usize;

/// The table does not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the code of this kernel's consumers is in {0} text ranges, and there is room for \
     {TEXT_RANGES}; leave `consumer` out of the policy"
)]
pub struct TooMany(pub usize);

/// The table, sorted by address; empty if the policy names no consumer.
pub fn text_ranges(symbols: &Symbols, consumers: &[String]) -> Result<Vec<TextRange>, TooMany> {
    let mut text_ranges: Vec<TextRange> = Vec::new();
    if consumers.is_empty() {
        return Ok(text_ranges);
    }
    let number = |name: &str| {
        let known = consumers.iter().position(|consumer| consumer == name);
        known.map_or(OTHER_CONSUMER, |index| index as u32 + 1)
    };
    for (addresses, function) in symbols.functions() {
        let (consumer, helper) = match Part::of(&function) {
            Part::Machinery | Part::Unknown => continue,
            Part::Consumer(name) => (number(name), 0),
            Part::Helper(name) => (number(name), 1),
        };
        match text_ranges.last_mut() {
            Some(last)
                if last.end == addresses.start
                    && (last.consumer, last.helper) == (consumer, helper) =>
            {
                last.end = addresses.end;
            }
            _ => text_ranges.push(TextRange {
                start: addresses.start,
                end: addresses.end,
                consumer,
                helper,
            }),
        }
    }
    if text_ranges.len() > TEXT_RANGES as usize {
        return Err(TooMany(text_ranges.len()));
    }
    Ok(text_ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::{consumer, symbols::Function};

    const KALLSYMS: &str = "\
ffffffff81000000 T _stext
ffffffff812f0a00 T pin_user_pages_fast
ffffffff812f0b00 T io_pin_pages
ffffffff812f0c00 t io_sqe_buffer_register
ffffffff812f0d00 t bio_map_user_iov
ffffffff812f0e00 T iov_iter_extract_pages
ffffffff812f0f00 T vfs_write
ffffffffc0a80000 t ib_umem_get\t[ib_uverbs]
ffffffffc0a81000 t rxe_mr_init_user\t[rdma_rxe]
ffffffffc0a81100 t unheard_of\t[rdma_rxe]
ffffffffc0a82000 t bpf_prog_58cf\t[bpf]
";
    const MODULES: &str = "\
ib_uverbs 4096 1 - Live 0xffffffffc0a80000
rdma_rxe 4096 1 - Live 0xffffffffc0a81000
";

    fn symbols() -> Symbols {
        Symbols::parse(KALLSYMS.as_bytes(), MODULES).expect("text in memory")
    }

    fn table(consumers: &[&str]) -> Vec<TextRange> {
        let consumers: Vec<_> = consumers.iter().map(|name| (*name).to_owned()).collect();
        text_ranges(&symbols(), &consumers).expect("fits")
    }

    #[test]
    fn neighbours_of_one_consumer_are_one_frame() {
        let shown: Vec<String> = table(&["io_uring", "rdma_rxe"])
            .iter()
            .map(|range| {
                let kind = if range.helper == 1 { " helper" } else { "" };
                format!(
                    "{:x}..{:x} {}{kind}",
                    range.start, range.end, range.consumer
                )
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        ffffffff812f0b00..ffffffff812f0d00 1
        ffffffff812f0d00..ffffffff812f0e00 63
        ffffffff812f0e00..ffffffff812f0f00 63 helper
        ffffffffc0a80000..ffffffffc0a81000 63 helper
        ffffffffc0a81000..ffffffffc0a82000 2
        ");
    }

    #[test]
    fn a_policy_without_consumers_needs_no_table() {
        assert_eq!(table(&[]), []);
    }

    /// Reads a stack as the kernel side does: the first frame that is no helper, else the first
    /// helper.
    fn by_table(table: &[TextRange], stack: &[u64]) -> u32 {
        let mut helper = 0;
        for address in stack {
            let after = table.partition_point(|range| range.start <= *address);
            let Some(range) = after.checked_sub(1).map(|at| table[at]) else {
                continue;
            };
            if *address >= range.end {
                continue;
            }
            if range.helper == 0 {
                return range.consumer;
            }
            if helper == 0 {
                helper = range.consumer;
            }
        }
        helper
    }

    #[test]
    fn the_table_says_what_the_names_say() {
        let names = ["io_uring", "direct-io", "ib_uverbs", "rdma_rxe"];
        let (symbols, table) = (symbols(), table(&names));
        let starts: Vec<u64> = symbols.functions().map(|(range, _)| range.start).collect();
        for inner in &starts {
            for outer in &starts {
                let stack = [inner + 1, outer + 1];
                let functions: Vec<Option<Function<'_>>> =
                    stack.iter().map(|address| symbols.find(*address)).collect();
                let by_name = consumer::classify(functions.iter().copied())
                    .and_then(|found| names.iter().position(|name| *name == found.name))
                    .map_or(0, |index| index as u32 + 1);
                assert_eq!(by_table(&table, &stack), by_name, "{functions:?}");
            }
        }
    }

    #[test]
    fn a_table_that_does_not_fit_is_refused() {
        let lines = (0..=u64::from(TEXT_RANGES)).map(|i| {
            let at = 0xffff_ffff_8100_0000 + i * 32;
            format!("{at:x} t io_{i}\n{:x} t other_{i}\n", at + 16)
        });
        let lines: String = lines.collect();
        let symbols = Symbols::parse(lines.as_bytes(), "").expect("text in memory");
        let refused = text_ranges(&symbols, &["io_uring".to_owned()]);
        assert_eq!(refused, Err(TooMany(TEXT_RANGES as usize + 1)));
    }
}
