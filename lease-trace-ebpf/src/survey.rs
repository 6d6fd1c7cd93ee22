//! What there is, held against what the hooks have counted.

use aya_ebpf::helpers::generated::bpf_seq_write;

use crate::kernel::MapElement;

pub mod calls;
pub mod leases;
pub mod proof;

/// A byte is written after so many entries, so that whoever reads byte by byte gets on in steps that are short beside
/// the ten milliseconds of a look (proofs.rs).
const STEP: u64 = 64;

/// Lets whoever reads get on.
#[inline(always)]
fn step(ctx: *const MapElement) {
    let (seq, number) = MapElement::reader(ctx);
    if number % STEP == STEP - 1 {
        let byte = 0_u8;
        // SAFETY: `seq` is the iterator's own sequence file; the byte is a local.
        unsafe { bpf_seq_write(seq.cast(), (&raw const byte).cast_mut().cast(), 1) };
    }
}
