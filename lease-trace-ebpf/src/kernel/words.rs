//! Memory read word by word, one instruction each, where the kernel casts an address to a pointer that
//! the verifier takes: a helper for each word costs sixty.

use lease_trace_common::config::CAST;

use super::probe::value;
use crate::bpf::config::{CONFIG, constant};

/// Words from an address on; what cannot be read is zero.
#[derive(Clone, Copy)]
pub struct Words(u64);

impl Words {
    /// `None` where the kernel has no such cast.
    #[inline(always)]
    pub fn at(address: u64) -> Option<Self> {
        Self::cast(address, constant(&CONFIG.words))
    }

    /// The same; `None`, too, where `struct page` is not as it is known.
    #[inline(always)]
    pub fn of_pages(first: u64) -> Option<Self> {
        Self::cast(first, constant(&CONFIG.pages))
    }

    #[inline(always)]
    fn cast(address: u64, id: u32) -> Option<Self> {
        if id == 0 {
            return None;
        }
        // SAFETY: a call instruction with this number, which the loader makes a call of
        // `void *bpf_rdonly_cast(const void *obj, u32 btf_id)`; it changes nothing.
        let cast: unsafe extern "C" fn(u64, u32) -> u64 =
            unsafe { core::mem::transmute(CAST as usize) };
        // SAFETY: as above.
        Some(Self(unsafe { cast(address, id) }))
    }

    /// The first, or what it begins with.
    #[inline(always)]
    fn first<T: Copy>(self) -> T {
        // SAFETY: as in `word`.
        unsafe { core::ptr::read_volatile(self.0 as *const T) }
    }

    /// One of the first 128, by a constant number.
    #[inline(always)]
    pub fn word(self, n: usize) -> u64 {
        // SAFETY: the verifier takes this for a field of `struct cpumask`, and the kernel reads zero
        // where the address is bad.
        unsafe { core::ptr::read_volatile((self.0 as *const u64).add(n)) }
    }
}

/// A word, or a part of one.
pub trait Word: Copy {
    /// What is at this address; zero if it cannot be read.
    fn read(address: u64) -> Self;
}

/// Reads are functions of their own for the verifier: checked once, not once for each read.
macro_rules! read {
    ($type:ident, $function:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $function(address: u64) -> u64 {
            let read: $type = match Words::at(address) {
                Some(words) => words.first(),
                None => value(address).unwrap_or(0),
            };
            read as u64
        }

        impl Word for $type {
            #[inline(always)]
            fn read(address: u64) -> Self {
                $function(address) as Self
            }
        }
    };
}

read!(u8, read_byte);
read!(u16, read_short);
read!(u32, read_half);
read!(u64, read_word);

impl Word for i64 {
    #[inline(always)]
    fn read(address: u64) -> Self {
        u64::read(address) as Self
    }
}
