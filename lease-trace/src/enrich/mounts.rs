//! Mounts, as /proc/PID/mountinfo has them.

use std::{ffi::CString, fs::File, io, os::fd::AsRawFd as _};

use crate::record::Dev;

/// The mount that an open file is on. `st_dev` would not do: btrfs makes one up for each subvolume.
pub fn id(file: &File) -> io::Result<u64> {
    let empty = CString::default();
    // SAFETY: statx is plain data, for which zero is a value; the path is a C string, and the
    // kernel writes at most one statx.
    let stat = unsafe {
        let mut stat: libc::statx = std::mem::zeroed();
        let done = libc::statx(
            file.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_MNT_ID,
            &raw mut stat,
        );
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        stat
    };
    Ok(stat.stx_mnt_id)
}

/// Device, as `super_block.s_dev` has it, and type of a mount:
/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
pub fn of(mountinfo: &str, id: u64) -> Option<(u32, String)> {
    let line = mountinfo.lines().find(|line| {
        let first = line.split(' ').next();
        first.and_then(|first| first.parse().ok()) == Some(id)
    })?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    let fs = line.split_once(" - ")?.1.split(' ').next()?;
    Some((Dev::new(major, minor).0, fs.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_has_a_device_and_a_type() {
        let mounts = "\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
36 22 0:28 /sub /srv/my\\040data rw master:1 propagate_from:2 - btrfs /dev/vdb rw,subvol=/sub
";
        assert_eq!(of(mounts, 22), Some((254 << 20 | 1, "ext4".to_owned())));
        assert_eq!(of(mounts, 36), Some((28, "btrfs".to_owned())));
        assert_eq!(of(mounts, 2), None);
    }
}
