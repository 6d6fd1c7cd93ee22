//! Watched functions of which the compiler has made more than one: `NAME.part.0`, `NAME.constprop.0`
//! or `NAME.isra.0` is called without passing the hook on `NAME`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
};

use super::points::POINTS;

const KALLSYMS: &str = "/proc/kallsyms";
/// What GCC and Clang append to the names of such copies. `.cold` is no copy: the rest of a function
/// jumps to it.
const ENDINGS: [&str; 4] = ["part.", "constprop.", "isra.", "specialized."];

/// What may be lost by copies of watched functions, one sentence for each function that has some.
/// Nothing where kallsyms cannot be read: that is said elsewhere.
pub fn find() -> Vec<String> {
    let found =
        File::open(KALLSYMS).and_then(|file| among(BufReader::with_capacity(1 << 16, file)));
    found.unwrap_or_else(|error| {
        log::debug!("{KALLSYMS}: {error}");
        Vec::new()
    })
}

fn among(mut kallsyms: impl BufRead) -> io::Result<Vec<String>> {
    let mut clones: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut line = Vec::new();
    while {
        line.clear();
        kallsyms.read_until(b'\n', &mut line)? > 0
    } {
        if let Some((function, name)) = clone(&line) {
            clones.entry(function).or_default().push(name);
        }
    }
    Ok(clones
        .into_iter()
        .filter_map(|(function, names)| {
            let point = POINTS.iter().find(|point| point.function == function)?;
            Some(format!(
                "some calls of {function} may be missed, as the compiler has made {} of it: {}",
                names.join(", "),
                point.loss
            ))
        })
        .collect())
}

/// `ffffffff812f0a00 t lease_modify.part.0` is one of `lease_modify`.
fn clone(line: &[u8]) -> Option<(&'static str, String)> {
    // Few names have a dot; all others are done with here.
    let dot = line.iter().position(|byte| *byte == b'.')?;
    let line = std::str::from_utf8(line).ok()?;
    let name = line.split_ascii_whitespace().nth(2)?;
    let start = line[..dot].rsplit(' ').next()?;
    let point = POINTS.iter().find(|point| point.function == start)?;
    let endings = &name[start.len() + 1..];
    let is_rest = endings.rsplit('.').next() == Some("cold");
    let is_copy = ENDINGS
        .iter()
        .any(|ending| endings.starts_with(ending) || endings.contains(&format!(".{ending}")));
    (is_copy && !is_rest).then(|| (point.function, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_watched_functions_are_found() {
        let kallsyms = "\
ffffffff81000000 T lease_modify
ffffffff81000100 t lease_modify.cold
ffffffff81000200 t lease_modify.part.0
ffffffff81000300 t lease_modify.constprop.0.isra.0
ffffffff81000400 t unpin_user_pages.isra.0.cold
ffffffff81000500 t lease_modify_not.part.0
ffffffff81000600 t some.part.0
ffffffff81000700 t __key.12
ffffffffc0a80000 t rxe_mr.part.0\t[rdma_rxe]
";
        let found = among(kallsyms.as_bytes()).expect("text in memory");
        assert_eq!(
            found,
            [
                "some calls of lease_modify may be missed, as the compiler has made \
                 lease_modify.part.0, lease_modify.constprop.0.isra.0 of it: the end of a lease \
                 is not seen"
            ]
        );
    }
}
