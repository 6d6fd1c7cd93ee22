//! The open file through which pins live, as a person would name it.
//!
//! The kernel's record has the descriptor and the last component of the name. /proc completes it
//! while the process still has the same file there.

use std::{fs, path::Path};

use lease_trace_common::context::Context;

use super::process;

/// The name of a process's context, e.g. `/dev/infiniband/uverbs0`, `[io_uring]`, `socket:[4711]`;
/// `None` if no file is known.
pub fn name(pid: u32, context: &Context) -> Option<String> {
    complete(&process::file(pid, "fd"), context)
}

fn complete(descriptors: &Path, context: &Context) -> Option<String> {
    if context.mode == 0 {
        return None;
    }
    let end = context.name.iter().position(|byte| *byte == 0);
    let name = &context.name[..end.unwrap_or(context.name.len())];
    let name = if context.is_socket() {
        "socket".to_owned()
    } else {
        String::from_utf8_lossy(name).into_owned()
    };
    let link = fs::read_link(descriptors.join(context.fd.to_string())).ok();
    let target = link.as_deref().filter(|target| {
        if context.is_socket() {
            target
                .as_os_str()
                .as_encoded_bytes()
                .starts_with(b"socket:")
        } else {
            target.is_absolute() && target.file_name().is_some_and(|last| *last == *name)
        }
    });
    Some(target.map_or(name, |target| target.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use lease_trace_common::context::NAME_LEN;

    use super::*;

    const CHAR_DEVICE: u32 = 0o020_600;
    const SOCKET: u32 = 0o140_777;

    fn context(fd: i32, mode: u32, name: &str) -> Context {
        let mut bytes = [0; NAME_LEN];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Context {
            fd,
            mode,
            name: bytes,
        }
    }

    fn named(link: &str, context: &Context) -> Option<String> {
        let root = tempfile::tempdir().expect("a temporary directory");
        symlink(link, root.path().join("5")).expect("links");
        complete(root.path(), context)
    }

    #[test]
    fn a_device_has_its_whole_path_while_it_is_open() {
        let device = context(5, CHAR_DEVICE, "uverbs0");
        let named = |link| named(link, &device);
        let whole = "/dev/infiniband/uverbs0";
        assert_eq!(named(whole).as_deref(), Some(whole));
        assert_eq!(named("/dev/null").as_deref(), Some("uverbs0"), "reused");
    }

    #[test]
    fn what_has_no_path_has_a_name() {
        let ring = context(5, 0o600, "[io_uring]");
        let found = named("anon_inode:[io_uring]", &ring);
        assert_eq!(found.as_deref(), Some("[io_uring]"));
        let socket = context(5, SOCKET, "");
        assert_eq!(
            named("socket:[77]", &socket).as_deref(),
            Some("socket:[77]")
        );
        assert_eq!(named("/dev/null", &socket).as_deref(), Some("socket"));
    }

    #[test]
    fn what_is_not_known_has_none() {
        assert_eq!(named("/dev/null", &Context::NONE), None);
    }
}
