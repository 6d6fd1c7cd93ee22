//! The programs. aya has no type for `fmod_ret` and none for kprobe.multi, and looks each function up by
//! its name in all the kernel's types; so they are loaded here. Those that deny a call are in sections
//! `lsm/NAME`; each may be loaded as `fmod_ret` or for the BPF LSM, for any function with the arguments
//! it reads.

use std::{
    collections::HashMap,
    ffi::CString,
    io, mem,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    time::Instant,
};

use aya_obj::{Function, Object, ProgramSection, generated::bpf_insn};
use thiserror::Error as ThisError;

use super::{
    error::{Error, chain},
    logs,
    object::Purpose,
    own_maps::OwnMaps,
};
use crate::kernel::{
    bpf::{self, Kind, Types},
    link::{self, End},
};

/// The object with these programs, ready to be loaded.
pub struct RawObject {
    programs: HashMap<String, Program>,
    /// Programs of kprobes in the kernel, which are for any function.
    shared: HashMap<(String, Kind), OwnedFd>,
    license: CString,
    btf: OwnedFd,
    /// The instructions name these by number, so they stay open whatever becomes of the maps.
    _maps: HashMap<String, OwnedFd>,
}

/// A program with all functions that it calls.
struct Program {
    instructions: Vec<u64>,
    functions: Vec<u8>,
    lines: Vec<u8>,
}

/// Why a program is not in place.
#[derive(Debug, ThisError)]
pub enum Refusal {
    #[error("the object has no program {0}")]
    NoProgram(String),
    #[error(transparent)]
    Load(#[from] bpf::Refusal),
    #[error(transparent)]
    Attach(#[from] io::Error),
}

impl Refusal {
    /// EPERM, which concerns every program.
    pub fn is_eperm(&self) -> bool {
        let error = match self {
            Self::NoProgram(_) => return false,
            Self::Load(refusal) => &refusal.error,
            Self::Attach(error) => error,
        };
        error.raw_os_error() == Some(libc::EPERM)
    }
}

/// What judges by a policy. Where none can come into force nothing calls these functions, but the
/// kernel looks through all of a program before it knows that (on 7.x 25,000 instructions for each of
/// theirs, mostly to find out about the stack: kernel/bpf/liveness.c).
const JUDGES: [&str; 9] = [
    "enforce_judge",
    "enforce_prove",
    "enforce_bare",
    "enforce_is_bare",
    "enforce_orphan",
    "enforce_path_of_lease",
    "enforce_path_of_pins",
    "enforce_wait",
    "notes_note",
];
/// What tells of leases that are set and end, which is a sixth of the programs of leases.
const TELLS_OF_LEASES: [&str; 1] = ["lease_tell"];

impl RawObject {
    /// Of the object that these maps were made of, before any is taken out. Unless it judges, [`JUDGES`] are
    /// left out, and so are the programs that deny; unless it tells of leases, [`TELLS_OF_LEASES`] are.
    pub fn new(mut object: Object, own: &OwnMaps, purpose: Purpose) -> Result<Self, Error> {
        let btf = load_btf(&mut object)?;
        object.programs.retain(|_, program| {
            purpose.judges || !matches!(program.section, ProgramSection::Lsm { .. })
        });
        let mut left_out = Vec::new();
        if !purpose.judges {
            left_out.extend(JUDGES);
        }
        if !purpose.tells_of_leases {
            left_out.extend(TELLS_OF_LEASES);
        }
        if !logs::are_wanted() {
            left_out.push(logs::FUNCTION);
        }
        let maps = relocate(&mut object, own, &left_out)?;
        let programs = object
            .programs
            .iter()
            .filter_map(|(name, program)| {
                let function = object.functions.get(&program.function_key())?;
                Some((name.clone(), function.into()))
            })
            .collect();
        Ok(Self {
            programs,
            shared: HashMap::new(),
            license: object.license,
            btf,
            _maps: maps,
        })
    }

    /// Loads a program of a kprobe, which is for any function: once, however many want it.
    pub fn load_shared(&mut self, name: &str, kind: Kind) -> Result<Loaded, Refusal> {
        let key = (name.to_owned(), kind);
        if !self.shared.contains_key(&key) {
            let loaded = self.load(name, kind, 0)?;
            self.shared.insert(key.clone(), loaded.program);
        }
        let program = self.shared[&key].try_clone()?;
        Ok(Loaded { program })
    }

    /// Loads a program for the kernel function with this BTF id; 0 where it is for any.
    pub fn load(&self, name: &str, kind: Kind, function_id: u32) -> Result<Loaded, Refusal> {
        let begun = Instant::now();
        let program = self.programs.get(name);
        let Program {
            instructions,
            functions,
            lines,
        } = program.ok_or_else(|| Refusal::NoProgram(name.to_owned()))?;
        let program = bpf::load(&bpf::Program {
            kind,
            function_id,
            name,
            instructions,
            license: &self.license,
            types: Some(Types {
                btf: self.btf.as_fd(),
                functions,
                lines,
            }),
        })?;
        say_cost(name, begun, program.as_fd());
        Ok(Loaded { program })
    }
}

/// Tells the debug log what it took to load a program: a start is mostly this.
pub fn say_cost(name: &str, begun: Instant, program: BorrowedFd) {
    let took = begun.elapsed().as_micros();
    log::debug!("{name}: {took} us to load");
    if log::log_enabled!(log::Level::Debug)
        && let Ok(verified) = bpf::verified(program)
    {
        log::debug!("{name}: {verified} instructions verified");
    }
}

/// A program in the kernel, attached to nothing.
pub struct Loaded {
    program: OwnedFd,
}

impl Loaded {
    /// Attaches it to the function it was loaded for; `name` is the link's.
    pub fn attach(self, name: String) -> Result<Link, Refusal> {
        self.linked(name, bpf::attach)
    }

    /// Attaches it to this function with kprobe.multi.
    pub fn attach_multi(self, name: String, function: &str, end: End) -> Result<Link, Refusal> {
        self.linked(name, |program| link::multi(program, function, end))
    }

    /// Attaches it to this function with a kprobe of its own.
    pub fn attach_kprobe(self, name: String, function: &str, end: End) -> Result<Link, Refusal> {
        self.linked(name, |program| link::kprobe(program, function, end))
    }

    fn linked(
        self,
        name: String,
        attach: impl Fn(BorrowedFd) -> io::Result<OwnedFd>,
    ) -> Result<Link, Refusal> {
        let Self { program } = self;
        let attached = attach(program.as_fd())?;
        Ok(Link {
            name,
            attached,
            program,
        })
    }

    /// The program itself.
    pub fn into_program(self) -> OwnedFd {
        self.program
    }
}

/// An attached program. Dropping the link detaches it, unless it is pinned.
pub struct Link {
    name: String,
    attached: OwnedFd,
    program: OwnedFd,
}

impl Link {
    /// Keeps the program attached until the file is removed, whatever becomes of this process.
    pub fn pin(&self, directory: &Path) -> io::Result<()> {
        bpf::pin(self.attached.as_fd(), &directory.join(&self.name))
    }

    /// What keeps it attached.
    pub fn attached(&self) -> BorrowedFd<'_> {
        self.attached.as_fd()
    }

    /// What is attached, and the link's name.
    pub fn program(&self) -> (&str, BorrowedFd<'_>) {
        (&self.name, self.program.as_fd())
    }
}

impl From<&Function> for Program {
    fn from(function: &Function) -> Self {
        Self {
            instructions: function.instructions.iter().copied().map(word).collect(),
            functions: function.func_info.func_info_bytes(),
            lines: function.line_info.line_info_bytes(),
        }
    }
}

/// An instruction as the kernel reads it on a little-endian machine.
fn word(instruction: bpf_insn) -> u64 {
    u64::from(instruction.code)
        | u64::from(instruction.dst_reg()) << 8
        | u64::from(instruction.src_reg()) << 12
        | u64::from(instruction.off as u16) << 16
        | u64::from(instruction.imm as u32) << 32
}

/// Loads the object's own types. Without them the kernel takes no program whose functions are
/// checked one by one or handed to bpf_loop.
fn load_btf(object: &mut Object) -> Result<OwnedFd, Error> {
    let none = || Error::Load("this kernel takes no BTF from programs".to_owned());
    let features = aya::features().btf().ok_or_else(none)?;
    let btf = object
        .fixup_and_sanitize_btf(features)
        .map_err(|error| failed(&error))?
        .ok_or_else(|| Error::Load("it has no BTF".to_owned()))?;
    bpf::load_btf(&btf.to_bytes()).map_err(|error| failed(&error))
}

/// Puts the numbers of the maps into the instructions, and the functions called behind each
/// program; those that are left out as if they returned 0 at once.
fn relocate(
    object: &mut Object,
    own: &OwnMaps,
    left_out: &[&str],
) -> Result<HashMap<String, OwnedFd>, Error> {
    let defined = mem::take(&mut object.maps);
    // Every map, used or not: in place of one that is missing, another one would be taken.
    let maps = defined
        .keys()
        .map(|name| Ok((name.clone(), own.descriptor(name)?)))
        .collect::<Result<HashMap<_, _>, Error>>()?;
    let code = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let numbered = defined
        .iter()
        .map(|(name, map)| (name.as_str(), maps[name].as_raw_fd(), map));
    object
        .relocate_maps(numbered, &code)
        .map_err(|error| failed(&error))?;
    for function in object.functions.values_mut() {
        if left_out.contains(&function.name.as_str()) {
            empty(function);
        }
    }
    object
        .relocate_calls(&code)
        .map_err(|error| failed(&error))?;
    object.sanitize_functions(aya::features());
    Ok(maps)
}

/// Makes a function return 0, and do nothing else.
fn empty(function: &mut Function) {
    // r0 = 0; exit
    const BODY: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    function.instructions = aya_obj::copy_instructions(&BODY).unwrap_or_default();
    function.line_info.line_info.truncate(1);
    // No relocation is that far behind: those of the instructions that were here are not for these.
    function.section_offset = usize::MAX / 2;
}

fn failed(error: &dyn std::error::Error) -> Error {
    Error::Load(chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracer::object::OBJECT;

    #[test]
    fn what_is_left_out_is_in_the_object_and_does_nothing() {
        let mut object = Object::parse(OBJECT).expect("an object");
        let names = JUDGES.into_iter().chain(TELLS_OF_LEASES);
        for name in names.chain([logs::FUNCTION]) {
            let mut functions = object.functions.values_mut();
            let function = functions.find(|function| function.name == name);
            let function = function.unwrap_or_else(|| panic!("no {name}"));
            assert!(function.instructions.len() > 20, "{name}");
            empty(function);
            let words: Vec<u64> = function.instructions.iter().copied().map(word).collect();
            assert_eq!(words, [0xb7, 0x95], "{name}");
        }
    }

    #[test]
    fn an_instruction_keeps_its_bytes() {
        // r1 = *(u64 *)(r10 - 8); call 6
        let bytes = [
            0x79, 0xa1, 0xf8, 0xff, 0, 0, 0, 0, 0x85, 0, 0, 0, 6, 0, 0, 0,
        ];
        let instructions = aya_obj::copy_instructions(&bytes).expect("whole instructions");
        let words: Vec<u8> = instructions
            .into_iter()
            .flat_map(|instruction| word(instruction).to_le_bytes())
            .collect();
        assert_eq!(words, bytes);
    }
}
