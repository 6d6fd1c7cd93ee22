//! Reads of any kernel memory, and the types of its addresses.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;

pub use super::probe::value;
use super::words::Word;

/// Zero where it cannot be read, as from a null pointer.
#[inline(always)]
pub fn at<T: Word>(base: u64, offset: u32) -> T {
    T::read(base + u64::from(offset))
}

#[inline(always)]
pub fn pointer(base: u64, offset: u32) -> Option<u64> {
    let address = at(base, offset);
    (address != 0).then_some(address)
}

/// `struct page *`, element `index` of an array of them.
#[inline(always)]
pub fn element(array: u64, index: u64) -> Option<u64> {
    pointer(array + index * 8, 0)
}

/// Word `index` of a program's own context, as a number: the verifier would otherwise take it for
/// a typed pointer, which functions of their own do not accept. `None` for zero.
#[inline(always)]
pub fn word(context: u64, index: u64) -> Option<u64> {
    value::<u64>(context + index * 8).filter(|word| *word != 0)
}

/// The address of something in memory of ours, as a number: see [`word`].
#[inline(always)]
pub fn address<T>(of: &T) -> u64 {
    let pointer = core::ptr::from_ref(of) as u64;
    value((&raw const pointer) as u64).unwrap_or(0)
}

/// `len` bytes at `from` as a NUL-terminated text, as far as there is room.
///
/// # Safety
/// `to` is valid to write for `room` bytes.
#[inline(always)]
pub unsafe fn copy_text(to: *mut u8, room: u64, from: u64, len: u64) {
    let size = opaque(if len < room { len + 1 } else { room });
    if size > room {
        return;
    }
    // SAFETY: the caller's; the helper checks the other address.
    unsafe { bpf_probe_read_kernel_str(to.cast(), size as u32, from as *const _) };
}

macro_rules! addresses {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub u64);
    )+};
}

addresses! {
    /// `struct file *`
    File,
    /// `struct inode *`
    InodePtr,
    /// `struct file_lease *` (`struct file_lock *` before 6.9)
    FileLease,
    /// `struct page *`
    Page,
    /// `struct folio *`
    Folio,
    /// `struct dentry *`
    Dentry,
    /// `struct vfsmount *`
    VfsMount,
    /// `struct vm_area_struct *`
    Vma,
    /// `struct task_struct *`
    TaskPtr,
}

/// Hides where a number came from, so that the test behind it is made on the register that is
/// used as an index: the verifier does not connect two copies of a number.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    // SAFETY: reads the local it is given.
    unsafe { core::ptr::read_volatile(&raw const number) }
}
