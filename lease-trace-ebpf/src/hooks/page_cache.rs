//! Folios that leave the page cache, and inodes that are destroyed (mm/filemap.c, fs/inode.c).

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::{
    kernel::args::Registers as _,
    kernel::{Folio, InodePtr},
    track::page_cache,
};

on_entry!(
    /// `void __filemap_remove_folio(struct folio *folio, void *shadow)` (mm/filemap.c)
    "__filemap_remove_folio",
    filemap_remove_folio_enter, filemap_remove_folio_probe,
    |ctx| page_cache::detach(Folio(ctx.parameter(0)))
);

on_entry!(
    /// `void delete_from_page_cache_batch(struct address_space *mapping,
    /// struct folio_batch *fbatch)` (mm/filemap.c)
    "delete_from_page_cache_batch",
    delete_from_page_cache_batch_enter, delete_from_page_cache_batch_probe,
    |ctx| page_cache::detach_batch(ctx.parameter(1))
);

on_entry!(
    /// `void __destroy_inode(struct inode *inode)` (fs/inode.c)
    "__destroy_inode",
    destroy_inode_enter, destroy_inode_probe,
    |ctx| page_cache::evict(InodePtr(ctx.parameter(0)))
);
