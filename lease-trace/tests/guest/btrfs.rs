//! btrfs: stat(2) has a device number for each subvolume, which /proc/locks, mountinfo and the tool
//! do not know.

use crate::harness::{Filesystem, LoopMount, Subject};
use crate::rdma::both_ends_on;

#[test]
fn a_file_in_a_subvolume() {
    let mount = LoopMount::new(Filesystem::Btrfs);
    both_ends_on(|name| mount.file(name));
    let path = mount.file("ro");
    assert_ne!(Subject::at(&path).dev, Subject::as_mounted(&path).dev);
}
