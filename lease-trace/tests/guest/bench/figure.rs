//! What was measured, as the host reads it.

/// Under what the same load ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The kernel alone.
    Kernel,
    LeaseTrace,
    /// lease-trace with the kernel counting what its programs take.
    Counted,
    Bpftrace,
    /// bpftrace that counts by process.
    BpftraceByProcess,
    /// Programs that do nothing, where lease-trace has its own.
    Empty,
    /// Enforcement, while others hold so many leases.
    Enforced(u32),
    /// So many of whatever the figure is about.
    Number(u32),
}

impl By {
    fn word(self) -> String {
        match self {
            Self::Kernel => "kernel".to_owned(),
            Self::LeaseTrace => "lease-trace".to_owned(),
            Self::Counted => "counted".to_owned(),
            Self::Bpftrace => "bpftrace".to_owned(),
            Self::BpftraceByProcess => "bpftrace-by-process".to_owned(),
            Self::Empty => "empty".to_owned(),
            Self::Enforced(leases) => format!("enforced-{leases}"),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Tells one figure. Its reader is `xtask/src/bench/measured.rs`.
pub fn figure(name: &str, by: By, value: f64) {
    println!("@@ figure {name} {} {value}", by.word());
}

/// Says what is measured next.
pub fn phase(name: &str) {
    println!("@@ phase {name}");
}
