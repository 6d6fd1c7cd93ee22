//! Pages and folios.

use super::{Folio, InodePtr, Page, at, element, pointer};

impl Page {
    /// The folio of this page (include/linux/page-flags.h, `_compound_head`).
    ///
    /// Bit 0 of `compound_head` marks a tail page. The rest is the head's address or, from 7.2
    /// on where `struct page` allows it, a mask to apply to the page's own address; a mask has
    /// all upper bits set, which no address of a page has.
    #[inline(always)]
    pub fn folio(self) -> Option<Folio> {
        let info = at::<u64>(self.0, offset!(page_head))?;
        Some(Folio(if info & 1 == 0 {
            self.0
        } else if info >> 40 == 0xff_ffff {
            self.0 & info
        } else {
            info - 1
        }))
    }

    /// The `n`th page after this one (`memmap` is virtually contiguous on x86-64).
    #[inline(always)]
    pub fn nth(self, n: u64) -> Self {
        Self(self.0 + n * u64::from(offset!(page_size)))
    }
}

/// What backs a folio.
pub enum Backing {
    /// Pages of a file.
    File(InodePtr),
    /// Anonymous or merged memory: not a file.
    Anonymous,
    /// No mapping: the folio left the page cache, or never was in it.
    None,
}

impl Folio {
    #[inline(always)]
    pub fn backing(self) -> Option<Backing> {
        let mapping = at::<u64>(self.0, offset!(folio_mapping))?;
        Some(if mapping == 0 {
            Backing::None
        } else if mapping & 3 != 0 {
            Backing::Anonymous
        } else {
            Backing::File(InodePtr(pointer(mapping, offset!(mapping_host))?))
        })
    }

    /// Pin references on the folio; for a small one an upper bound that a great many ordinary
    /// references could raise (include/linux/mm.h, `folio_maybe_dma_pinned`).
    #[inline(always)]
    pub fn pins(self) -> u64 {
        const GUP_PIN_COUNTING_BIAS: u32 = 1024;
        let flags = at::<u64>(self.0, offset!(folio_flags)).unwrap_or(0);
        if flags >> offset!(folio_head_bit) & 1 != 0 {
            u64::from(at::<u32>(self.0, offset!(folio_pincount)).unwrap_or(0))
        } else {
            let count = at::<u32>(self.0, offset!(folio_refcount)).unwrap_or(0);
            u64::from(count / GUP_PIN_COUNTING_BIAS)
        }
    }
}

/// Folio `index` of a `folio_batch`, and how many it has.
#[inline(always)]
pub fn batch_len(batch: u64) -> u64 {
    u64::from(at::<u8>(batch, offset!(batch_nr)).unwrap_or(0))
}

#[inline(always)]
pub fn batch_folio(batch: u64, index: u64) -> Option<Folio> {
    element(batch + u64::from(offset!(batch_folios)), index).map(Folio)
}
