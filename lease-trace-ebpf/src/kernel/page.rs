//! Pages and folios.

use lease_trace_common::config::{FOLIO_MAPPING, PAGE_HEAD, PAGE_SIZE};

use super::{
    memory::{Folio, InodePtr, Page, at, element, opaque, pointer, value},
    pointer::{Pointer, Probed},
    words::Words,
};

/// The words of a `struct page` that tell what it belongs to, in one read.
#[derive(Clone, Copy)]
pub struct Head {
    page: u64,
    /// `compound_head`
    info: u64,
    mapping: u64,
}

/// `flags`, `compound_head` and a word, `mapping`: where they lie close to each other, as far as is
/// known everywhere.
const WORDS: usize = 4;

impl Head {
    #[inline(always)]
    pub fn of(page: Page) -> Option<Self> {
        let (head, mapping) = (offset!(page_head), offset!(folio_mapping));
        if head != PAGE_HEAD || mapping != FOLIO_MAPPING {
            return Some(Self {
                page: page.0,
                info: at(page.0, head),
                mapping: at(page.0, mapping),
            });
        }
        let words: [u64; WORDS] = value(page.0)?;
        Some(Self {
            page: page.0,
            info: words[1],
            mapping: words[3],
        })
    }

    /// The page's folio, see [`Page::folio`].
    #[inline(always)]
    pub fn folio(self) -> Folio {
        folio_of(self.page, self.info)
    }

    /// `folio.mapping`, if the page is the first of its folio.
    #[inline(always)]
    pub fn mapping(self) -> Option<u64> {
        if self.info & 1 == 0 {
            Some(self.mapping)
        } else {
            None
        }
    }
}

/// Consecutive pages of which one cast shows all heads: only where `struct page` is as it is known.
#[derive(Clone, Copy)]
pub struct SomePages(Words);

impl SomePages {
    /// 1,024 bytes of them: the size of `struct cpumask` with 8,192 processors, the largest type that is read as
    /// words in one cast (`Config::words`).
    pub const LEN: usize = 16;

    #[inline(always)]
    pub fn at<P: Pointer>(first: P) -> Option<Self> {
        Words::of_pages(first.raw()).map(Self)
    }

    /// `folio.mapping` of the first; `None` if it is not the first of its folio.
    #[inline(always)]
    pub fn of_first(self) -> Option<u64> {
        if self.0.word(1) & 1 == 0 {
            Some(self.mapping(0))
        } else {
            None
        }
    }

    /// The bits in which `folio.mapping` of the first `n` pages, or of all, is not this.
    #[inline(always)]
    fn differ_from(self, mapping: u64, n: u64) -> u64 {
        let mut differ = self.mapping(0) ^ mapping;
        if n >= Self::LEN as u64 {
            for page in 1..Self::LEN {
                differ |= self.mapping(page) ^ mapping;
            }
            return differ;
        }
        // What the verifier learns of the copy is forgotten behind the loop, and all its ends are alike.
        let n = opaque(n);
        for page in 1..Self::LEN {
            if page as u64 >= n {
                break;
            }
            differ |= self.mapping(page) ^ mapping;
        }
        differ
    }

    /// The word of page `n`, a constant, where the first of a folio has `folio.mapping`. The others of a
    /// folio have none of a file's there: a poison, or counters (include/linux/mm_types.h, `struct
    /// folio`); and they come after the first, if that is not before all of these.
    #[inline(always)]
    fn mapping(self, n: usize) -> u64 {
        self.0.word(n * PAGE_WORDS + FOLIO_MAPPING as usize / 8)
    }
}

/// Whether `folio.mapping` of `n` consecutive pages from `first` on, [`SomePages::LEN`] of them at most, is
/// this, or if this is of no file, is of no file.
#[inline(always)]
pub fn are_alike(pages: SomePages, first: impl FnOnce() -> Page, mapping: u64, n: u64) -> bool {
    pages.differ_from(mapping, n) == 0
        || mapping as u32 & NO_FILE != 0 && pages_of_no_file(first().0, n) != 0
}

/// Whether none of `n` consecutive pages, [`SomePages::LEN`] of them at most, is of a file. A global function,
/// verified separately, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pages_of_no_file(first: u64, n: u64) -> i64 {
    let Some(pages) = SomePages::at(Probed(first)) else {
        return 0;
    };
    let mut common = u64::MAX;
    for page in 0..SomePages::LEN {
        if page as u64 >= n {
            break;
        }
        common &= pages.mapping(page);
    }
    i64::from(common as u32 & NO_FILE != 0)
}

/// Words of a `struct page`.
const PAGE_WORDS: usize = PAGE_SIZE as usize / 8;

/// The folio of a page by its `compound_head`.
#[inline(always)]
fn folio_of(page: u64, info: u64) -> Folio {
    Folio(if info & 1 == 0 {
        page
    } else if info >> 40 == 0xff_ffff {
        page & info
    } else {
        info - 1
    })
}

impl Page {
    /// The folio of this page (include/linux/page-flags.h, `_compound_head`).
    ///
    /// Bit 0 of `compound_head` marks a tail page. The rest is the head's address or, from 7.2
    /// on where `struct page` allows it, a mask to apply to the page's own address; a mask has
    /// all upper bits set, which no address of a page has.
    #[inline(always)]
    pub fn folio(self) -> Folio {
        folio_of(self.0, at(self.0, offset!(page_head)))
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

impl Backing {
    /// By `folio.mapping`.
    #[inline(always)]
    pub fn of(mapping: u64) -> Option<Self> {
        Some(if mapping == 0 {
            Self::None
        } else if mapping as u32 & NO_FILE != 0 {
            Self::Anonymous
        } else {
            Self::File(InodePtr(pointer(mapping, offset!(mapping_host))?))
        })
    }
}

/// Bits of `folio.mapping` that mark anonymous or merged memory (include/linux/page-flags.h,
/// `PAGE_MAPPING_FLAGS`).
pub const NO_FILE: u32 = 3;

/// `folio.mapping`, as a pointer, where `struct page` is as it is known.
#[inline(always)]
pub fn mapping<P: Pointer>(folio: P) -> P {
    folio.follow(FOLIO_MAPPING)
}

/// Whether this page is the first of its folio, so that its address is the folio's.
#[inline(always)]
pub fn is_head<P: Pointer>(page: P) -> bool {
    // To the verifier it is a pointer: that of the list in the same place.
    page.follow(offset!(page_head)).low() & 1 == 0
}

impl Folio {
    /// `folio.mapping`.
    #[inline(always)]
    pub fn mapping(self) -> u64 {
        at(self.0, offset!(folio_mapping))
    }

    #[inline(always)]
    pub fn backing(self) -> Option<Backing> {
        Backing::of(self.mapping())
    }

    /// Of several pages.
    #[inline(always)]
    pub fn is_large(self) -> bool {
        at::<u64>(self.0, offset!(folio_flags)) >> offset!(folio_head_bit) & 1 != 0
    }

    /// Pin references on the folio. Those of a small one are in its reference count, so many at a time that 1,023
    /// others are none, and mappings are counted apart (include/linux/mm.h, `folio_maybe_dma_pinned`).
    #[inline(always)]
    pub fn pins(self) -> u64 {
        const GUP_PIN_COUNTING_BIAS: u32 = 1024;
        if self.is_large() {
            u64::from(at::<u32>(self.0, offset!(folio_pincount)))
        } else {
            let (count, mapped) = self.references();
            u64::from(count.saturating_sub(mapped) / GUP_PIN_COUNTING_BIAS)
        }
    }

    /// All references, and those of mappings among them: in one read, since both may change. Where that cannot be,
    /// mappings are not told apart.
    #[inline(always)]
    fn references(self) -> (u32, u32) {
        let (count, mapcount) = (offset!(folio_refcount), offset!(folio_mapcount));
        if count != mapcount + 4 {
            return (at(self.0, count), 0);
        }
        let both = at::<u64>(self.0, mapcount);
        // Mappings are counted from -1 on.
        ((both >> 32) as u32, (both as u32).wrapping_add(1))
    }
}

/// How many folios a `folio_batch` has.
#[inline(always)]
pub fn batch_len(batch: u64) -> u64 {
    u64::from(at::<u8>(batch, offset!(batch_nr)))
}

/// The one at `index` of them.
#[inline(always)]
pub fn batch_folio(batch: u64, index: u64) -> Option<Folio> {
    element(batch + u64::from(offset!(batch_folios)), index).map(Folio)
}

/// What a page of an array belongs to.
pub enum Owner {
    /// The inode at this address.
    Inode(u64),
    /// Anonymous memory.
    Nobody,
    /// It has no mapping.
    Unknown,
    /// It cannot be read.
    Unreadable,
}

/// What page `index` of an array belongs to.
#[inline(always)]
pub fn owner_of(array: u64, index: u64) -> Owner {
    match page_inode(array, index) {
        NOBODY => Owner::Nobody,
        UNKNOWN => Owner::Unknown,
        UNREADABLE => Owner::Unreadable,
        inode => Owner::Inode(inode as u64),
    }
}

/// No addresses.
const NOBODY: i64 = 0;
const UNREADABLE: i64 = 1;
const UNKNOWN: i64 = 2;

/// A global function, verified separately: what it asks is asked once, and not before all that a caller
/// does with the answer.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn page_inode(array: u64, index: u64) -> i64 {
    let Some(page) = element(array, index) else {
        return UNREADABLE;
    };
    match Page(page).folio().backing() {
        Some(Backing::File(inode)) => inode.0 as i64,
        Some(Backing::None) => UNKNOWN,
        Some(Backing::Anonymous) | None => NOBODY,
    }
}
