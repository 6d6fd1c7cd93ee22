//! Mounts: file systems on loop devices, the same file under a second path.

use std::ffi::{CString, c_ulong};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{io, ptr};

use super::eventually;
use super::rxe::run;
use super::scratch::{Scratch, c_path, unused_directory};

/// mount(2), or the test is over.
#[track_caller]
pub fn mount(source: &str, target: &Path, kind: &str, flags: c_ulong, options: &str) {
    let error = try_mount(source, target, kind, flags, options).err();
    assert!(
        error.is_none(),
        "mount {source} on {}: {error:?}",
        target.display()
    );
}

/// mount(2)
pub fn try_mount(
    source: &str,
    target: &Path,
    kind: &str,
    flags: c_ulong,
    options: &str,
) -> io::Result<()> {
    let (c_source, c_target) = (CString::new(source)?, c_path(target));
    let (c_kind, c_options) = (CString::new(kind)?, CString::new(options)?);
    // SAFETY: four NUL-terminated strings that outlive the call.
    let returned = unsafe {
        libc::mount(
            c_source.as_ptr(),
            c_target.as_ptr(),
            c_kind.as_ptr(),
            flags,
            c_options.as_ptr().cast(),
        )
    };
    if returned == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes a mount away, also while somebody still has a file on it.
pub fn umount(target: &Path) {
    let target = c_path(target);
    // SAFETY: a NUL-terminated string that outlives the call.
    unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
}

/// A directory seen a second time at another place.
pub struct BindMount {
    directory: PathBuf,
}

impl BindMount {
    pub fn of(source: &Path) -> Self {
        let directory = unused_directory();
        mount(
            source.to_str().expect("ASCII"),
            &directory,
            "none",
            libc::MS_BIND,
            "",
        );
        Self { directory }
    }

    pub fn file(&self, name: &str) -> String {
        self.directory
            .join(name)
            .to_str()
            .expect("ASCII")
            .to_owned()
    }
}

impl Drop for BindMount {
    fn drop(&mut self) {
        umount(&self.directory);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// A file system whose files a device may want to pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    Btrfs,
    Ext4,
    Xfs,
}

/// An overlayfs with its upper directory on a scratch tmpfs.
pub struct Overlay {
    directory: PathBuf,
}

impl Overlay {
    pub fn over(scratch: &Scratch) -> Self {
        run("modprobe", &["overlay"]);
        for part in ["lower", "upper", "work"] {
            fs::create_dir(scratch.file(part)).expect("a directory in the scratch directory");
        }
        let [lower, upper, work] = ["lower", "upper", "work"].map(|part| scratch.file(part));
        let directory = unused_directory();
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        mount("overlay", &directory, "overlay", 0, &options);
        Self { directory }
    }

    pub fn file(&self, name: &str) -> String {
        self.directory
            .join(name)
            .to_str()
            .expect("ASCII")
            .to_owned()
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        umount(&self.directory);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// One on a loop device over a sparse image file.
pub struct LoopMount {
    directory: PathBuf,
    image: PathBuf,
}

impl LoopMount {
    pub fn new(filesystem: Filesystem) -> Self {
        // mkfs.xfs refuses less than 300 MB.
        let (name, mkfs, size) = match filesystem {
            Filesystem::Btrfs => ("btrfs", "mkfs.btrfs", 256 << 20),
            Filesystem::Ext4 => ("ext4", "mkfs.ext4", 64 << 20),
            Filesystem::Xfs => ("xfs", "mkfs.xfs", 320 << 20),
        };
        let directory = unused_directory();
        let image = directory.with_extension("img");
        let sparse = File::create(&image).and_then(|file| file.set_len(size));
        sparse.expect("an image file in the root");
        let image_name = image.to_str().expect("ASCII");
        run(mkfs, &["-q", image_name]);
        // mount(8) does not load the driver of loop devices where nobody answers its hotplug.
        run("modprobe", &["loop"]);
        run(
            "mount",
            &[
                "-t",
                name,
                "-o",
                "loop",
                image_name,
                directory.to_str().expect("ASCII"),
            ],
        );
        Self { directory, image }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn file(&self, name: &str) -> String {
        self.directory
            .join(name)
            .to_str()
            .expect("ASCII")
            .to_owned()
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        umount(&self.directory);
        let _ = fs::remove_dir(&self.directory);
        let _ = fs::remove_file(&self.image);
    }
}

/// An ext4 with DAX on memory that the kernel's command line sets aside (`memmap=`).
pub struct PmemMount {
    directory: PathBuf,
}

impl PmemMount {
    pub fn new() -> Self {
        run("modprobe", &["nd_e820"]);
        run("modprobe", &["nd_pmem"]);
        let device = Path::new("/dev/pmem0");
        assert!(eventually(|| device.exists()), "no {}", device.display());
        // DAX needs blocks as large as pages.
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", "/dev/pmem0"]);
        let directory = unused_directory();
        mount("/dev/pmem0", &directory, "ext4", 0, "dax");
        Self { directory }
    }

    pub fn file(&self, name: &str) -> String {
        self.directory
            .join(name)
            .to_str()
            .expect("ASCII")
            .to_owned()
    }
}

impl Drop for PmemMount {
    fn drop(&mut self) {
        umount(&self.directory);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// An ext4 on a disk in memory that answers within the call.
pub struct MemoryDisk {
    directory: PathBuf,
}

impl MemoryDisk {
    pub fn in_memory() -> Self {
        const DEVICE: &str = "/dev/ram0";
        run("modprobe", &["brd", "rd_nr=1", "rd_size=65536"]);
        assert!(eventually(|| Path::new(DEVICE).exists()), "no {DEVICE}");
        run("mkfs.ext4", &["-q", "-F", DEVICE]);
        let directory = unused_directory();
        mount(DEVICE, &directory, "ext4", 0, "");
        Self { directory }
    }

    pub fn file(&self, name: &str) -> String {
        self.directory
            .join(name)
            .to_str()
            .expect("ASCII")
            .to_owned()
    }
}

impl Drop for MemoryDisk {
    fn drop(&mut self) {
        umount(&self.directory);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// In a mount namespace of its own, hides what is at `target` behind an empty tmpfs, or takes the
/// mount there away. Only system calls: it runs between fork and exec.
pub fn hide(target: &CString, take_away: bool) -> io::Result<()> {
    // SAFETY: takes flags; the new namespace is this process' alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: with MS_PRIVATE only the target is read, a literal.
    let returned = unsafe {
        libc::mount(
            ptr::null(),
            c"/".as_ptr(),
            ptr::null(),
            private,
            ptr::null(),
        )
    };
    check(returned)?;
    if take_away {
        // SAFETY: a NUL-terminated string that the closure owns.
        return check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) });
    }
    // SAFETY: literals, and a NUL-terminated string that the closure owns.
    let returned = unsafe {
        libc::mount(
            c"tmpfs".as_ptr(),
            target.as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            ptr::null(),
        )
    };
    check(returned)
}

fn check(returned: libc::c_int) -> io::Result<()> {
    if returned == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
