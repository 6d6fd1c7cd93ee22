//! What he does next.

use std::fmt;

/// Numbers that nobody foresees and that come again with the same seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// One call.
#[derive(Debug)]
pub enum Call {
    /// By one of his processes: his first one, or its child.
    Client(String),
    /// His file gets another name, or a second one.
    Rename(&'static str, &'static str),
    Link(&'static str, &'static str),
    /// He sends a descriptor to somebody else's process, which closes it.
    Send(String),
    /// Somebody who keeps the rules does so.
    Innocent,
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(command) => formatter.write_str(command),
            Self::Rename(from, to) => write!(formatter, "rename {from} {to}"),
            Self::Link(from, to) => write!(formatter, "link {from} {to}"),
            Self::Send(command) => write!(formatter, "{command}; somebody else closes it"),
            Self::Innocent => formatter.write_str("somebody else keeps the rules"),
        }
    }
}

pub const FILES: [&str; 3] = ["one", "two", "three"];
const SLOTS: [&str; 3] = ["f", "g", "h"];
const MAPS: [&str; 2] = ["m", "n"];
const RINGS: [&str; 2] = ["r", "s"];

/// What can be done of which only some make sense at a time: the others fail, as they may.
const PLAIN: [&str; 48] = [
    "open SLOT FILE rw,creat,nonblock",
    "open SLOT FILE rw,creat,nonblock",
    "open SLOT FILE rw,creat,nonblock,cloexec",
    "open SLOT FILE ro,nonblock",
    "setlease SLOT w",
    "setlease SLOT w",
    "setlease SLOT w",
    "setlease SLOT w",
    "setlease SLOT w",
    "setlease SLOT r",
    "setlease SLOT u",
    "setlease SLOT u",
    "setlease-32 SLOT u",
    "setlease-x32 SLOT u",
    "setlease-wide SLOT u",
    "setdeleg SLOT r",
    "setdeleg SLOT u",
    "mmap MAP SLOT 64K shared rw",
    "mmap MAP SLOT 64K shared rw",
    "munmap MAP",
    "mremap MAP 4K",
    "mmap-over MAP 4K SLOT 4K shared rw",
    "uring RING",
    "register-buffers RING MAP",
    "register-buffers RING MAP",
    "register-buffers RING MAP",
    "register-buffers RING MAP 0 4K",
    "unregister-buffers RING",
    "unregister-buffers RING",
    "sparse-buffers RING 4",
    "update-buffer RING 1 MAP",
    "update-buffer RING 2 MAP 0 4K",
    "empty-buffer RING 1",
    "clone-buffers RING RING",
    "register-files RING SLOT",
    "unregister-files RING",
    "vm-read MAP",
    "close SLOT",
    "close SLOT",
    "close-32 SLOT",
    "close RING",
    "close_range SLOT SLOT",
    "dup SLOT SLOT",
    "dup2 SLOT SLOT",
    "thread close SLOT",
    "truncate SLOT 64K",
    "punch-hole SLOT 0 4K",
    "unlink FILE",
];

/// Seldom, since they end much, or one follows another.
const RARE: [&str; 8] = [
    "uring-close SLOT caller",
    "uring-close SLOT worker",
    "exec-self",
    "unshare-user",
    "comm another",
    "cloexec SLOT on",
    "truncate SLOT 4K",
    "thread munmap MAP",
];

/// Chooses calls.
pub struct Calls {
    chance: Chance,
    has_child: bool,
    has_thread: bool,
    /// Messages that are on their way.
    messages: u32,
    has_sockets: bool,
}

impl Calls {
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance(seed),
            has_child: false,
            has_thread: false,
            messages: 0,
            has_sockets: false,
        }
    }

    /// New processes.
    pub fn begin(&mut self) {
        (self.has_child, self.has_thread) = (false, false);
        (self.messages, self.has_sockets) = (0, false);
    }

    pub fn next(&mut self) -> Call {
        match self.chance.below(100) {
            0..80 => self.by_template(&PLAIN),
            80..86 => self.by_template(&RARE),
            86..90 => self.of_child(),
            90..92 => self.of_thread(),
            92..95 => self.of_message(),
            95 => Call::Rename(self.chance.pick(&FILES), self.chance.pick(&FILES)),
            96 => Call::Link(self.chance.pick(&FILES), self.chance.pick(&FILES)),
            97 => Call::Send(format!("send-fd {} parent", self.chance.pick(&SLOTS))),
            _ => Call::Innocent,
        }
    }

    /// What was tried went well, or not.
    pub fn heed(&mut self, command: &str, went_well: bool) {
        match command {
            "fork c" => self.has_child = went_well,
            "wait c" => self.has_child = false,
            "begin-own-table t" => self.has_thread = went_well,
            "finish t" => self.has_thread = false,
            "socketpair x y" => self.has_sockets = went_well,
            "exec-self" if went_well => {
                // What was in its memory is gone; its child reads an end of file.
                (self.has_child, self.has_thread) = (false, false);
                (self.messages, self.has_sockets) = (0, false);
            }
            _ if went_well && command.starts_with("send-fd ") => self.messages += 1,
            _ if command.starts_with("recv-fd ") => self.messages -= 1,
            _ => {}
        }
    }

    fn by_template(&mut self, templates: &[&str]) -> Call {
        let template = self.chance.pick(templates);
        let words = template.split(' ').map(|word| match word {
            "SLOT" => self.chance.pick(&SLOTS),
            "MAP" => self.chance.pick(&MAPS),
            "RING" => self.chance.pick(&RINGS),
            word => word,
        });
        let command = words.collect::<Vec<_>>().join(" ");
        // A program begins anew: its child would have nobody to speak to.
        let by_child = self.has_child && command != "exec-self" && self.chance.below(3) == 0;
        let who = if by_child { "c: " } else { "" };
        Call::Client(format!("{who}{command}"))
    }

    fn of_child(&mut self) -> Call {
        let command = match (self.has_child, self.chance.below(2)) {
            (false, _) => "fork c",
            (true, 0) => "kill c KILL",
            (true, _) => "c: exit 0",
        };
        Call::Client(command.to_owned())
    }

    fn of_thread(&mut self) -> Call {
        let command = if self.has_thread {
            "finish t"
        } else {
            "begin-own-table t"
        };
        Call::Client(command.to_owned())
    }

    fn of_message(&mut self) -> Call {
        let slot = self.chance.pick(&SLOTS);
        Call::Client(if !self.has_sockets {
            "socketpair x y".to_owned()
        } else if self.messages > 0 && self.chance.below(2) == 0 {
            format!("recv-fd {slot} y")
        } else {
            format!("send-fd {slot} x")
        })
    }
}
