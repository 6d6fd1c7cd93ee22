//! What the survey's programs are told: where the structures of those who pin have what they keep. Those of
//! modules are as they are now, so this is asked when a survey begins.

use std::{fs, io, path::Path};

use lease_trace_common::{
    offsets::{ABSENT, Source},
    survey::{DRIVERS, Driver, Own, Survey, Verbs, Vfio},
};

use super::{
    btf::{Btf, Error},
    kallsyms,
    offsets::look_up,
};

/// A driver of RDMA devices: its module, its number, its structure of a region, and in that `struct ib_mr` and the
/// pointer to `struct ib_umem`.
struct Known {
    module: &'static str,
    id: &'static str,
    region: &'static str,
    at: &'static str,
    umem: &'static str,
}

const fn known(
    module: &'static str,
    id: &'static str,
    region: &'static str,
    at: &'static str,
    umem: &'static str,
) -> Known {
    Known {
        module,
        id,
        region,
        at,
        umem,
    }
}

const KNOWN: [Known; 8] = [
    known("rdma_rxe", "RDMA_DRIVER_RXE", "rxe_mr", "ibmr", "umem"),
    known("mlx5_ib", "RDMA_DRIVER_MLX5", "mlx5_ib_mr", "ibmr", "umem"),
    known("mlx4_ib", "RDMA_DRIVER_MLX4", "mlx4_ib_mr", "ibmr", "umem"),
    known("irdma", "RDMA_DRIVER_IRDMA", "irdma_mr", "ibmr", "region"),
    known(
        "bnxt_re",
        "RDMA_DRIVER_BNXT_RE",
        "bnxt_re_mr",
        "ib_mr",
        "ib_umem",
    ),
    known("efa", "RDMA_DRIVER_EFA", "efa_mr", "ibmr", "umem"),
    known("mana_ib", "RDMA_DRIVER_MANA", "mana_ib_mr", "ibmr", "umem"),
    known("erdma", "RDMA_DRIVER_ERDMA", "erdma_mr", "ibmr", "mem.umem"),
];

const _: () = assert!(KNOWN.len() == DRIVERS);

/// Other drivers of RDMA devices that Linux has.
const UNKNOWN: [&str; 10] = [
    "siw",
    "hns_roce_hw_v2",
    "hfi1",
    "qedr",
    "ocrdma",
    "usnic_verbs",
    "ib_mthca",
    "iw_cxgb4",
    "vmw_pvrdma",
    "ionic_rdma",
];

/// What there is to know, and by number the modules of the drivers whose regions can be read.
pub struct Owners {
    pub survey: Survey,
    pub drivers: Vec<(u32, &'static str)>,
    /// Modules that are loaded and of which it cannot be read what they have pinned, with the reason.
    pub unreadable: Vec<(&'static str, String)>,
}

/// Why it cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Types(#[from] Error),
    #[error(
        "cannot read addresses in /proc/kallsyms: {0}; run it as root, or with CAP_SYSLOG and \
         kernel.kptr_restrict at 1 or 0"
    )]
    Symbols(io::Error),
}

/// Asks the running kernel.
pub fn ask(types: &Btf) -> Result<Owners, Failure> {
    let names = [
        "io_uring_fops",
        "socket_file_ops",
        "xsk_proto_ops",
        "dma_buf_fops",
        "udmabuf_ops",
        "uverbs_fops",
        "uverbs_mmap_fops",
        "vmemmap_base",
        "vfio_fops",
        "vfio_iommu_driver_ops_type1",
    ];
    let [
        ring,
        socket,
        xsk,
        dmabuf,
        udmabuf,
        verbs,
        verbs_mmap,
        memmap,
        vfio,
        iommu,
    ] = kallsyms::addresses(names).map_err(Failure::Symbols)?;
    // Tables whose kind is not there are told by an address that nothing has.
    let or_none = |address| if address == 0 { u64::MAX } else { address };
    let mut owners = Owners {
        survey: Survey {
            ring_fops: or_none(ring),
            socket_fops: or_none(socket),
            xsk_ops: or_none(xsk),
            dmabuf_fops: or_none(dmabuf),
            udmabuf_ops: or_none(udmabuf),
            verbs_fops: or_none(verbs),
            verbs_mmap_fops: or_none(verbs_mmap),
            memmap,
            vfio_fops: or_none(vfio),
            type1_ops: or_none(iommu),
            own: Own::find(|source| look_up(types, source))?,
            verbs: Verbs::find(|source| look_up(types, source))?,
            vfio: Vfio::find(|source| look_up(types, source))?,
            ..Survey::default()
        },
        drivers: Vec::new(),
        unreadable: Vec::new(),
    };
    if iommu != 0 {
        let mut sources = Vec::new();
        let modules = [("vfio", "vfio_container"), ("vfio_iommu_type1", "vfio_dma")];
        for (module, has) in modules {
            sources.extend(owners.types_of(types, module, has)?);
        }
        owners.survey.vfio = Vfio::find(|source| first(&sources, types, source))?;
    }
    if verbs != 0 {
        owners.ask_verbs(types)?;
    }
    Ok(owners)
}

impl Owners {
    /// The module of a driver.
    pub fn driver(&self, id: u32) -> Option<&'static str> {
        let mut drivers = self.drivers.iter();
        drivers.find_map(|(known, module)| (*known == id).then_some(*module))
    }

    /// The types of a module behind the kernel's own; `None` if it is not loaded, or has none, which is noted.
    /// `has` is a structure of its own.
    fn types_of(
        &mut self,
        types: &Btf,
        module: &'static str,
        has: &str,
    ) -> Result<Option<Btf>, Error> {
        let path = Path::new("/sys/kernel/btf").join(module);
        match fs::read(&path) {
            Ok(data) => return types.with_module(&data).map(Some),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Read {
                    path: path.display().to_string(),
                    reason: error.to_string(),
                });
            }
            // Built in: the kernel's own types have what is the module's.
            Err(_) if types.structure(has).is_some() => {
                return types.with_module(NO_TYPES).map(Some);
            }
            Err(_) if is_loaded(module) => {
                let reason = "the module was built without types (BTF)".to_owned();
                self.unreadable.push((module, reason));
            }
            Err(_) => {}
        }
        Ok(None)
    }

    /// What modules say of RDMA. A structure that only drivers use may be in their types alone.
    fn ask_verbs(&mut self, types: &Btf) -> Result<(), Error> {
        let Some(core) = self.types_of(types, "ib_uverbs", "ib_uverbs_file")? else {
            return Ok(());
        };
        for module in UNKNOWN {
            if is_loaded(module) {
                let reason = "its structures are not known to lease-trace".to_owned();
                self.unreadable.push((module, reason));
            }
        }
        let mut sources = Vec::new();
        for (place, known) in KNOWN.iter().enumerate() {
            let Some(driver) = self.types_of(types, known.module, known.region)? else {
                continue;
            };
            match read_driver(&core, &driver, known) {
                Ok(found) => {
                    self.drivers.push((found.id, known.module));
                    self.survey.drivers[place] = found;
                }
                Err(error) => self.unreadable.push((known.module, error.to_string())),
            }
            sources.push(driver);
        }
        sources.push(core);
        self.survey.verbs = Verbs::find(|source| first(&sources, types, source))?;
        self.survey.region_id = sources
            .iter()
            .find_map(|types| types.enumerator("UVERBS_OBJECT_MR"))
            .map_or(u32::MAX, |value| value as u32);
        let bit = |name| {
            sources
                .iter()
                .find_map(|types| types.bits("ib_umem", name).ok())
        };
        if let Some(first) = bit("is_odp") {
            self.survey.unpinned_byte = first / 8;
            for bit in [Some(first), bit("is_dmabuf")].into_iter().flatten() {
                if bit / 8 == first / 8 {
                    self.survey.unpinned_bits |= 1 << (bit % 8);
                }
            }
        }
        Ok(())
    }
}

/// The first answer of these that is one.
fn first(sources: &[Btf], types: &Btf, source: Source) -> Result<u32, Error> {
    let mut found = sources.iter().map(|types| look_up(types, source));
    let known = found.find(|found| found.as_ref().is_ok_and(|offset| *offset != ABSENT));
    known.unwrap_or_else(|| look_up(types, source))
}

fn read_driver(core: &Btf, driver: &Btf, known: &Known) -> Result<Driver, Error> {
    let id = core
        .enumerator(known.id)
        .or_else(|| driver.enumerator(known.id));
    Ok(Driver {
        id: id.ok_or_else(|| Error::NoType(known.id.to_owned()))? as u32,
        region: driver.offset(known.region, known.at)?,
        umem: driver.offset(known.region, known.umem)?,
    })
}

/// BTF without types and strings (Documentation/bpf/btf.rst).
const NO_TYPES: &[u8] = &[
    0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

fn is_loaded(module: &str) -> bool {
    Path::new("/sys/module").join(module).exists()
}
