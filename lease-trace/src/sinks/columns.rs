//! The columns of a report: names in the manner of lslocks, and what stands in them.

use super::{
    grid::{self, Unknown},
    text,
};
use crate::{
    entries::Subject,
    record::{self, Entry},
};

/// A column; the order is that of the list which `-o` shows for a wrong name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Command,
    Pid,
    Uid,
    Cgroup,
    Unit,
    Container,
    State,
    Kind,
    Mode,
    Held,
    Cause,
    Releaser,
    Breaker,
    Age,
    Leases,
    Pins,
    Peak,
    Size,
    Consumer,
    Context,
    Device,
    Dev,
    Inode,
    Path,
    Holders,
    HeldBy,
}

use Column::{
    Age, Breaker, Cause, Cgroup, Command, Consumer, Container, Context, Dev, Device, Held, HeldBy,
    Holders, Inode, Kind, Leases, Mode, Path, Peak, Pid, Pins, Releaser, Size, State, Uid, Unit,
};

impl grid::Column for Column {
    const PATH: Self = Path;
    const DISPENSABLE: &'static [Self] = &[Dev, Inode, Kind, Context];

    fn name(self) -> &'static str {
        self.name()
    }

    fn is_figure(self) -> bool {
        self.is_figure()
    }
}

impl Column {
    pub const ALL: [Self; 26] = [
        Command, Pid, Uid, Cgroup, Unit, Container, State, Kind, Mode, Held, Cause, Releaser,
        Breaker, Age, Leases, Pins, Peak, Size, Consumer, Context, Device, Dev, Inode, Path,
        Holders, HeldBy,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Command => "COMMAND",
            Pid => "PID",
            Uid => "UID",
            Cgroup => "CGROUP",
            Unit => "UNIT",
            Container => "CONTAINER",
            State => "STATE",
            Kind => "KIND",
            Mode => "MODE",
            Held => "HELD",
            Cause => "CAUSE",
            Releaser => "RELEASER",
            Breaker => "BREAKER",
            Age => "AGE",
            Leases => "LEASES",
            Pins => "PINS",
            Peak => "PEAK",
            Size => "SIZE",
            Consumer => "CONSUMER",
            Context => "CONTEXT",
            Device => "DEVICE",
            Dev => "DEV",
            Inode => "INODE",
            Path => "PATH",
            Holders => "HOLDERS",
            HeldBy => "HELD-BY",
        }
    }

    /// Figures stand to the right.
    pub const fn is_figure(self) -> bool {
        matches!(
            self,
            Pid | Uid | Held | Age | Leases | Pins | Peak | Size | Inode
        )
    }

    /// What is shown without `-o`.
    pub const fn usual(subject: Subject) -> &'static [Self] {
        match subject {
            Subject::Zombies => &[
                Command, Pid, Kind, Mode, Cause, Age, Pins, Size, Consumer, Context, Dev, Inode,
                Path,
            ],
            Subject::Leases => &[
                Command, Pid, Kind, Mode, Age, Pins, Size, Consumer, Dev, Inode, Path, Holders,
            ],
            Subject::Stakes => &[
                Command, Pid, State, Kind, Mode, Age, Pins, Size, Consumer, Context, Dev, Inode,
                Path,
            ],
        }
    }

    /// Reads `-o`, see [`grid::Column::choose`].
    pub fn choose(typed: &str, subject: Subject) -> Result<Vec<Self>, Unknown> {
        <Self as grid::Column>::choose(typed, Self::usual(subject), &Self::ALL)
    }

    /// What stands in this column: `-` where it does not apply, `?` where it is not known.
    pub fn cell(self, entry: &Entry) -> String {
        let lease = entry.lease.as_ref();
        let absent = || "-".to_owned();
        let unknown = || "?".to_owned();
        match self {
            Command => comm(&entry.owner.process.comm),
            Pid => entry.owner.process.pid.to_string(),
            Uid => entry.owner.uid.map_or_else(unknown, |uid| uid.to_string()),
            Cgroup => {
                let path = entry.owner.cgroup.as_deref();
                path.map_or_else(unknown, |path| text::escape(path.as_bytes()))
            }
            Unit => word(entry.owner.unit.as_deref()),
            Container => word(entry.owner.container.as_deref()),
            State => entry.state.map_or_else(unknown, str::to_owned),
            Kind => lease.map_or_else(absent, |lease| lease.kind.name().to_owned()),
            Mode => lease.map_or_else(absent, |lease| lease.mode.to_owned()),
            Held => lease.map_or_else(absent, |lease| {
                lease.held_ms.map_or_else(unknown, text::age)
            }),
            Cause => entry.cause.map_or_else(absent, |cause| {
                let mark = if entry.ends_by_itself == Some(true) {
                    "*"
                } else {
                    ""
                };
                format!("{}{mark}", cause.name())
            }),
            Releaser => process(entry.releaser.as_ref()),
            Breaker => match (&entry.breaker, entry.breaking) {
                (None, Some(true)) => unknown(),
                (who, _) => process(who.as_ref()),
            },
            Age => entry.age_ms.map_or_else(unknown, text::age),
            Leases => entry.leases.map_or_else(absent, |count| count.to_string()),
            Pins => match (entry.pins, entry.vm_pin_bytes) {
                (Some(pins), _) => text::pins(pins, entry.doubtful),
                (None, Some(all)) => format!("?({})", text::size(all)),
                (None, None) => unknown(),
            },
            Peak => entry
                .peak_pins
                .map_or_else(unknown, |pins| pins.to_string()),
            Size => entry.size_bytes.map_or_else(unknown, text::size),
            Consumer => match (&entry.source.consumer, entry.pins) {
                (Some(name), _) => text::escape(name.as_bytes()),
                (None, Some(0)) => absent(),
                (None, _) => unknown(),
            },
            Context => text::context(&entry.source).unwrap_or_else(|| match entry.pins {
                Some(0) => absent(),
                _ => unknown(),
            }),
            Device => word(entry.source.device.as_deref()),
            Dev => entry.file.dev.map_or_else(unknown, |dev| dev.to_string()),
            Inode => entry.file.ino.map_or_else(unknown, |ino| ino.to_string()),
            Path => {
                let (path, note) = text::path(entry.file.path.as_ref());
                path + note
            }
            HeldBy => entry
                .held_by
                .as_ref()
                .map_or_else(absent, |who| format!("{}[{}]", comm(&who.comm), who.pid)),
            Holders => entry.holders.as_deref().map_or_else(unknown, |holders| {
                let each: Vec<_> = holders
                    .iter()
                    .map(|holder| {
                        let who = comm(&holder.process.comm);
                        match holder.fd {
                            Some(fd) => format!("{},{who},{fd}", holder.process.pid),
                            None => format!("{},{who},mem", holder.process.pid),
                        }
                    })
                    .collect();
                if each.is_empty() {
                    absent()
                } else {
                    each.join("\n")
                }
            }),
        }
    }
}

fn word(word: Option<&str>) -> String {
    word.map_or_else(|| "-".to_owned(), |word| text::escape(word.as_bytes()))
}

fn process(who: Option<&record::ProcessRef>) -> String {
    who.map_or_else(
        || "-".to_owned(),
        |who| format!("{},{}", who.pid, comm(&who.comm)),
    )
}

/// A process that is gone left no name.
fn comm(name: &str) -> String {
    if name.is_empty() {
        "?".to_owned()
    } else {
        text::escape(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_listed_once() {
        for (at, column) in Column::ALL.iter().enumerate() {
            assert_eq!(*column as usize, at);
        }
    }

    #[test]
    fn names_are_read_in_any_case() {
        let chosen = Column::choose("pid, Path", Subject::Zombies).expect("both exist");
        assert_eq!(chosen, [Pid, Path]);
    }

    #[test]
    fn a_plus_adds() {
        let chosen = Column::choose("+uid", Subject::Leases).expect("exists");
        assert_eq!(chosen.len(), Column::usual(Subject::Leases).len() + 1);
        assert_eq!(chosen.last(), Some(&Uid));
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let error = Column::choose("PID,GHOST", Subject::Zombies).expect_err("no such column");
        insta::assert_snapshot!(error, @r#"-o: there is no column "GHOST"; there are COMMAND, PID, UID, CGROUP, UNIT, CONTAINER, STATE, KIND, MODE, HELD, CAUSE, RELEASER, BREAKER, AGE, LEASES, PINS, PEAK, SIZE, CONSUMER, CONTEXT, DEVICE, DEV, INODE, PATH, HOLDERS, HELD-BY"#);
    }
}
