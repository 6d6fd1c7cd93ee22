//! The consumer of a pin: the driver or subsystem that asked for it, read off the stack.
//!
//! Going outward from the pin, frames of the machinery (tracing, memory management) say nothing.
//! The first frame that a rule knows, or that belongs to a module, is the consumer. All rules are
//! in this file; a new consumer that is always built into the kernel needs a line in [`BUILT_IN`].

use std::collections::HashMap;

use lease_trace_common::STACK_LEN;

use super::symbols::{Error, Function, Symbols};

/// What the kernel calls frames that are between the consumer and the pin, or ours.
const MACHINERY: &[&str] = &[
    // Tracing.
    "__bpf_",
    "__ftrace_",
    "__kprobe",
    "__perf_",
    "__traceiter_",
    "aggr_pre_handler",
    "arch_ftrace_",
    "arch_rethook_",
    "asm_exc_int3",
    "bpf_",
    "do_int3",
    "exc_int3",
    "fprobe_",
    "ftrace_",
    "get_perf_callchain",
    "kprobe_",
    "kretprobe_",
    "opt_pre_handler",
    "optimized_callback",
    "perf_",
    "rethook_",
    "trace_call_bpf",
    // Memory management.
    "__get_user_pages",
    "__gup_",
    "alloc_contig_",
    "extract_user_to_",
    "fault_in_",
    "folio_add_pin",
    "get_user_pages",
    "gup_",
    "internal_get_user_pages",
    "is_valid_gup_args",
    "lockless_pages_from_mm",
    "memfd_pin_folios",
    "pin_user_page",
    "try_grab_",
    "unpin_",
];

/// Modules whose frames are tracing, not drivers.
const MACHINERY_MODULES: &[&str] = &["bpf", "__builtin__ftrace", "__builtin__kprobes"];

/// Frames that help whoever called them, and name a consumer only if nothing outward does.
const HELPERS: &[(&str, &str)] = &[
    ("ib_umem_", "ib_uverbs"),
    ("ib_uverbs_", "ib_uverbs"),
    ("uverbs_", "ib_uverbs"),
    ("iov_iter_", "direct-io"),
];

/// The same as whole modules.
const HELPER_MODULES: &[&str] = &["ib_core", "ib_uverbs"];

/// Modules that are known by a shorter name: what people call the subsystem, however it is built.
const MODULES: &[(&str, &str)] = &[
    ("iommufd", "iommufd"),
    ("nfs", "nfs"),
    ("nfsv4", "nfs"),
    ("vfio", "vfio"),
    ("vfio_iommu_spapr_tce", "vfio"),
    ("vfio_iommu_type1", "vfio"),
    ("vhost", "vhost"),
    ("vhost_iotlb", "vhost"),
    ("vhost_net", "vhost"),
    ("vhost_vdpa", "vhost"),
];

/// Code that may be built into the kernel, by what its functions begin with. Looked at before
/// modules, for what is named here is nearer to the pin than whoever called it.
const BUILT_IN: &[(&str, &str)] = &[
    ("__blkdev_direct_IO", "direct-io"),
    ("__blockdev_direct_IO", "direct-io"),
    ("__io_", "io_uring"),
    ("__iomap_dio_", "direct-io"),
    ("bio_", "direct-io"),
    ("blk_rq_map_", "direct-io"),
    ("blkdev_", "direct-io"),
    ("bnxt_re_", "bnxt_re"),
    ("dio_", "direct-io"),
    ("efa_", "efa"),
    ("io_", "io_uring"),
    ("iomap_dio_", "direct-io"),
    ("iommufd_", "iommufd"),
    ("iopt_", "iommufd"),
    ("irdma_", "irdma"),
    ("mlx4_ib_", "mlx4_ib"),
    ("mlx5_ib_", "mlx5_ib"),
    ("nfs_", "nfs"),
    ("pfn_reader_", "iommufd"),
    ("process_vm_", "process_vm"),
    ("rxe_", "rdma_rxe"),
    ("siw_", "siw"),
    ("udmabuf_", "udmabuf"),
    ("vaddr_get_pfn", "vfio"),
    ("vfio_", "vfio"),
    ("vhost_", "vhost"),
    ("xdp_umem_", "xdp"),
    ("xsk_", "xdp"),
];

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub name: String,
    /// Through the RDMA core, so there is a device to it.
    pub rdma: bool,
}

/// What a function on the way to a pin says about who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// It is between the consumer and the pin, or ours.
    Machinery,
    /// It is the consumer of this name.
    Consumer(&'a str),
    /// It helps whoever called it, and is the consumer only if nothing outward is.
    Helper(&'a str),
    /// No rule knows it.
    Unknown,
}

impl<'a> Part<'a> {
    pub fn of(function: &Function<'a>) -> Self {
        if is_machinery(function) {
            Self::Machinery
        } else if let Some(name) = by_prefix(BUILT_IN, function.name) {
            Self::Consumer(name)
        } else if let Some(name) = helper_of(function) {
            Self::Helper(name)
        } else if let Some(module) = function.module {
            Self::Consumer(name_of(module))
        } else {
            Self::Unknown
        }
    }
}

/// What the consumer in a module is called.
pub fn name_of(module: &str) -> &str {
    let known = MODULES.iter().find(|(name, _)| *name == module);
    known.map_or(module, |(_, name)| name)
}

/// The consumers that are known by name, sorted; any other module is one, too.
pub fn known() -> Vec<&'static str> {
    let rules = [MODULES, BUILT_IN, HELPERS].into_iter().flatten();
    let mut names: Vec<_> = rules
        .map(|(_, name)| *name)
        .chain(HELPER_MODULES.iter().copied())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Reads the names of a stack's functions, innermost first; `None` for a frame without a name.
pub fn classify<'a>(frames: impl Iterator<Item = Option<Function<'a>>>) -> Option<Consumer> {
    let mut rdma = false;
    let mut found: Option<&str> = None;
    let mut helper: Option<&str> = None;
    let mut caller: Option<&str> = None;
    for function in frames.flatten() {
        rdma |= is_rdma(&function);
        if found.is_some() {
            continue;
        }
        match Part::of(&function) {
            Part::Machinery => {}
            Part::Consumer(name) => found = Some(name),
            Part::Helper(name) => helper = helper.or(Some(name)),
            Part::Unknown => caller = caller.or(Some(function.name)),
        }
    }
    let name = found.or(helper).or(caller)?;
    Some(Consumer {
        name: name.to_owned(),
        rdma,
    })
}

fn is_rdma(function: &Function<'_>) -> bool {
    function.name.starts_with("ib_")
        || function
            .module
            .is_some_and(|module| HELPER_MODULES.contains(&module))
}

fn is_machinery(function: &Function<'_>) -> bool {
    match function.module {
        Some(module) => MACHINERY_MODULES.contains(&module),
        None => MACHINERY
            .iter()
            .any(|prefix| function.name.starts_with(prefix)),
    }
}

fn helper_of<'a>(function: &Function<'a>) -> Option<&'a str> {
    by_prefix(HELPERS, function.name).or_else(|| {
        function
            .module
            .filter(|module| HELPER_MODULES.contains(module))
    })
}

fn by_prefix(rules: &[(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    let rule = rules.iter().find(|(prefix, _)| name.starts_with(prefix));
    rule.map(|(_, consumer)| *consumer)
}

/// Consumers by stack. A machine has few different ones, so each is read once.
#[derive(Default)]
pub struct Consumers {
    symbols: Option<Symbols>,
    known: HashMap<[u64; STACK_LEN], Option<Consumer>>,
}

/// More different stacks than any machine was seen to have: start again rather than grow.
const MOST_STACKS: usize = 4096;

impl Consumers {
    /// Loads the symbols, so that what hinders it can be said beforehand.
    pub fn prepare(&mut self) -> Result<(), Error> {
        if self.symbols.as_ref().is_none_or(Symbols::is_stale) {
            self.known.clear();
            self.symbols = None;
            self.symbols = Some(Symbols::load()?);
        }
        Ok(())
    }

    /// Names of the functions on a stack, innermost first, without those of tracing.
    pub fn names(&mut self, stack: &[u64; STACK_LEN]) -> Vec<String> {
        if stack[0] == 0 || self.prepare().is_err() {
            return Vec::new();
        }
        let Some(symbols) = &self.symbols else {
            return Vec::new();
        };
        functions(symbols, stack)
            .into_iter()
            .flatten()
            .filter(|function| !is_tracing(function))
            .map(|function| function.name.to_owned())
            .collect()
    }

    pub fn find(&mut self, stack: &[u64; STACK_LEN]) -> Option<Consumer> {
        if stack[0] == 0 {
            return None;
        }
        if let Some(known) = self.known.get(stack) {
            return known.clone();
        }
        // Symbols that cannot be read leave the consumer unknown; the start says why.
        self.prepare().ok()?;
        let symbols = self.symbols.as_ref()?;
        let consumer = classify(functions(symbols, stack).into_iter());
        if self.known.len() >= MOST_STACKS {
            self.known.clear();
        }
        self.known.insert(*stack, consumer.clone());
        consumer
    }
}

/// Tracing frames say nothing to anybody who reads a stack.
fn is_tracing(function: &Function<'_>) -> bool {
    match function.module {
        Some(module) => MACHINERY_MODULES.contains(&module),
        None => function.name.starts_with("bpf_") || function.name.starts_with("__bpf_"),
    }
}

/// The functions on a stack. All addresses but the first are return addresses: a call that is the
/// last thing in its function returns to the next one's first byte, so look at the byte before.
fn functions<'a>(symbols: &'a Symbols, stack: &[u64; STACK_LEN]) -> Vec<Option<Function<'a>>> {
    let addresses = stack.iter().take_while(|address| **address != 0);
    addresses
        .enumerate()
        .map(|(depth, address)| symbols.find(if depth == 0 { *address } else { address - 1 }))
        .collect()
}

#[cfg(test)]
mod tests;
