//! The archives that a guest starts from: one with busybox and modules, made once per kernel and
//! kept, and one with what this very guest is to run, put behind it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType};

use super::{
    kernels::Kernel,
    modules::{self, Modules},
};
use crate::{cache, progress::step, sh::Run as _};

/// Loaded at once, in every guest: the channels to the host.
const CHANNELS: &[&str] = &["virtio_pci", "virtio_console"];
/// Loaded at once where the root is a disk.
const DISKS: &[&str] = &["virtio_blk", "ext4"];
/// Loaded before the disk's file system, where the kernel has it as a module.
const CHECKSUMS: &[&str] = &["crc32c_generic", "crc32c_cryptoapi"];
/// At hand for modprobe and for the kernel's own requests where there is no disk.
const AT_HAND: &[&str] = &[
    "af_packet",
    "binfmt_misc",
    "blake2b_generic",
    "brd",
    "bridge",
    "btrfs",
    "crc32c_intel",
    "dummy",
    "ext4",
    "f2fs",
    "fuse",
    "ib_umad",
    "ib_uverbs",
    "inet_diag",
    "iommufd",
    "loop",
    "nd_pmem",
    "nfs",
    "nfsd",
    "nfsv4",
    "null_blk",
    "overlay",
    "rdma_cm",
    "rdma_rxe",
    "rdma_ucm",
    "sha256_generic",
    "squashfs",
    "tcp_diag",
    "tun",
    "udmabuf",
    "unix_diag",
    "veth",
    "vfio_iommu_type1",
    "vfio_pci",
    "virtio_net",
    "virtio_pmem",
    "xfs",
    "xsk_diag",
    "xxhash_generic",
];
/// Raised when the layout of the kept archive changes.
const LAYOUT: &str = "2";

/// An archive being written, in the format the kernel unpacks.
pub struct Archive {
    out: BufWriter<File>,
    directories: BTreeSet<PathBuf>,
    inode: u32,
}

impl Archive {
    /// Begins an archive, behind what the file holds already.
    pub fn begin(path: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("opening {}", path.display()))?;
        Ok(Self {
            out: BufWriter::new(file),
            directories: BTreeSet::new(),
            inode: 0,
        })
    }

    fn entry(&mut self, name: &Path, kind: ModeFileType, mode: u32, data: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let builder = Builder::new(&name.to_string_lossy())
            .ino(self.inode)
            .mode(mode);
        let mut writer = builder
            .set_mode_file_type(kind)
            .write(&mut self.out, data.len() as u32);
        writer.write_all(data)?;
        writer.finish()?;
        Ok(())
    }

    pub fn directory(&mut self, name: &Path) -> io::Result<()> {
        if name.as_os_str().is_empty() || self.directories.contains(name) {
            return Ok(());
        }
        if let Some(parent) = name.parent() {
            self.directory(parent)?;
        }
        self.directories.insert(name.to_owned());
        self.entry(name, ModeFileType::Directory, 0o755, &[])
    }

    /// Adds a file, executable by everybody, and the directories it lies in.
    pub fn data(&mut self, name: impl AsRef<Path>, data: &[u8]) -> Result<()> {
        let name = name.as_ref();
        name.parent()
            .map_or(Ok(()), |parent| self.directory(parent))
            .and_then(|()| self.entry(name, ModeFileType::Regular, 0o755, data))
            .with_context(|| format!("adding {} to an initramfs", name.display()))
    }

    pub fn file(&mut self, name: impl AsRef<Path>, source: &Path) -> Result<()> {
        let data = fs::read(source).with_context(|| format!("reading {}", source.display()))?;
        self.data(name, &data)
    }

    fn link(&mut self, name: impl AsRef<Path>, target: &str) -> Result<()> {
        let name = name.as_ref();
        self.entry(name, ModeFileType::Symlink, 0o777, target.as_bytes())
            .with_context(|| format!("adding {} to an initramfs", name.display()))
    }

    pub fn finish(self) -> Result<()> {
        let mut out = cpio::newc::trailer(self.out).context("ending an initramfs")?;
        // Archives that follow must begin at a multiple of four.
        out.write_all(&[0; 512])
            .and_then(|()| out.flush())
            .context("writing an initramfs")
    }
}

/// The archive with busybox and modules, for guests with or without a disk.
pub fn base(kernel: &Kernel, disk: bool) -> Result<PathBuf> {
    let busybox = busybox()?;
    let about = fs::metadata(&busybox).context("looking at busybox")?;
    let build = format!("{} {}", about.len(), about.mtime());
    let words = [LAYOUT, if disk { "disk" } else { "" }, &build];
    let key = cache::key(words.into_iter().chain(AT_HAND.iter().copied()));
    let path = kernel.home.join(format!("initramfs-{key}.cpio"));
    let _lock = cache::lock(&format!("initramfs-{}", kernel.release))?;
    if !path.exists() {
        step(
            &format!("packing busybox and the modules of {}", kernel.release),
            || {
                let scratch = cache::scratch()?;
                let new = scratch.path().join("new.cpio");
                let mut archive = Archive::begin(&new)?;
                add_busybox(&mut archive, &busybox)?;
                add_modules(&mut archive, kernel, disk, scratch.path())?;
                archive.finish()?;
                fs::rename(&new, &path).with_context(|| format!("creating {}", path.display()))
            },
        )?;
    }
    Ok(path)
}

fn busybox() -> Result<PathBuf> {
    ["/usr/bin/busybox", "/bin/busybox"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .context("finding busybox: install the package busybox-static")
}

fn add_busybox(archive: &mut Archive, busybox: &Path) -> Result<()> {
    for directory in [
        "dev",
        "etc",
        "mnt",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/local/bin",
        "var",
    ] {
        archive
            .directory(Path::new(directory))
            .context("adding directories to an initramfs")?;
    }
    archive.data(
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    archive.data("etc/group", b"root:x:0:\nnogroup:x:65534:\n")?;
    archive.file("bin/busybox", busybox)?;
    for (name, target) in [
        ("sbin", "bin"),
        ("usr/bin", "../bin"),
        ("usr/sbin", "../bin"),
    ] {
        archive.link(name, target)?;
    }
    let applets = Command::new(busybox).arg("--list").read()?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        archive.link(Path::new("bin").join(applet), "busybox")?;
    }
    Ok(())
}

fn add_modules(archive: &mut Archive, kernel: &Kernel, disk: bool, scratch: &Path) -> Result<()> {
    let all = Modules::read(&kernel.modules)?;
    let mut boot = all.in_order(CHANNELS, true)?;
    if disk {
        boot.extend(all.in_order(CHECKSUMS, false)?);
        boot.extend(all.in_order(DISKS, true)?);
    }
    let mut files = boot.clone();
    files.extend(if disk {
        Vec::new()
    } else {
        all.in_order(AT_HAND, false)?
    });
    for list in [&mut boot, &mut files] {
        let mut seen = BTreeSet::new();
        list.retain(|file| seen.insert(file.clone()));
    }

    let home = Path::new("lib/modules").join(&kernel.release);
    let plain = unpack(kernel, &files, scratch)?;
    for (file, source) in files.iter().zip(&plain) {
        archive.file(home.join(modules::unpacked(file)), source)?;
    }
    let list: String = boot
        .iter()
        .flat_map(|file| ["/", modules::unpacked(file), "\n"])
        .collect();
    archive.data("etc/boot-modules", list.as_bytes())?;
    archive.data(
        home.join("modules.dep"),
        modules::dep(&all, &files).as_bytes(),
    )?;
    let alias = fs::read_to_string(kernel.modules.join("modules.alias")).unwrap_or_default();
    archive.data(
        home.join("modules.alias"),
        modules::aliases(&alias, &files).as_bytes(),
    )?;
    for name in ["modules.builtin", "config"] {
        let text = fs::read(kernel.modules.join(name)).unwrap_or_default();
        archive.data(home.join(name), &text)?;
    }
    Ok(())
}

/// The modules' files without compression, in the order given.
fn unpack(kernel: &Kernel, files: &[String], scratch: &Path) -> Result<Vec<PathBuf>> {
    let mut plain = Vec::new();
    let mut packed: Vec<(&str, PathBuf)> = Vec::new();
    for file in files {
        let source = kernel.modules.join(file);
        let Some(tool) = modules::packer(file) else {
            plain.push(source);
            continue;
        };
        let copy = scratch.join(source.file_name().unwrap_or_default());
        fs::copy(&source, &copy).with_context(|| format!("copying {}", source.display()))?;
        plain.push(PathBuf::from(modules::unpacked(&copy.to_string_lossy())));
        packed.push((tool, copy));
    }
    for tool in ["xz", "zstd"] {
        let mine: Vec<_> = packed
            .iter()
            .filter(|(of, _)| *of == tool)
            .map(|(_, file)| file)
            .collect();
        if !mine.is_empty() {
            Command::new(tool).args(["-q", "-d"]).args(mine).quiet()?;
        }
    }
    Ok(plain)
}
