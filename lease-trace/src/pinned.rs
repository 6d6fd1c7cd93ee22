//! What is pinned now, as people read it: the rows of `lease-trace pins`.

use lease_trace_common::survey::{Kind, Part, backing};
use serde::Serialize;

use crate::{
    enrich::{
        device,
        mapped::{self, At, Mapped},
        process,
    },
    record::{Dev, File, FilePath, Holder, ProcessRef},
    tracer::survey::{self, Owner, Pinned, Survey},
};

/// One object's pins in one file.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PinsOfObject"))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Whose pins they are; absent: nobody's who is there any more.
    #[serde(flatten)]
    pub owner: Option<ProcessRef>,
    /// The owner's descriptor of the object; absent where it has none: a mapping keeps it, or somebody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd: Option<u32>,
    /// What has to be closed or deregistered so that these pins go.
    pub object: String,
    /// Where it begins in the owner's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// Length of the object in bytes: it may reach over several files, and one pin may be of many pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Pin references in this file; those that objects share are counted with the first alone.
    pub pins: u64,
    /// They are those of an object that comes before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Several objects have them, this is the first.
    #[serde(skip)]
    pub is_joint: bool,
    /// What has them, see [`Part::id`].
    #[serde(skip)]
    pub id: u64,
    /// The object changed while it was looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub doubtful: bool,
    pub consumer: &'static str,
    /// The mode of a lease on the file; absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leased: Option<&'static str>,
    /// What is pinned.
    pub memory: Memory,
    #[serde(flatten)]
    pub file: File,
    /// Everybody who has the object open or mapped.
    pub holders: Vec<Holder>,
}

/// What is pinned.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// Pages of a file.
    File,
    /// Memory that the kernel keeps in a file of its own: System V, or shared and anonymous.
    Shared,
    /// Anonymous memory.
    Anonymous,
    /// Pages that have left their file, by truncation as a rule, or that never were in one.
    Detached,
}

/// The rows, in the order of the survey.
pub fn rows(survey: &Survey) -> Vec<Row> {
    let mut mapped = Mapped::default();
    let objects = survey.objects.iter();
    objects
        .flat_map(|object| object.parts.iter().map(move |part| (object, part)))
        .map(|(object, part)| row(object, part, &mut mapped))
        .collect()
}

/// Pins in memory that is meant; those that objects share once.
pub fn sum(rows: &[Row], is_meant: impl Fn(Memory) -> bool) -> u64 {
    let meant = rows
        .iter()
        .filter(|row| is_meant(row.memory) && !row.shared);
    meant.map(|row| row.pins).sum()
}

fn row(object: &Owner, pinned: &Pinned, mapped: &mut Mapped) -> Row {
    let part = &pinned.part;
    let tgid = match (part.owner, object.kind) {
        // Whoever it was is gone.
        (0, Kind::Verbs | Kind::Vfio) => None,
        (0, _) => object.tgid,
        (tgid, _) => Some(tgid),
    };
    let own = object
        .holders
        .iter()
        .find(|holder| Some(holder.tgid) == tgid);
    let owner = tgid.map(|pid| ProcessRef {
        pid,
        comm: own.map_or_else(
            || process::comm(pid).unwrap_or_default(),
            |own| own.comm.clone(),
        ),
    });
    let mut fds = object
        .holders
        .iter()
        .filter(|holder| Some(holder.tgid) == tgid);
    let (file, memory) = file(object, pinned, tgid, mapped);
    Row {
        fd: fds.find_map(|holder| holder.fd),
        object: name(object, pinned),
        address: (part.start != 0).then_some(part.start),
        size_bytes: (part.len != 0).then_some(part.len),
        pins: part.pins,
        shared: pinned.is_shared,
        doubtful: object.is_doubtful,
        consumer: consumer(object.kind, pinned),
        leased: leased(part, &file, mapped),
        is_joint: pinned.is_joint,
        id: part.id,
        memory,
        file,
        holders: object.holders.iter().map(holder).collect(),
        owner,
    }
}

fn holder(holder: &survey::Holder) -> Holder {
    Holder {
        process: ProcessRef {
            pid: holder.tgid,
            comm: holder.comm.clone(),
        },
        fd: holder.fd,
    }
}

/// The file of the pages, if they are of any, by the name that its owner has for it, or whoever else has the object.
fn file(object: &Owner, pinned: &Pinned, tgid: Option<u32>, mapped: &mut Mapped) -> (File, Memory) {
    let part = &pinned.part;
    match part.backing {
        backing::FILE => {}
        backing::ANONYMOUS => return (UNKNOWN, Memory::Anonymous),
        backing::MAPPED => return of_address(tgid, part.start, mapped),
        _ => return (UNKNOWN, Memory::Detached),
    }
    let mut pids: Vec<u32> = tgid.into_iter().collect();
    pids.extend(object.holders.iter().map(|holder| holder.tgid));
    let (dev, ino) = (Dev(part.dev), part.ino);
    let path = mapped.path(&pids, part.start + part.offset, dev, ino);
    let file = match (path, tgid) {
        (Some(path), Some(tgid)) => over(tgid, path, (dev, ino), mapped),
        (None, Some(tgid)) if part.start != 0 => {
            // On overlayfs the pages are those of another inode than the one that is mapped.
            match mapped.at(tgid, part.start + part.offset) {
                // The number is the same there. Of one whose name is not mapped any more nothing can be told.
                At::File(path, _, at) if at == ino && mapped.over(tgid, &path).is_some() => {
                    over(tgid, path, (dev, ino), mapped)
                }
                _ => known(None, dev, ino),
            }
        }
        (path, _) => known(path, dev, ino),
    };
    let memory = memory(&file);
    (file, memory)
}

/// Nothing is known of a file.
const UNKNOWN: File = File {
    path: None,
    dev: None,
    ino: None,
};

const fn known(path: Option<FilePath>, dev: Dev, ino: u64) -> File {
    File {
        path,
        dev: Some(dev),
        ino: Some(ino),
    }
}

/// A file of this name, with the numbers that it has on overlayfs if it is there: by these people know and lease it.
fn over(tgid: u32, path: FilePath, numbers: (Dev, u64), mapped: &mut Mapped) -> File {
    let (dev, ino) = mapped.over(tgid, &path).unwrap_or(numbers);
    known(Some(path), dev, ino)
}

fn memory(file: &File) -> Memory {
    match &file.path {
        Some(path) if mapped::is_memory(path) => Memory::Shared,
        _ => Memory::File,
    }
}

/// What a process has mapped at an address now. Of whoever is gone nothing is known.
fn of_address(tgid: Option<u32>, address: u64, mapped: &mut Mapped) -> (File, Memory) {
    let Some(tgid) = tgid else {
        return (UNKNOWN, Memory::File);
    };
    match mapped.at(tgid, address) {
        At::Nothing => (UNKNOWN, Memory::File),
        At::Anonymous => (UNKNOWN, Memory::Anonymous),
        At::File(path, dev, ino) => {
            let file = over(tgid, path, (dev, ino), mapped);
            let memory = memory(&file);
            (file, memory)
        }
    }
}

/// The mode of a lease on it. The kernel's list of locks is read only where the pages do not say it: of a range of a
/// container, or a file on overlayfs.
fn leased(part: &Part, file: &File, mapped: &mut Mapped) -> Option<&'static str> {
    let numbers = file.dev.zip(file.ino);
    let is_write = match part.leased {
        0 if numbers == Some((Dev(part.dev), part.ino)) => return None,
        0 => {
            let (dev, ino) = numbers?;
            mapped.lease(dev, ino)?.write
        }
        mode => mode > 1,
    };
    Some(if is_write { "write" } else { "read" })
}

/// What has to be closed or deregistered.
fn name(object: &Owner, pinned: &Pinned) -> String {
    let part = &pinned.part;
    match object.kind {
        Kind::Ring => format!("ring buffer {}", part.entry),
        Kind::Umem => "umem".to_owned(),
        Kind::Dmabuf => format!("dma-buf {}", object.ino),
        Kind::Verbs => {
            let mut holders = object.holders.iter();
            let device = holders.find_map(|holder| device::behind(holder.tgid, holder.fd?));
            let device = device.map_or_else(String::new, |name| name + " ");
            format!("{device}mr {}", part.entry)
        }
        Kind::Vfio => format!("container iova 0x{:x}", part.entry),
    }
}

/// The same names as those that are read from a stack.
const fn consumer(kind: Kind, pinned: &Pinned) -> &'static str {
    match (kind, pinned.driver) {
        (Kind::Ring, _) => "io_uring",
        (Kind::Umem, _) => "xdp",
        (Kind::Dmabuf, _) => "udmabuf",
        (Kind::Vfio, _) => "vfio",
        (Kind::Verbs, Some(driver)) => driver,
        (Kind::Verbs, None) => "rdma",
    }
}
