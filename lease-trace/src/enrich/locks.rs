//! /proc/locks: the kernel's own list of leases, to check ours against.

use crate::record::Dev;

/// One lease in force, as /proc/locks has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockLine {
    pub delegation: bool,
    /// Somebody wants it broken.
    pub breaking: bool,
    pub write: bool,
    pub pid: u32,
    pub dev: Dev,
    pub ino: u64,
}

/// The leases in force; the error is that of reading the file.
pub fn leases() -> std::io::Result<Vec<LockLine>> {
    let text = std::fs::read_to_string("/proc/locks")?;
    Ok(text.lines().filter_map(parse).collect())
}

/// `1: LEASE  ACTIVE    WRITE 4711 00:1f:12345 0 EOF` (fs/locks.c, `lock_get_status`). Lines
/// about other locks, and those of whoever waits for a lease to break, are none of ours.
fn parse(line: &str) -> Option<LockLine> {
    let mut words = line.split_whitespace().skip(1);
    let delegation = match words.next()? {
        "LEASE" => false,
        "DELEG" => true,
        _ => return None,
    };
    let breaking = match words.next()? {
        "BREAKER" => return None,
        state => state == "BREAKING",
    };
    let write = words.next()? == "WRITE";
    let pid = words.next()?.parse().ok()?;
    let mut file = words.next()?.split(':');
    let major = u32::from_str_radix(file.next()?, 16).ok()?;
    let minor = u32::from_str_radix(file.next()?, 16).ok()?;
    Some(LockLine {
        delegation,
        breaking,
        write,
        pid,
        dev: Dev::new(major, minor),
        ino: file.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_read_and_other_locks_are_not() {
        let text = "\
1: POSIX  ADVISORY  WRITE 811 08:01:131090 0 EOF
2: LEASE  ACTIVE    WRITE 4711 00:1f:12345 0 EOF
3: LEASE  BREAKING  UNLCK 4712 fd:03:99 0 EOF
3: -> LEASE  BREAKER   READ 4713 fd:03:99 0 EOF
4: DELEG  ACTIVE    READ 4714 103:00005:7 0 EOF
5: FLOCK  ADVISORY  WRITE 900 00:1a:1 0 EOF";
        let found: Vec<_> = text.lines().filter_map(parse).collect();
        let pids: Vec<_> = found.iter().map(|lease| lease.pid).collect();
        assert_eq!(pids, [4711, 4712, 4714]);
        assert_eq!(
            found[0],
            LockLine {
                delegation: false,
                breaking: false,
                write: true,
                pid: 4711,
                dev: Dev::new(0, 31),
                ino: 12345
            }
        );
        assert!(found[1].breaking);
        assert!(found[2].delegation && !found[2].write);
        assert_eq!(found[2].dev.to_string(), "259:5");
    }
}
