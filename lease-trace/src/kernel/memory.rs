//! Blocks of memory that can be taken offline: /sys/devices/system/memory.

use std::{fs, io, ops::Range, path::Path};

/// log2 of the size of a page frame.
const PAGE_SHIFT: u32 = 12;

/// The number of a block, as people type it and the kernel names it.
///
/// # Errors
/// It is neither a number nor `memory` and a number.
pub fn block(typed: &str) -> Result<u64, String> {
    let number = typed.strip_prefix("memory").unwrap_or(typed);
    number
        .parse()
        .map_err(|_| "write the block's number, e.g. 37 or memory37".to_owned())
}

/// The page frames of a block.
///
/// # Errors
/// This kernel has no such blocks (CONFIG_MEMORY_HOTPLUG), or not this one (`NotFound`).
pub fn frames_of(block: u64) -> io::Result<Range<u64>> {
    let directory = Path::new("/sys/devices/system/memory");
    fs::metadata(directory.join(format!("memory{block}")))?;
    let size = fs::read_to_string(directory.join("block_size_bytes"))?;
    let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)? >> PAGE_SHIFT;
    Ok(block * size..(block + 1) * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_typed_with_or_without_its_name() {
        assert_eq!(block("37"), Ok(37));
        assert_eq!(block("memory37"), Ok(37));
        assert!(block("mem37").is_err());
    }
}
