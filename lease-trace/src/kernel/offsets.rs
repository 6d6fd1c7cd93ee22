//! Fills [`Config`] from BTF. A required field that is missing is an error that names it.

use lease_trace_common::{
    config::{Config, FOLIO_MAPPING, PAGE_HEAD, PAGE_SIZE, PREEMPT_COUNT_IN},
    offsets::{ABSENT, Name, Offsets, Source},
};

use super::btf::{Btf, Error};

/// What this kernel's BTF says.
pub fn look_up(btf: &Btf, source: Source) -> Result<u32, Error> {
    match source {
        Source::Field(names) => any(btf, names),
        Source::IfAny(names) => Ok(any(btf, names).unwrap_or(ABSENT)),
        Source::Size(of) => btf.size_of(of),
        Source::Enumerator((of, name)) => {
            let value = btf.enumerator(name);
            value
                .map(|value| value as u32)
                .ok_or_else(|| Error::NoType(format!("{of} ({name})")))
        }
    }
}

/// The first of several fields that exists.
fn any(btf: &Btf, names: &[Name]) -> Result<u32, Error> {
    let mut first = None;
    for (of, path) in names {
        match btf.offset(of, path) {
            Ok(offset) => return Ok(offset),
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    Err(first.unwrap_or(Error::Malformed("no name to look for")))
}

/// Everything the programs need to know about this kernel's structures.
pub fn config(btf: &Btf) -> Result<Config, Error> {
    let offsets = Offsets::find(|source| look_up(btf, source))?;
    let page = (offsets.page_head, offsets.folio_mapping, offsets.page_size);
    let is_known = page == (PAGE_HEAD, FOLIO_MAPPING, PAGE_SIZE);
    let words = words(btf);
    Ok(Config {
        offsets,
        foll_longterm: foll_longterm(btf),
        file_ref: u32::from(btf.offset("file", "f_ref").is_ok()),
        words,
        pages: if is_known { words } else { 0 },
        plain: u32::from(is_known),
        preempt_count: preempt_count(btf).map_or(ABSENT, |(_, offset)| offset),
        ..Config::default()
    })
}

/// BTF id of the variable that has a processor's `preempt_count`, and its offset in bytes there.
pub fn preempt_count(btf: &Btf) -> Option<(u32, u32)> {
    PREEMPT_COUNT_IN.iter().find_map(|(variable, member)| {
        let offset = match member {
            Some(member) => btf.offset(variable, member).ok()?,
            None => 0,
        };
        Some((btf.variable_id(variable)?, offset))
    })
}

/// See [`Config::words`].
fn words(btf: &Btf) -> u32 {
    /// 8,192 processors, and enough for what is read.
    const BYTES: u32 = 1024;
    let is_large = btf.size_of("cpumask").is_ok_and(|size| size >= BYTES);
    let id = btf.structure("cpumask").filter(|_| is_large);
    id.filter(|_| btf.has_function("bpf_rdonly_cast"))
        .unwrap_or(0)
}

/// `FOLL_LONGTERM` is an enumerator since 6.3; before, it was a macro with this value
/// (include/linux/mm.h of 6.1) and so not in BTF.
fn foll_longterm(btf: &Btf) -> u32 {
    const MACRO: u32 = 0x10000;
    btf.enumerator("FOLL_LONGTERM")
        .map_or(MACRO, |value| value as u32)
}
