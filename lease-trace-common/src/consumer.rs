//! Who asked for a pin, told by the names of the functions on its stack: one table of rules, read by
//! the user side for everything it shows and by the kernel side for the files in bpffs.
//!
//! Going outward from the pin, frames of the machinery (tracing, memory management) say nothing.
//! The first frame that a rule knows, or that belongs to a module, is the consumer. A new consumer
//! that is always built into the kernel needs a line in `BUILT_IN`.

/// What the kernel calls frames that are between the consumer and the pin, or ours. In no module.
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
pub const MACHINERY_MODULES: &[&str] = &["bpf", "__builtin__ftrace", "__builtin__kprobes"];

/// Frames that help whoever called them, and name a consumer only if nothing outward does.
const HELPERS: &[(&str, &str)] = &[
    ("ib_umem_", "ib_uverbs"),
    ("ib_uverbs_", "ib_uverbs"),
    ("uverbs_", "ib_uverbs"),
    ("iov_iter_", "direct-io"),
];

/// The same as whole modules.
pub const HELPER_MODULES: &[&str] = &["ib_core", "ib_uverbs"];

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

/// 24 bytes: more than the longest beginning that a rule names has.
const WORDS: usize = 3;

/// The beginning of a function's or a module's name, as rules compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin(pub [u64; WORDS]);

/// Bytes of a name that rules look at.
pub const BEGIN_LEN: usize = WORDS * 8;

impl Begin {
    /// No name.
    pub const NONE: Self = Self([0; WORDS]);

    pub const fn of(name: &str) -> Self {
        let name = name.as_bytes();
        let mut words = [0; WORDS];
        let mut at = 0;
        while at < name.len() && at < BEGIN_LEN {
            words[at / 8] |= (name[at] as u64) << (at % 8 * 8);
            at += 1;
        }
        Self(words)
    }

    /// Ones where a name of this length has its bytes.
    const fn mask(len: usize) -> Self {
        let mut words = [0; WORDS];
        let mut at = 0;
        while at < len && at < BEGIN_LEN {
            words[at / 8] |= 0xff << (at % 8 * 8);
            at += 1;
        }
        Self(words)
    }
}

/// What a function of some name on the way to a pin is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// Between the consumer and the pin, or ours.
    Machinery = 0,
    /// The consumer that the rule names.
    Consumer = 1,
    /// A help to whoever called it, and the consumer only if nothing outward is.
    Helper = 2,
}

/// Which names a rule is about.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// Functions that are in no module.
    BuiltIn = 0,
    /// All functions.
    Function = 1,
    /// Modules.
    Module = 2,
}

/// Bytes kept of a consumer's name, the terminating NUL included.
pub const NAME_LEN: usize = 16;

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    begin: Begin,
    mask: Begin,
    about: About,
    is: Is,
    /// The consumer, NUL-terminated.
    name: [u8; NAME_LEN],
}

const LEN: usize = MACHINERY_MODULES.len()
    + MACHINERY.len()
    + BUILT_IN.len()
    + HELPERS.len()
    + HELPER_MODULES.len()
    + MODULES.len();

/// All rules; of those that match, the first counts.
pub static RULES: [Rule; LEN] = rules();

impl Rule {
    const BLANK: Self = Self::function(About::Function, "", Is::Machinery, "");

    const fn function(about: About, begin: &str, is: Is, name: &str) -> Self {
        assert!(begin.len() <= BEGIN_LEN, "longer than what is compared");
        Self {
            begin: Begin::of(begin),
            mask: Begin::mask(begin.len()),
            about,
            is,
            name: padded(name),
        }
    }

    const fn module(module: &str, is: Is, name: &str) -> Self {
        // One byte more, or the name of a longer one would do.
        assert!(module.len() < BEGIN_LEN, "longer than what is compared");
        Self {
            mask: Begin::mask(module.len() + 1),
            ..Self::function(About::Module, module, is, name)
        }
    }

    /// Whether it is about this function; a function in no module comes with [`Begin::NONE`].
    #[inline(always)]
    pub const fn matches(&self, function: &Begin, module: &Begin) -> bool {
        let name = match self.about {
            About::BuiltIn if module.0[0] != 0 => return false,
            About::BuiltIn | About::Function => function,
            About::Module => module,
        };
        let Self { begin, mask, .. } = self;
        (name.0[0] ^ begin.0[0]) & mask.0[0] == 0
            && (name.0[1] ^ begin.0[1]) & mask.0[1] == 0
            && (name.0[2] ^ begin.0[2]) & mask.0[2] == 0
    }

    pub const fn is(&self) -> Is {
        self.is
    }

    /// The consumer, NUL-terminated; empty for machinery.
    pub const fn padded_name(&self) -> &[u8; NAME_LEN] {
        &self.name
    }

    /// The consumer; empty for machinery.
    pub fn name(&self) -> &str {
        let end = self.name.iter().position(|byte| *byte == 0);
        core::str::from_utf8(&self.name[..end.unwrap_or(NAME_LEN)]).unwrap_or("")
    }
}

/// The rule for a function, if there is one.
pub fn rule(function: &str, module: Option<&str>) -> Option<&'static Rule> {
    let function = Begin::of(function);
    let module = module.map_or(Begin::NONE, Begin::of);
    RULES.iter().find(|rule| rule.matches(&function, &module))
}

/// What the consumer in a module is called.
pub fn name_of(module: &str) -> &str {
    let known = MODULES.iter().find(|(name, _)| *name == module);
    known.map_or(module, |(_, name)| name)
}

const fn rules() -> [Rule; LEN] {
    let mut rules = [Rule::BLANK; LEN];
    let mut n = 0;
    // A constant has no iterators.
    macro_rules! each {
        ($table:ident, $entry:pat => $rule:expr) => {
            let mut at = 0;
            while at < $table.len() {
                let $entry = $table[at];
                rules[n] = $rule;
                (n, at) = (n + 1, at + 1);
            }
        };
    }
    each!(MACHINERY_MODULES, module => Rule::module(module, Is::Machinery, ""));
    each!(MACHINERY, begin => Rule::function(About::BuiltIn, begin, Is::Machinery, ""));
    each!(BUILT_IN, (begin, name) => Rule::function(About::Function, begin, Is::Consumer, name));
    each!(HELPERS, (begin, name) => Rule::function(About::Function, begin, Is::Helper, name));
    each!(HELPER_MODULES, module => Rule::module(module, Is::Helper, module));
    each!(MODULES, (module, name) => Rule::module(module, Is::Consumer, name));
    assert!(n == LEN, "a table was left out");
    rules
}

/// A short name as the kernel side prints it: NUL-terminated, at most 15 bytes.
pub const fn padded(name: &str) -> [u8; NAME_LEN] {
    let name = name.as_bytes();
    assert!(name.len() < NAME_LEN, "no room for the NUL");
    let mut bytes = [0; NAME_LEN];
    let mut at = 0;
    while at < name.len() {
        bytes[at] = name[at];
        at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(function: &str, module: Option<&str>) -> Option<(Is, &'static str)> {
        rule(function, module).map(|rule| (rule.is(), rule.name()))
    }

    #[test]
    fn functions_are_known_by_their_beginning() {
        let io_uring = Some((Is::Consumer, "io_uring"));
        assert_eq!(name("io_sqe_buffer_register", None), io_uring);
        assert_eq!(name("io", None), None);
        assert_eq!(
            name("vaddr_get_pfns", Some("vfio_iommu_type1")).map(|found| found.1),
            Some("vfio")
        );
        assert_eq!(
            name("internal_get_user_pages_fast", None),
            Some((Is::Machinery, ""))
        );
    }

    #[test]
    fn machinery_is_in_no_module_but_its_own() {
        assert_eq!(name("bpf_prog_0123", None), Some((Is::Machinery, "")));
        assert_eq!(
            name("bpf_prog_0123", Some("bpf")),
            Some((Is::Machinery, ""))
        );
        assert_eq!(name("bpf_thing", Some("driver")), None);
    }

    #[test]
    fn modules_are_known_by_their_whole_name() {
        assert_eq!(name("x", Some("vhost")), Some((Is::Consumer, "vhost")));
        assert_eq!(name("x", Some("vhost_other")), None);
        assert_eq!(name("x", Some("ib_core")), Some((Is::Helper, "ib_core")));
    }
}
