//! A device of QEMU's that is handed to vfio-pci, behind QEMU's IOMMU.

use std::fs;
use std::path::{Path, PathBuf};

use super::rxe::run;

/// The device's group, which a process opens to use it; vfio-pci's until the guest ends.
pub struct VfioGroup {
    /// Like `/dev/vfio/3`.
    pub path: String,
}

impl VfioGroup {
    pub const CONTAINER: &str = "/dev/vfio/vfio";

    #[track_caller]
    pub fn ready() -> Self {
        run("modprobe", &["vfio-pci"]);
        // The machine's IOMMU does not remap interrupts, so vfio has to be told that they are
        // harmless; this device is never made to send one.
        run(
            "modprobe",
            &["vfio_iommu_type1", "allow_unsafe_interrupts=1"],
        );
        let device = device();
        if !device.join("driver").exists() {
            fs::write(device.join("driver_override"), "vfio-pci").expect("a driver of one's own");
            let name = device.file_name().expect("an address on the bus");
            fs::write("/sys/bus/pci/drivers_probe", name.as_encoded_bytes())
                .expect("the driver takes it");
        }
        let group = fs::read_link(device.join("iommu_group")).expect("it is behind the IOMMU");
        let number = group.file_name().expect("a group has a number");
        Self {
            path: format!("/dev/vfio/{}", number.to_str().expect("ASCII")),
        }
    }
}

/// QEMU's device for teaching, `-device edu`, which no driver of the kernel's claims.
fn device() -> PathBuf {
    let is = |directory: &Path, file: &str, id: &str| {
        fs::read_to_string(directory.join(file)).is_ok_and(|found| found.trim() == id)
    };
    let devices = fs::read_dir("/sys/bus/pci/devices").expect("a PCI bus");
    let mut directories = devices.flatten().map(|entry| entry.path());
    directories
        .find(|directory| is(directory, "vendor", "0x1234") && is(directory, "device", "0x11e8"))
        .expect("this machine has `-device edu`")
}
