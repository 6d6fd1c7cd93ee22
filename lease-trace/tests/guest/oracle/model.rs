//! The plain model: who holds what, and what follows for each stake.
//!
//! It knows of processes, open files, mappings and rings, as fcntl(2), mmap(2) and io_uring's manuals
//! describe them, and of the words of docs/architecture.md. It shares nothing with the product: no
//! word with bits, no atomics, no order of hooks. What the kernel may refuse (a lease) it learns from
//! the answer; everything else it predicts.

mod allowed;
mod leases;
mod rings;
mod shown;

use std::collections::{BTreeMap, BTreeSet};

use super::op::{FDS, FILES, MAPS, Op, PAGES, PROCESSES, RINGS};
use super::told::Told;

/// Names an inode, an open file description, a ring or a lease.
type Id = u64;

/// A mistake that is put in on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What is unregistered stays pinned, as the model thinks.
    ForgetUnpin,
    /// The first zombie of a sequence is not told.
    DropZombie,
}

/// How a step went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    /// The kernel did not refuse.
    pub done: bool,
    /// Of a process that was made.
    pub pid: i64,
    /// Of a file that was made.
    pub ino: i64,
}

#[derive(Clone, Default)]
struct Process {
    pid: i64,
    /// Which it is: another one after each exec.
    program: Id,
    fds: [Option<Id>; FDS],
    maps: [Option<Mapping>; MAPS],
    rings: [Option<Id>; RINGS],
}

/// For each page the open file description and the page in its file.
type Mapping = Vec<(Id, usize)>;

struct Inode {
    ino: i64,
    pages: usize,
}

/// An open file description.
struct Open {
    inode: Id,
    write: bool,
    lease: Option<Lease>,
}

#[derive(Clone, Copy)]
struct Lease {
    id: Id,
    setter: i64,
    write: bool,
    pending: Pending,
    /// It was downgraded when its holder's time was up.
    timed_out: bool,
}

/// What somebody wants of a lease, and has not got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pending {
    Nothing,
    Downgrade,
    Unlock,
}

struct Ring {
    /// The program that made it, which is the only one to register buffers with it.
    maker: Id,
    /// `None`: no buffer is registered.
    buffer: Option<Id>,
    /// The open file description that is registered.
    file: Option<Id>,
}

/// Pins that a ring has, or several share.
struct Buffer {
    owner: i64,
    /// Which registered it.
    program: Id,
    /// By inode.
    pages: BTreeMap<Id, i64>,
}

#[derive(Default)]
struct Stake {
    pins: i64,
    zombie: bool,
    /// Its pins were told as bare, and neither their end nor a zombie.
    bare: bool,
    /// The leases that cover it, as far as anybody has had reason to look.
    leases: BTreeSet<Id>,
}

/// All there is.
#[derive(Default)]
pub struct Model {
    fault: Option<Fault>,
    processes: [Option<Process>; PROCESSES],
    names: [Option<Id>; FILES],
    inodes: BTreeMap<Id, Inode>,
    opens: BTreeMap<Id, Open>,
    rings: BTreeMap<Id, Ring>,
    buffers: BTreeMap<Id, Buffer>,
    /// By pid and inode.
    stakes: BTreeMap<(i64, Id), Stake>,
    last_id: Id,
    told: Vec<Told>,
}

/// How a lease ends.
#[derive(Clone, Copy)]
struct End {
    /// The last reference went, and `by` dropped it; else `by` unlocked it.
    last_reference: bool,
    by: i64,
    cause: &'static str,
}

impl Model {
    pub fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    /// What is told of the step that was just done.
    pub fn apply(&mut self, op: Op, answer: Answer) -> Vec<Told> {
        match op {
            Op::Spawn { p } => {
                let program = self.new_id();
                self.processes[p] = Some(Process {
                    pid: answer.pid,
                    program,
                    ..Process::default()
                });
            }
            Op::Fork { p, child } => {
                let mut heir = self.process(p).clone();
                heir.pid = answer.pid;
                heir.program = self.new_id();
                self.processes[child] = Some(heir);
            }
            Op::Exit { p } => self.end(p, "exit"),
            Op::Kill { p } => self.end(p, "killed"),
            Op::Exec { p, fd } => self.exec(p, fd),
            Op::Open { p, fd, file, write } => self.open_file(p, fd, file, write, answer.ino),
            Op::Close { p, fd } | Op::Drop { p, fd } => {
                let gone = self.process_mut(p).fds[fd].take();
                self.let_go(gone.into_iter(), p, "close");
            }
            Op::UringClose { p, fd, .. } => {
                let gone = self.process_mut(p).fds[fd].take();
                self.let_go(gone.into_iter(), p, "io_uring");
            }
            Op::CloseRange { p, first, last } => {
                let range = self.process_mut(p).fds[first..=last].iter_mut().rev();
                let gone: Vec<Id> = range.filter_map(Option::take).collect();
                self.let_go(gone.into_iter(), p, "close_range");
            }
            Op::Dup { p, fd, to } => {
                let process = self.process_mut(p);
                process.fds[to] = process.fds[fd];
            }
            Op::Dup2 { p, fd, over } => {
                let process = self.process_mut(p);
                let gone = process.fds[over];
                process.fds[over] = process.fds[fd];
                self.let_go(gone.into_iter(), p, "dup2");
            }
            Op::Pass {
                p,
                fd,
                receiver,
                to,
            } => self.process_mut(receiver).fds[to] = self.fd(p, fd),
            Op::Lease { p, fd, write } => {
                if answer.done {
                    self.set_lease(p, fd, write);
                }
            }
            Op::Unlock { p, fd } => self.unlock(p, fd),
            Op::Break { file, write, .. } => self.want_broken(file, write),
            Op::Outwait { p, fd, file, write } => {
                self.time_out(p, file, write);
                self.open_file(p, fd, file, write, 0);
            }
            Op::Truncate { p, fd, pages } => {
                let inode = self.open(p, fd).expect("allowed").inode;
                self.inodes.get_mut(&inode).expect("open").pages = pages;
            }
            // A hole reads as zeroes and can be pinned anew.
            Op::Punch { .. } => {}
            Op::Unlink { file } => self.names[file] = None,
            _ => self.apply_to_memory(op, answer),
        }
        self.forget();
        self.drop_a_zombie()
    }

    fn apply_to_memory(&mut self, op: Op, answer: Answer) {
        match op {
            Op::Map { p, map, fd, pages } => {
                let id = self.fd(p, fd).expect("allowed");
                let mapping = (0..pages).map(|page| (id, page)).collect();
                self.process_mut(p).maps[map] = Some(mapping);
            }
            Op::MapOver {
                p,
                map,
                page,
                pages,
                fd,
            } => {
                let id = self.fd(p, fd).expect("allowed");
                let new = (0..pages).map(|page| (id, page));
                let mapping = self.process_mut(p).maps[map].as_mut().expect("allowed");
                let gone: Mapping = mapping.splice(page..page + pages, new).collect();
                self.let_go_of_pages(gone, p);
            }
            Op::Remap { p, map, pages } => self.remap(p, map, pages),
            Op::RemapOver { p, over, .. } => {
                let gone = self.process_mut(p).maps[over].take().expect("allowed");
                self.let_go_of_pages(gone, p);
            }
            Op::Unmap { p, map } => {
                let gone = self.process_mut(p).maps[map].take().expect("allowed");
                self.let_go_of_pages(gone, p);
            }
            Op::Ring { p, ring } => self.make_ring(p, ring),
            Op::CloseRing { p, ring } => {
                let gone = self.process_mut(p).rings[ring].take();
                self.let_go_of_rings(gone.into_iter());
            }
            Op::Pin {
                p,
                ring,
                map,
                page,
                pages,
            } => {
                let can = self.pinnable(p, map, page, pages);
                let mapping = self.mapping(p, map).expect("allowed");
                let part = mapping[page..page + can].to_vec();
                self.register(p, ring, &part, answer.done);
            }
            Op::Unpin { p, ring } => self.unregister(p, ring),
            Op::Clone { p, ring, from } => {
                if answer.done {
                    self.share(p, ring, from);
                }
            }
            Op::RegisterFile { p, ring, fd } => {
                let (id, file) = (self.process(p).rings[ring], self.fd(p, fd));
                let ring = self.rings.get_mut(&id.expect("allowed"));
                ring.expect("held").file = file;
            }
            Op::UnregisterFile { p, ring } => {
                let id = self.process(p).rings[ring].expect("allowed");
                let gone = self.rings.get_mut(&id).expect("held").file.take();
                self.let_go(gone.into_iter(), p, "io_uring");
            }
            _ => unreachable!("{op} has nothing to do with memory"),
        }
    }

    fn end(&mut self, p: usize, cause: &'static str) {
        let Process {
            pid,
            fds,
            maps,
            rings,
            program: _,
        } = self.processes[p].take().expect("allowed");
        let pages = maps.into_iter().flatten().flatten().map(|(id, _)| id);
        let gone = fds.into_iter().rev().flatten().chain(pages);
        self.let_go_of(gone, pid, cause);
        self.let_go_of_rings(rings.into_iter().flatten());
    }

    /// The program that was is gone, with its mappings and the descriptor.
    fn exec(&mut self, p: usize, fd: usize) {
        let program = self.new_id();
        let process = self.process_mut(p);
        process.program = program;
        let maps = std::mem::take(&mut process.maps);
        let descriptor = process.fds[fd].take();
        let pages = maps.into_iter().flatten().flatten().map(|(id, _)| id);
        self.let_go(descriptor.into_iter().chain(pages), p, "exec");
    }

    fn remap(&mut self, p: usize, map: usize, pages: usize) {
        let mapping = self.process_mut(p).maps[map].as_mut().expect("allowed");
        let gone = mapping.split_off(pages.min(mapping.len()));
        while let Some((id, page)) = mapping.last().copied()
            && mapping.len() < pages
        {
            mapping.push((id, page + 1));
        }
        self.let_go_of_pages(gone, p);
    }

    fn open_file(&mut self, p: usize, fd: usize, file: usize, write: bool, ino: i64) {
        let inode = self.names[file].unwrap_or_else(|| {
            let id = self.new_id();
            let pages = if write { PAGES } else { 0 };
            self.inodes.insert(id, Inode { ino, pages });
            self.names[file] = Some(id);
            id
        });
        let id = self.new_id();
        self.opens.insert(
            id,
            Open {
                inode,
                write,
                lease: None,
            },
        );
        self.process_mut(p).fds[fd] = Some(id);
    }

    fn let_go_of_pages(&mut self, gone: Mapping, p: usize) {
        self.let_go(gone.into_iter().map(|(id, _)| id), p, "munmap");
    }

    /// A process lets go of open file descriptions, in this order; those that nobody holds any more
    /// are closed.
    fn let_go(&mut self, gone: impl Iterator<Item = Id>, p: usize, cause: &'static str) {
        let by = self.process(p).pid;
        self.let_go_of(gone, by, cause);
    }

    fn let_go_of(&mut self, gone: impl Iterator<Item = Id>, by: i64, cause: &'static str) {
        let end = End {
            last_reference: true,
            by,
            cause,
        };
        for id in gone {
            if self.opens.contains_key(&id) && !self.is_open(id) {
                self.end_lease(id, end);
                self.opens.remove(&id);
            }
        }
    }

    /// Forgets what nothing refers to.
    fn forget(&mut self) {
        self.stakes
            .retain(|_, stake| stake.pins > 0 || !stake.leases.is_empty());
        let mut used: BTreeSet<Id> = self.names.iter().flatten().copied().collect();
        used.extend(self.opens.values().map(|open| open.inode));
        used.extend(self.stakes.keys().map(|(_, inode)| *inode));
        self.inodes.retain(|id, _| used.contains(id));
    }

    fn drop_a_zombie(&mut self) -> Vec<Told> {
        let mut told = std::mem::take(&mut self.told);
        if self.fault == Some(Fault::DropZombie)
            && let Some(place) = told.iter().position(|told| told.event == "zombie")
        {
            told.remove(place);
            self.fault = None;
        }
        told
    }

    /// Whether anybody holds this open file description: a process, or a ring.
    fn is_open(&self, id: Id) -> bool {
        self.alive().any(|process| process.holds(id))
            || self.rings.values().any(|ring| ring.file == Some(id))
    }

    fn alive(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().flatten()
    }

    fn leases_on(&self, inode: Id) -> impl Iterator<Item = Lease> {
        let here = self.opens.values().filter(move |open| open.inode == inode);
        here.filter_map(|open| open.lease)
    }

    /// The leases on an inode whose open file description this process has as a descriptor.
    fn leases_by_descriptor(&self, pid: i64, inode: Id) -> BTreeSet<Id> {
        self.leases_that(inode, |id| self.has_descriptor(pid, id))
    }

    /// The same, or as a mapping.
    fn leases_held(&self, pid: i64, inode: Id) -> BTreeSet<Id> {
        self.leases_that(inode, |id| {
            self.alive()
                .any(|process| process.pid == pid && process.holds(id))
        })
    }

    fn leases_that(&self, inode: Id, is_wanted: impl Fn(Id) -> bool) -> BTreeSet<Id> {
        let opens = self.opens.iter().filter(|(_, open)| open.inode == inode);
        opens
            .filter_map(|(id, open)| open.lease.filter(|_| is_wanted(*id)))
            .map(|lease| lease.id)
            .collect()
    }

    fn has_descriptor(&self, pid: i64, id: Id) -> bool {
        let mut processes = self.alive().filter(|process| process.pid == pid);
        processes.any(|process| process.fds.contains(&Some(id)))
    }

    fn is_alive(&self, p: usize) -> bool {
        self.processes[p].is_some()
    }

    fn pid(&self, p: usize) -> Option<i64> {
        self.processes[p].as_ref().map(|process| process.pid)
    }

    fn process(&self, p: usize) -> &Process {
        self.processes[p].as_ref().expect("alive")
    }

    fn process_mut(&mut self, p: usize) -> &mut Process {
        self.processes[p].as_mut().expect("alive")
    }

    fn fd(&self, p: usize, fd: usize) -> Option<Id> {
        self.processes[p].as_ref()?.fds[fd]
    }

    fn open(&self, p: usize, fd: usize) -> Option<&Open> {
        Some(&self.opens[&self.fd(p, fd)?])
    }

    fn mapping(&self, p: usize, map: usize) -> Option<&Mapping> {
        self.processes[p].as_ref()?.maps[map].as_ref()
    }

    fn has_pages(&self, p: usize, map: usize, page: usize, pages: usize) -> bool {
        self.mapping(p, map)
            .is_some_and(|mapping| page + pages <= mapping.len())
    }

    fn ring(&self, p: usize, ring: usize) -> Option<&Ring> {
        Some(&self.rings[&self.processes[p].as_ref()?.rings[ring]?])
    }

    const fn new_id(&mut self) -> Id {
        self.last_id += 1;
        self.last_id
    }
}

impl Process {
    /// As a descriptor or a mapping.
    fn holds(&self, id: Id) -> bool {
        let mut pages = self.maps.iter().flatten().flatten();
        self.fds.contains(&Some(id)) || pages.any(|(of, _)| *of == id)
    }
}

/// The open file description behind these pages, if one mapping has all of them.
fn one_mapping(pages: &[(Id, usize)]) -> Option<Id> {
    let (first, place) = *pages.first()?;
    let mut numbered = pages.iter().enumerate();
    numbered
        .all(|(number, page)| *page == (first, place + number))
        .then_some(first)
}
