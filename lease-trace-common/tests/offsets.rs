//! The table of what is looked up in BTF.

use std::{cell::RefCell, convert::Infallible};

use lease_trace_common::offsets::{Name, Offsets, Source};

/// Everything that is looked up.
fn sources() -> Vec<Source> {
    let all = RefCell::new(Vec::new());
    let found = Offsets::find(|source| {
        all.borrow_mut().push(source);
        Ok::<_, Infallible>(0)
    });
    assert_eq!(found, Ok(Offsets::default()));
    all.into_inner()
}

#[test]
fn no_field_is_named_twice() {
    let mut names: Vec<Name> = Vec::new();
    for source in sources() {
        names.extend(match source {
            Source::Field(names) | Source::IfAny(names) => names.to_vec(),
            Source::Size(of) => vec![(of, "")],
            Source::Enumerator(name) => vec![name],
        });
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn a_source_is_what_btf_calls_it() {
    let all = sources();
    for source in [
        Source::Field(&[("file", "f_ref.refcnt"), ("file", "f_count")]),
        Source::Field(&[("file_lease", "c.flc_list"), ("file_lock", "fl_list")]),
        Source::IfAny(&[("mm_struct", "owner")]),
        Source::Size("page"),
        Source::Enumerator(("pageflags", "PG_head")),
    ] {
        assert!(all.contains(&source), "{source:?}");
    }
}
