//! An RDMA device without hardware: rdma_rxe over a dummy network interface, set up by the stock
//! tools.

use std::path::Path;
use std::process::Command;

/// The device, there until the guest ends or it is taken away.
pub struct Rxe;

impl Rxe {
    pub const DEVICE: &str = "rxe0";

    pub fn ready() -> Self {
        if !Path::new("/sys/class/infiniband")
            .join(Self::DEVICE)
            .exists()
        {
            // Asked for zero interfaces of its own, so that ours has the name we give it.
            run("modprobe", &["dummy", "numdummies=0"]);
            run("modprobe", &["rdma_rxe"]);
            run("modprobe", &["ib_uverbs"]);
            run("ip", &["link", "add", "rxenet", "type", "dummy"]);
            run("ip", &["address", "add", "10.77.0.1/24", "dev", "rxenet"]);
            run("ip", &["link", "set", "rxenet", "up"]);
            run(
                "rdma",
                &[
                    "link",
                    "add",
                    Self::DEVICE,
                    "type",
                    "rxe",
                    "netdev",
                    "rxenet",
                ],
            );
        }
        Self
    }

    /// Takes the device away, and the modules that [`Self::ready`] brought.
    pub fn unload() {
        run("rdma", &["link", "delete", Self::DEVICE]);
        run("ip", &["link", "delete", "rxenet"]);
        run("modprobe", &["--remove", "rdma_rxe"]);
        assert!(!Path::new("/sys/module/rdma_rxe").exists());
    }
}

/// Runs a stock command that must work.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} {arguments:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{stderr}",
        output.status
    );
}
