//! What is pinned now, as people read it: the rows of `lease-trace pins`.

use std::{fs, path::Path};

use lease_trace_common::survey::{Kind, Part, backing};
use serde::Serialize;

use crate::{
    enrich::{
        locks,
        mapped::{self, Mapped},
        process,
    },
    record::{Dev, File, Holder, Person},
    tracer::survey::{self, Owner, Pinned, Survey},
};

/// One object's pins in one file.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PinsOfObject"))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Whose pins they are; absent: nobody's who is there any more.
    #[serde(flatten)]
    pub owner: Option<Person>,
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

fn row(object: &Owner, pinned: &Pinned, mapped: &mut Mapped) -> Row {
    let part = &pinned.part;
    let tgid = match part.owner {
        0 => object.tgid,
        tgid => Some(tgid),
    };
    let own = object
        .holders
        .iter()
        .find(|holder| Some(holder.tgid) == tgid);
    let owner = tgid.map(|pid| Person {
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
        leased: leased(part, &file),
        memory,
        file,
        holders: object.holders.iter().map(holder).collect(),
        owner,
    }
}

fn holder(holder: &survey::Holder) -> Holder {
    Holder {
        person: Person {
            pid: holder.tgid,
            comm: holder.comm.clone(),
        },
        fd: holder.fd,
    }
}

/// The file of the pages, if they are of any, by the name that its owner has for it, or whoever else has the object.
fn file(object: &Owner, pinned: &Pinned, tgid: Option<u32>, mapped: &mut Mapped) -> (File, Memory) {
    let part = &pinned.part;
    let none = |path| File {
        path,
        dev: None,
        ino: None,
    };
    match part.backing {
        backing::FILE => {}
        backing::ANONYMOUS => return (none(None), Memory::Anonymous),
        backing::MAPPED => return of_address(tgid, part.start, mapped),
        _ => return (none(None), Memory::Detached),
    }
    let mut pids: Vec<u32> = tgid.into_iter().collect();
    pids.extend(object.holders.iter().map(|holder| holder.tgid));
    let (mut dev, mut ino) = (Dev(part.dev), part.ino);
    let mut path = mapped.path(&pids, part.start, dev, ino);
    if path.is_none() && part.start != 0 {
        path = tgid
            .and_then(|tgid| mapped.at(tgid, part.start))
            .map(|(path, ..)| path);
    }
    // There the pages are those of another inode than the one that people know, and lease.
    let over = tgid.zip(path.as_ref());
    if let Some(over) = over.and_then(|(tgid, path)| mapped.over(tgid, path)) {
        (dev, ino) = over;
    }
    let memory = match &path {
        Some(path) if mapped::is_memory(path) => Memory::Shared,
        _ => Memory::File,
    };
    let file = File {
        path,
        dev: Some(dev),
        ino: Some(ino),
    };
    (file, memory)
}

/// What a process has mapped at an address now: of whoever is gone nothing is known.
fn of_address(tgid: Option<u32>, address: u64, mapped: &mut Mapped) -> (File, Memory) {
    let found = tgid.and_then(|tgid| mapped.at(tgid, address));
    let Some((path, dev, ino)) = found else {
        let file = File {
            path: None,
            dev: None,
            ino: None,
        };
        return (file, Memory::Anonymous);
    };
    let over = tgid.and_then(|tgid| mapped.over(tgid, &path));
    let (dev, ino) = over.unwrap_or((dev, ino));
    let memory = if mapped::is_memory(&path) {
        Memory::Shared
    } else {
        Memory::File
    };
    let file = File {
        path: Some(path),
        dev: Some(dev),
        ino: Some(ino),
    };
    (file, memory)
}

/// The mode of a lease on it. The kernel's list of locks is read only for a file whose lease is not its pages'.
fn leased(part: &Part, file: &File) -> Option<&'static str> {
    let is_write = match part.leased {
        0 if (file.dev, file.ino) == (Some(Dev(part.dev)), Some(part.ino))
            || file.ino.is_none() =>
        {
            return None;
        }
        0 => {
            let mut listed = locks::leases().unwrap_or_default().into_iter();
            let here = |lease: &locks::LockLine| {
                (Some(lease.dev), Some(lease.ino)) == (file.dev, file.ino)
            };
            listed.find(here)?.write
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
            let device = object.holders.iter().find_map(device);
            let device = device.map_or_else(String::new, |name| name + " ");
            format!("{device}mr {}", part.entry)
        }
        Kind::Vfio => format!("container iova 0x{:x}", part.entry),
    }
}

/// The RDMA device that somebody has open, e.g. `rxe0`.
fn device(holder: &survey::Holder) -> Option<String> {
    let link = process::file(holder.tgid, "fd").join(holder.fd?.to_string());
    let node = fs::read_link(link).ok()?;
    let class = Path::new("/sys/class/infiniband_verbs").join(node.file_name()?);
    let name = fs::read_to_string(class.join("ibdev")).ok()?;
    Some(name.trim_end().to_owned())
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
