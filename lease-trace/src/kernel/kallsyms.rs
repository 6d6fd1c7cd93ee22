//! Addresses of the kernel's data by name, from /proc/kallsyms. Functions by address are another matter, see
//! `enrich::symbols`.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
};

/// The addresses of these symbols, in the order asked for; 0 for what there is not, be it that its module is not
/// loaded. Of several with one name the first counts.
///
/// # Errors
/// The file cannot be read, or shows no addresses (`PermissionDenied`).
pub fn addresses<const N: usize>(names: [&str; N]) -> io::Result<[u64; N]> {
    find(BufReader::new(File::open("/proc/kallsyms")?), names)
}

fn find<const N: usize>(mut kallsyms: impl BufRead, names: [&str; N]) -> io::Result<[u64; N]> {
    let wanted: HashMap<&str, usize> = names.into_iter().zip(0..).collect();
    let mut found = [0; N];
    let (mut line, mut shows_any) = (String::new(), false);
    while kallsyms.read_line(&mut line)? > 0 {
        let mut words = line.split_ascii_whitespace();
        if let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next()) {
            let address = u64::from_str_radix(address, 16).unwrap_or(0);
            shows_any |= address != 0;
            if let Some(&at) = wanted.get(name)
                && found[at] == 0
            {
                found[at] = address;
            }
        }
        line.clear();
    }
    if shows_any {
        Ok(found)
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "ffffffff82000000 R io_uring_fops\nffffffffc0000010 d ops\t[udmabuf]\n\
                        ffffffffc0000020 d ops\t[other]\n";

    #[test]
    fn names_have_addresses_modules_among_them() {
        let found = find(TEXT.as_bytes(), ["ops", "none", "io_uring_fops"]).expect("readable");
        assert_eq!(found, [0xffff_ffff_c000_0010, 0, 0xffff_ffff_8200_0000]);
    }

    #[test]
    fn hidden_addresses_are_said_to_be_so() {
        let hidden = "0000000000000000 R io_uring_fops\n";
        let error = find(hidden.as_bytes(), ["io_uring_fops"]).expect_err("hidden");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
