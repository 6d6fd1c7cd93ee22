//! ioctl(2) on VFIO's containers and groups: linux/vfio.h.

use std::os::fd::RawFd;

use super::check;
use crate::reply::Failure;
use crate::vfio::{Map, Unmap};

/// `_IO(VFIO_TYPE, VFIO_BASE + number)`: sizes are no part of VFIO's numbers.
const fn request(number: libc::Ioctl) -> libc::Ioctl {
    const VFIO_TYPE: libc::Ioctl = b';' as libc::Ioctl;
    const VFIO_BASE: libc::Ioctl = 100;
    VFIO_TYPE << 8 | (VFIO_BASE + number)
}

pub fn vfio_set_container(group: RawFd, container: RawFd) -> Result<(), Failure> {
    const VFIO_GROUP_SET_CONTAINER: libc::Ioctl = request(4);
    // SAFETY: the kernel reads one integer, which the reference outlives.
    let returned = unsafe { libc::ioctl(group, VFIO_GROUP_SET_CONTAINER, &raw const container) };
    check(returned, "VFIO_GROUP_SET_CONTAINER").map(drop)
}

pub fn vfio_set_iommu(container: RawFd) -> Result<(), Failure> {
    const VFIO_SET_IOMMU: libc::Ioctl = request(2);
    const VFIO_TYPE1V2_IOMMU: libc::c_ulong = 3;
    // SAFETY: takes a number, touches no memory.
    let returned = unsafe { libc::ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1V2_IOMMU) };
    check(returned, "VFIO_SET_IOMMU").map(drop)
}

pub fn vfio_map(container: RawFd, map: &Map) -> Result<(), Failure> {
    const VFIO_IOMMU_MAP_DMA: libc::Ioctl = request(13);
    // SAFETY: the kernel reads one structure of the size in it. The range is a mapping in a slot;
    // no device is told to write there.
    let returned = unsafe { libc::ioctl(container, VFIO_IOMMU_MAP_DMA, &raw const *map) };
    check(returned, "VFIO_IOMMU_MAP_DMA").map(drop)
}

pub fn vfio_unmap(container: RawFd, unmap: &mut Unmap) -> Result<(), Failure> {
    const VFIO_IOMMU_UNMAP_DMA: libc::Ioctl = request(14);
    // SAFETY: the kernel reads and writes one structure of the size in it.
    let returned = unsafe { libc::ioctl(container, VFIO_IOMMU_UNMAP_DMA, &raw mut *unmap) };
    check(returned, "VFIO_IOMMU_UNMAP_DMA").map(drop)
}
