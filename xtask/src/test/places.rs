//! The userlands that scenarios run in, and the scenarios that belong into each.

use crate::guest::{First, image};

/// A userland that scenarios run in.
#[derive(Debug)]
pub struct Place {
    pub name: &'static str,
    /// Debian with these packages; busybox alone if there are none.
    pub packages: Option<&'static [&'static str]>,
    pub first: First,
    /// Added to the kernel's command line.
    pub cmdline: &'static str,
    /// Its processors.
    pub cpus: u32,
    /// Devices that the machine has besides.
    pub devices: &'static [&'static str],
    /// Whether one run is enough, on the first kernel and with the first way to attach: what its
    /// scenarios are about is not the kernel.
    pub once: bool,
    /// What the names of its scenarios begin with; without any it takes those of no other place.
    pub prefixes: &'static [&'static str],
}

pub const PLACES: [Place; 15] = [
    Place {
        name: "initramfs",
        packages: None,
        first: First::Script,
        // Debian's kernels have the system calls of x32, switched off.
        cmdline: "syscall.x32=y",
        cpus: 2,
        devices: &[],
        once: false,
        prefixes: &[],
    },
    Place {
        name: "debian",
        packages: Some(image::RDMA),
        first: First::Script,
        cmdline: "",
        cpus: 2,
        devices: &[],
        once: false,
        prefixes: &[
            "rdma::",
            "enforce_rdma::",
            "reuse::",
            "run_rdma::",
            "survey_rdma::",
        ],
    },
    Place {
        name: "storage",
        packages: Some(image::STORAGE),
        first: First::Script,
        // A part of the memory as if it kept its contents without power.
        cmdline: "memmap=64M!1536M",
        cpus: 2,
        devices: &[],
        once: false,
        prefixes: &["btrfs::", "dax::", "nfsd::"],
    },
    Place {
        name: "iommu",
        packages: None,
        first: First::Script,
        cmdline: "intel_iommu=on",
        cpus: 2,
        // The same whatever the host's virtualisation makes of interrupts; and a device for a
        // driver to take.
        devices: &["intel-iommu,intremap=off", "edu"],
        once: false,
        prefixes: &["vfio::", "survey_vfio::"],
    },
    Place {
        name: "lockdown",
        packages: None,
        first: First::Script,
        cmdline: "lockdown=confidentiality",
        cpus: 2,
        devices: &[],
        once: false,
        prefixes: &["lockdown::"],
    },
    Place {
        name: "integrity",
        packages: None,
        first: First::Script,
        cmdline: "lockdown=integrity",
        cpus: 2,
        devices: &[],
        once: false,
        prefixes: &["enforce_integrity::"],
    },
    Place {
        name: "no-bpf",
        packages: None,
        first: First::Script,
        // Debian's own list without it.
        cmdline: "lsm=landlock,lockdown,yama,loadpin,safesetid,integrity,apparmor",
        cpus: 2,
        devices: &[],
        once: false,
        prefixes: &["enforce_without_lsm::"],
    },
    Place {
        name: "storm",
        packages: None,
        first: First::Script,
        cmdline: "",
        // What two do at once may differ from what four do.
        cpus: 4,
        devices: &[],
        once: false,
        prefixes: &["storm::"],
    },
    Place {
        name: "preempt",
        packages: None,
        first: First::Script,
        cmdline: "preempt=full",
        cpus: 2,
        devices: &[],
        once: false,
        prefixes: &["preemption::"],
    },
    Place {
        name: "systemd",
        packages: Some(&["systemd"]),
        first: First::Systemd,
        cmdline: "",
        cpus: 2,
        devices: &[],
        once: false,
        prefixes: &["service::"],
    },
    Place {
        name: "first",
        packages: None,
        first: First::Client,
        cmdline: "",
        cpus: 2,
        devices: &[],
        once: false,
        prefixes: &["enforce_first::"],
    },
    Place {
        name: "package",
        packages: Some(&["systemd"]),
        first: First::Systemd,
        cmdline: "",
        cpus: 2,
        devices: &[],
        once: true,
        prefixes: &["package::"],
    },
    Place {
        name: "prometheus",
        packages: Some(&["prometheus"]),
        first: First::Script,
        cmdline: "",
        cpus: 2,
        devices: &[],
        once: true,
        prefixes: &["prometheus::"],
    },
    Place {
        name: "browser",
        packages: Some(&["chromium-headless-shell"]),
        first: First::Script,
        cmdline: "",
        cpus: 2,
        devices: &[],
        once: true,
        prefixes: &["browser::"],
    },
    Place {
        name: "terminal",
        packages: Some(&["tmux"]),
        first: First::Script,
        cmdline: "",
        cpus: 2,
        devices: &[],
        once: true,
        prefixes: &["top::", "run_terminal::"],
    },
];

/// Whether the name of a scenario begins with any of these.
pub fn begins(test: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| test.starts_with(prefix))
}

impl Place {
    /// Whether its scenarios are run on the kernel of this number, attached in this way.
    pub const fn runs(&self, kernel: usize, attach: usize) -> bool {
        !self.once || kernel == 0 && attach == 0
    }

    /// Whether a scenario of this name belongs here.
    pub fn takes(&self, test: &str) -> bool {
        if self.prefixes.is_empty() {
            !PLACES.iter().any(|place| begins(test, place.prefixes))
        } else {
            begins(test, self.prefixes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_about_the_kernel_is_run_once() {
        let runs = |place: &Place| {
            let all = (0..3).flat_map(|kernel| (0..2).map(move |attach| (kernel, attach)));
            all.filter(|(kernel, attach)| place.runs(*kernel, *attach))
                .count()
        };
        let [initramfs, .., terminal] = &PLACES;
        assert_eq!((runs(initramfs), runs(terminal)), (6, 1));
    }
}
