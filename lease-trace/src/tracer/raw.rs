//! The programs that deny a call. aya has no type for `fmod_ret`, so they are loaded here, from
//! the same object and with the maps that aya made. They are those in sections `lsm/NAME`; each
//! may be loaded as either [`Kind`], for any function with the arguments it reads.

use std::{
    collections::HashMap,
    ffi::CString,
    io, mem,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::{Btf, Ebpf, maps::Map};
use aya_obj::{Function, Object, ProgramSection, generated::bpf_insn};

use super::error::{Error, chain};
use crate::kernel::bpf::{self, Kind, Types};

/// The object with the programs of `lsm/NAME`, ready to be loaded.
pub struct RawObject {
    programs: HashMap<String, Program>,
    license: CString,
    btf: OwnedFd,
    /// The instructions name these by number, so they stay open whatever becomes of aya's.
    _maps: HashMap<String, OwnedFd>,
}

/// A program with all functions that it calls.
struct Program {
    instructions: Vec<u64>,
    functions: Vec<u8>,
    lines: Vec<u8>,
}

impl RawObject {
    /// Reads the object that `ebpf` was loaded from, before any map is taken out of it. What was
    /// set in the object's globals holds here, too: they are in those maps.
    pub fn new(object: &[u8], kernel: &Btf, ebpf: &Ebpf) -> Result<Self, Error> {
        let mut object = Object::parse(object).map_err(|error| failed(&error))?;
        let btf = load_btf(&mut object)?;
        object
            .relocate_btf(kernel)
            .map_err(|error| failed(&error))?;
        object.programs.retain(|_, program| {
            matches!(program.section, ProgramSection::Lsm { sleepable: false })
        });
        let maps = relocate(&mut object, ebpf)?;
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
            license: object.license,
            btf,
            _maps: maps,
        })
    }

    /// Loads a program for the kernel function with this BTF id; an error is the kernel's words.
    pub fn load(&self, program: &str, kind: Kind, function_id: u32) -> Result<Loaded, String> {
        let Program {
            instructions,
            functions,
            lines,
        } = self
            .programs
            .get(program)
            .ok_or_else(|| format!("the object has no program {program}"))?;
        bpf::load(&bpf::Program {
            kind,
            function_id,
            name: program,
            instructions,
            license: &self.license,
            types: Some(Types {
                btf: self.btf.as_fd(),
                functions,
                lines,
            }),
        })
        .map(Loaded)
        .map_err(|refusal| chain(&refusal))
    }
}

/// A program in the kernel, attached to nothing.
pub struct Loaded(OwnedFd);

impl Loaded {
    /// Attaches it to the function it was loaded for.
    pub fn attach(self) -> Result<Link, String> {
        let link = bpf::attach(self.0.as_fd()).map_err(|error| chain(&error))?;
        Ok(Link {
            link,
            program: self.0,
        })
    }
}

/// An attached program. Dropping the link detaches it, unless it is pinned.
pub struct Link {
    link: OwnedFd,
    program: OwnedFd,
}

impl Link {
    /// Keeps the program attached until the file is removed, whatever becomes of this process.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        bpf::pin(self.link.as_fd(), path)
    }

    /// What is attached.
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
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

/// Puts the numbers of aya's maps into the instructions, and the functions called behind each
/// program.
fn relocate(object: &mut Object, ebpf: &Ebpf) -> Result<HashMap<String, OwnedFd>, Error> {
    let defined = mem::take(&mut object.maps);
    // Every map, used or not: in place of one that is missing, another one would be taken.
    let maps = defined
        .keys()
        .map(|name| Ok((name.clone(), descriptor(ebpf, name)?)))
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
    object
        .relocate_calls(&code)
        .map_err(|error| failed(&error))?;
    object.sanitize_functions(aya::features());
    Ok(maps)
}

/// A descriptor of one of aya's maps; the globals are in maps named after their section.
fn descriptor(ebpf: &Ebpf, name: &str) -> Result<OwnedFd, Error> {
    let bad = |reason: &str| Error::maps("cannot share the map", name, reason);
    let map = ebpf.map(name).ok_or_else(|| bad("it was taken out"))?;
    let (Map::Array(map)
    | Map::HashMap(map)
    | Map::PerCpuArray(map)
    | Map::Queue(map)
    | Map::RingBuf(map)) = map
    else {
        return Err(bad("its type is not one of those expected"));
    };
    map.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| bad(&error.to_string()))
}

fn failed(error: &dyn std::error::Error) -> Error {
    Error::Load(chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

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
