//! The commands that do a step.

use super::{FD_BASE, Op, PAGES, RING_BASE};

impl Op {
    /// What the actors are told, in order, and who. A process that is made or ended, and what the
    /// test does itself, is not among it. `is_new`: the file to be opened does not exist; `writable`:
    /// the descriptor of a mapping can be written to.
    pub fn commands(self, path: &str, is_new: bool, writable: bool) -> Vec<(usize, String)> {
        let access = if writable { "rw" } else { "ro" };
        match self {
            Self::Open { p, fd, write, .. } => {
                let access = if write { "rw" } else { "ro" };
                let mut commands = vec![
                    // Not to wait, should the model be wrong and a lease be in the way.
                    (p, format!("open f{fd} {path} {access},creat,nonblock")),
                    move_fd(p, fd),
                ];
                if is_new && write {
                    commands.push((p, format!("truncate f{fd} {}", PAGES << 12)));
                }
                commands
            }
            Self::Exec { p, fd } => vec![
                (p, format!("cloexec f{fd} on")),
                (p, "exec-self".to_owned()),
            ],
            Self::Drop { p, fd } => [
                "socketpair x y",
                &format!("send-fd f{fd} x"),
                &format!("close f{fd}"),
                "close x",
                "close y",
            ]
            .map(|command| (p, command.to_owned()))
            .to_vec(),
            Self::UringClose { p, fd, worker } => {
                let who = if worker { "worker" } else { "caller" };
                vec![(p, format!("uring-close f{fd} {who}"))]
            }
            Self::Break { p, write, .. } => {
                let access = if write { "rw" } else { "ro" };
                vec![(p, format!("open breaker {path} {access},nonblock"))]
            }
            Self::Outwait { p, fd, write, .. } => {
                let access = if write { "rw" } else { "ro" };
                vec![(p, format!("open f{fd} {path} {access}")), move_fd(p, fd)]
            }
            Self::Close { p, fd } => vec![(p, format!("close f{fd}"))],
            Self::CloseRange { p, first, last } => {
                vec![(p, format!("close_range f{first} f{last}"))]
            }
            Self::Dup { p, fd, to } => vec![(p, format!("dup f{fd} f{to}")), move_fd(p, to)],
            Self::Dup2 { p, fd, over } => vec![(p, format!("dup2 f{fd} f{over}"))],
            Self::Pass {
                p,
                fd,
                receiver,
                to,
            } => vec![
                (p, format!("send-fd f{fd} near")),
                (receiver, format!("recv-fd f{to} far")),
                move_fd(receiver, to),
            ],
            Self::Lease { p, fd, write } => {
                let mode = if write { "w" } else { "r" };
                vec![(p, format!("setlease f{fd} {mode}"))]
            }
            Self::Unlock { p, fd } => vec![(p, format!("setlease f{fd} u"))],
            Self::Truncate { p, fd, pages } => {
                vec![(p, format!("truncate f{fd} {}", pages << 12))]
            }
            Self::Punch { p, fd, page, pages } => vec![(
                p,
                format!("punch-hole f{fd} {} {}", page << 12, pages << 12),
            )],
            Self::Map { p, map, fd, pages } => {
                vec![(
                    p,
                    format!("mmap m{map} f{fd} {} shared {access}", pages << 12),
                )]
            }
            Self::MapOver {
                p,
                map,
                page,
                pages,
                fd,
            } => vec![(
                p,
                format!(
                    "mmap-over m{map} {} f{fd} {} shared {access}",
                    page << 12,
                    pages << 12
                ),
            )],
            Self::Remap { p, map, pages } => {
                vec![(p, format!("mremap m{map} {}", pages << 12))]
            }
            Self::RemapOver { p, map, over } => {
                vec![(p, format!("mremap-over m{map} m{over}"))]
            }
            Self::Unmap { p, map } => vec![(p, format!("munmap m{map}"))],
            _ => self.on_rings(),
        }
    }

    fn on_rings(self) -> Vec<(usize, String)> {
        match self {
            Self::Ring { p, ring } => vec![
                (p, format!("uring r{ring}")),
                (p, format!("move-fd r{ring} {}", RING_BASE + ring)),
            ],
            Self::CloseRing { p, ring } => vec![(p, format!("close r{ring}"))],
            Self::Pin {
                p,
                ring,
                map,
                page,
                pages,
            } => vec![(
                p,
                format!(
                    "register-buffers r{ring} m{map} {} {}",
                    page << 12,
                    pages << 12
                ),
            )],
            Self::Unpin { p, ring } => vec![(p, format!("unregister-buffers r{ring}"))],
            Self::Clone { p, ring, from } => vec![(p, format!("clone-buffers r{ring} r{from}"))],
            Self::RegisterFile { p, ring, fd } => {
                vec![(p, format!("register-files r{ring} f{fd}"))]
            }
            Self::UnregisterFile { p, ring } => vec![(p, format!("unregister-files r{ring}"))],
            // Done by the test itself.
            _ => Vec::new(),
        }
    }
}

fn move_fd(p: usize, fd: usize) -> (usize, String) {
    (p, format!("move-fd f{fd} {}", FD_BASE + fd))
}
