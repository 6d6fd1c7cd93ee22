//! A real NFS server of this very machine, and its client: the stock tools, one export on xfs with
//! pNFS, mounted over the loopback interface.

use std::fs;
use std::path::{Path, PathBuf};

use super::mounts::{Filesystem, LoopMount, umount};
use super::rxe::run;
use super::scratch::unused_directory;

const CONTROL: &str = "/proc/fs/nfsd";

/// A running server and a mount of what it exports; both gone with the value.
pub struct Nfs {
    export: LoopMount,
    mounted: PathBuf,
}

impl Nfs {
    pub fn start() -> Self {
        for module in ["nfsd", "nfs", "blocklayoutdriver"] {
            run("modprobe", &[module]);
        }
        run("ip", &["link", "set", "lo", "up"]);
        if !Path::new(CONTROL).join("threads").exists() {
            run("mount", &["-t", "nfsd", "nfsd", CONTROL]);
            run("rpc.mountd", &["-N", "3"]);
        }
        let export = LoopMount::new(Filesystem::Xfs);
        let options = "rw,fsid=0,no_root_squash,insecure,pnfs";
        let exported = format!("*:{}", export.directory().display());
        run("exportfs", &["-i", "-o", options, &exported]);
        // A client that does not answer is given up after these seconds.
        for setting in ["nfsv4gracetime", "nfsv4leasetime"] {
            control(setting, "10");
        }
        run("rpc.nfsd", &["-N", "3", "-U", "2"]);
        // Where that is refused (EBUSY on 7.3), clients wait until it ends by itself.
        _ = fs::write(Path::new(CONTROL).join("v4_end_grace"), "Y");
        let mounted = unused_directory();
        let nfs = Self { export, mounted };
        nfs.mount();
        nfs
    }

    pub fn mount(&self) {
        let directory = self.mounted.to_str().expect("ASCII");
        run(
            "mount",
            &["-t", "nfs4", "-o", "vers=4.1", "127.0.0.1:/", directory],
        );
    }

    /// Unmounts it: the client gives back all it has of the server's.
    pub fn unmount(&self) {
        run("umount", &[self.mounted.to_str().expect("ASCII")]);
    }

    /// The path of an exported file where it is.
    pub fn here(&self, name: &str) -> String {
        self.export.file(name)
    }

    /// The path of the same file over NFS.
    pub fn there(&self, name: &str) -> String {
        self.mounted.join(name).to_str().expect("ASCII").to_owned()
    }

    /// How many threads the server has.
    pub fn threads() -> u32 {
        let threads = fs::read_to_string(Path::new(CONTROL).join("threads"));
        let threads = threads.expect("nfsd is loaded");
        threads.trim().parse().expect("a number")
    }
}

fn control(name: &str, value: &str) {
    let path = Path::new(CONTROL).join(name);
    fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

impl Drop for Nfs {
    fn drop(&mut self) {
        umount(&self.mounted);
        let _ = fs::remove_dir(&self.mounted);
        let _ = fs::write(Path::new(CONTROL).join("threads"), "0");
        run("exportfs", &["-ua"]);
    }
}
