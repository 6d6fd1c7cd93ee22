//! Where the globals of the programs lie: none that is written while programs run shares a cache line with
//! another. The maps that they are in begin with a page (own_maps.rs).

use lease_trace_common::line;
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind, read::elf::ElfFile64,
};

use super::object::OBJECT;

#[test]
fn no_global_shares_a_cache_line() {
    let object: ElfFile64<'_> = ElfFile64::parse(OBJECT).expect("an object");
    let mut found = Vec::new();
    for section in object.sections() {
        let name = section.name().expect("a name");
        if !name.starts_with(".bss") && !name.starts_with(".data") {
            continue;
        }
        assert!(
            section.align().is_multiple_of(line::BYTES as u64),
            "{name} is aligned to {}",
            section.align()
        );
        let globals = object
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Data)
            .filter(|symbol| symbol.section_index() == Some(section.index()));
        for global in globals {
            let global_name = global.name().expect("a name");
            assert!(
                global.address().is_multiple_of(line::BYTES as u64),
                "{global_name} begins at byte {} of {name}",
                global.address()
            );
            assert!(
                global.size().is_multiple_of(line::BYTES as u64),
                "{global_name} ends in the middle of a cache line"
            );
            found.push(global_name.to_owned());
        }
    }
    for known in ["COUNTS", "HINTS", "LAST", "TOTALS", "ZERO"] {
        assert!(found.iter().any(|name| name == known), "{known}: {found:?}");
    }
}
