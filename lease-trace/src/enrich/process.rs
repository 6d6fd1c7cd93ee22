//! Processes, as /proc shows them now.

use std::{fs, path::PathBuf};

use crate::kernel::limits;

/// `/proc/PID/NAME` of a process that the kernel's records name. In another pid namespace than the
/// first its pid is another process's there: a file that does not exist.
pub fn file(pid: u32, name: &str) -> PathBuf {
    let pid = if limits::sees_all_processes() { pid } else { 0 };
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

/// The thread group that a task belongs to, by the numbers of this process's pid namespace; `None` if
/// there is no such task.
pub fn thread_group(pid: u32) -> Option<u32> {
    number(pid, "Tgid")
}

/// A number that the kernel says of a task of this pid namespace, e.g. `Threads`.
pub fn number(pid: u32, name: &str) -> Option<u32> {
    let own = PathBuf::from(format!("/proc/{pid}/status"));
    field(&read(own)?, name)?.parse().ok()
}

/// The name of a process; `None` if it is gone.
pub fn comm(pid: u32) -> Option<String> {
    let mut bytes = fs::read(file(pid, "comm")).ok()?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The user who owns a process.
pub fn uid(pid: u32) -> Option<u32> {
    let status = status(pid)?;
    let ids = field(&status, "Uid")?;
    ids.split_whitespace().next()?.parse().ok()
}

/// The group by which a process is judged (`Gid`, effective).
pub fn gid(pid: u32) -> Option<u32> {
    let status = status(pid)?;
    let ids = field(&status, "Gid")?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// All the memory that a process has pinned, for whatever it is.
pub fn pinned_bytes(pid: u32) -> Option<u64> {
    parse_kib(field(&status(pid)?, "VmPin")?)
}

fn status(pid: u32) -> Option<String> {
    read(file(pid, "status"))
}

fn read(file: PathBuf) -> Option<String> {
    let bytes = fs::read(file).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim())
    })
}

fn parse_kib(value: &str) -> Option<u64> {
    let kib: u64 = value.strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_field() {
        let status = "Name:\tVmPin:\nTgid:\t812\nVmPin:\t    1028 kB\n";
        assert_eq!(field(status, "Tgid"), Some("812"));
        assert_eq!(field(status, "VmPin").and_then(parse_kib), Some(1028 << 10));
        assert_eq!(field(status, "VmLck"), None);
    }

    #[test]
    fn this_process_is_found() {
        let me = std::process::id();
        assert_eq!(thread_group(me), Some(me));
        assert_eq!(number(me, "Pid"), Some(me));
        // By its own number, it is nobody that a record names from a container.
        let named = limits::sees_all_processes();
        assert_eq!(comm(me).is_some_and(|name| !name.ends_with('\n')), named);
        assert_eq!(uid(me).is_some(), named);
    }
}
