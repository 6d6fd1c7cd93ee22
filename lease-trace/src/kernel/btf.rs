//! A reader of BTF (Documentation/bpf/btf.rst) for the few questions asked of it: offsets of
//! fields, values of enumerators, prototypes of functions.
//!
//! The data is scanned in place, since a kernel's BTF has more than 100,000 types and fewer than
//! a hundred of them matter here.

use std::{
    ffi::CStr,
    hash::{BuildHasher as _, RandomState},
    ops::Range,
    path::Path,
};

use hashbrown::HashTable;
use thiserror::Error;

/// Why a question could not be answered.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    #[error("cannot read {path}: {reason}")]
    Read { path: String, reason: String },
    #[error("{0}: not BTF of this byte order")]
    Malformed(&'static str),
    #[error("this kernel's BTF has no `struct {0}`")]
    NoType(String),
    #[error("this kernel's `struct {0}` has no field `{1}`")]
    NoField(String, String),
}

const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// The kernel's types.
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Byte offset of each type; types are numbered from 1.
    types: Vec<usize>,
    /// Structures and unions.
    structures: Names,
    functions: Names,
    /// Ids of enumerations.
    enumerations: Vec<u32>,
}

/// Ids of types by their names, which stay where they are: there are so many that copies of them
/// were most of what it took to read the types.
#[derive(Default)]
struct Names {
    ids: HashTable<u32>,
    hasher: RandomState,
}

const MAGIC: u16 = 0xeb9f;

/// Where the sections are.
struct Sections {
    types: Range<usize>,
    strings: Range<usize>,
}

impl Sections {
    /// Length of the header, in bytes.
    const HEADER: usize = 24;

    fn of(data: &[u8]) -> Result<Self, Error> {
        let bad = Error::Malformed;
        let word = |at: usize| {
            let bytes = data.get(at..at + 4).ok_or(bad("header"))?;
            let bytes = bytes.try_into().map_err(|_| bad("header"))?;
            Ok::<_, Error>(u32::from_le_bytes(bytes) as usize)
        };
        if data.get(..2) != Some(MAGIC.to_le_bytes().as_slice()) {
            return Err(bad("magic"));
        }
        let base = word(4)?;
        let section = |at| {
            let start = base + word(at)?;
            let end = start + word(at + 4)?;
            if end > data.len() {
                return Err(bad("section sizes"));
            }
            Ok(start..end)
        };
        Ok(Self {
            types: section(8)?,
            strings: section(16)?,
        })
    }
}

/// A type's head.
#[derive(Clone, Copy)]
struct Head {
    /// Byte offset of what follows the head.
    rest: usize,
    name: u32,
    kind: u32,
    len: u32,
    bitfields: bool,
    /// Size in bytes or id of the type referred to.
    size_or_type: u32,
}

impl Btf {
    /// The running kernel's.
    pub fn of_kernel() -> Result<Self, Error> {
        Self::read(Path::new("/sys/kernel/btf/vmlinux"))
    }

    pub fn read(path: &Path) -> Result<Self, Error> {
        let data = std::fs::read(path).map_err(|error| Error::Read {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Self::parse(data)
    }

    pub fn parse(data: Vec<u8>) -> Result<Self, Error> {
        let bad = Error::Malformed;
        let Sections { types, strings } = Sections::of(&data)?;
        let (first, end, strings) = (types.start, types.end, strings.start);
        let mut btf = Self {
            data,
            strings,
            types: Vec::new(),
            structures: Names::default(),
            functions: Names::default(),
            enumerations: Vec::new(),
        };
        let (mut structures, mut functions) = (Vec::new(), Vec::new());
        let mut at = first;
        while at < end {
            btf.types.push(at);
            let id = btf.types.len() as u32;
            let head = btf.head_at(at).ok_or(bad("type section"))?;
            match head.kind {
                KIND_STRUCT | KIND_UNION if head.name != 0 => structures.push(id),
                KIND_FUNC if head.name != 0 => functions.push(id),
                KIND_ENUM | KIND_ENUM64 => btf.enumerations.push(id),
                _ => {}
            }
            at = head.end();
        }
        btf.structures = Names::of(&btf, &structures);
        btf.functions = Names::of(&btf, &functions);
        Ok(btf)
    }

    /// These with the types of a module behind them, whose ids and strings go on where these end
    /// (Documentation/bpf/btf.rst, "split BTF").
    pub fn with_module(&self, module: &[u8]) -> Result<Self, Error> {
        let (own, its) = (Sections::of(&self.data)?, Sections::of(module)?);
        let types = [&self.data[own.types], &module[its.types]].concat();
        let strings = [&self.data[own.strings], &module[its.strings]].concat();
        let header = [
            u32::from(MAGIC) | 1 << 16,
            Sections::HEADER as u32,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ];
        let header = header.map(u32::to_le_bytes).concat();
        Self::parse([header, types, strings].concat())
    }

    /// Offset in bytes of a field; `path` may go through embedded structures (`"f_path.dentry"`)
    /// and finds members of anonymous ones by their own name.
    pub fn offset(&self, of: &str, path: &str) -> Result<u32, Error> {
        self.bits(of, path).map(|bits| bits / 8)
    }

    /// The same in bits, for a field that is but some.
    pub fn bits(&self, of: &str, path: &str) -> Result<u32, Error> {
        let no_field = || Error::NoField(of.to_owned(), path.to_owned());
        let mut id = self
            .structure(of)
            .ok_or_else(|| Error::NoType(of.to_owned()))?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, of_type) = self.member(id, name).ok_or_else(no_field)?;
            bits += offset;
            id = self.resolve(of_type);
        }
        Ok(bits)
    }

    /// Size in bytes of a structure.
    pub fn size_of(&self, name: &str) -> Result<u32, Error> {
        let id = self
            .structure(name)
            .ok_or_else(|| Error::NoType(name.to_owned()))?;
        self.head(id)
            .map(|head| head.size_or_type)
            .ok_or_else(|| Error::NoType(name.to_owned()))
    }

    /// Value of an enumerator, whatever enumeration it is in.
    pub fn enumerator(&self, name: &str) -> Option<u64> {
        self.enumerations.iter().find_map(|id| {
            let head = self.head(*id)?;
            let stride = if head.kind == KIND_ENUM { 8 } else { 12 };
            (0..head.len as usize)
                .map(|i| head.rest + i * stride)
                .find_map(|at| {
                    if !self.is_named(self.word(at)?, name) {
                        return None;
                    }
                    let low = u64::from(self.word(at + 4)?);
                    let high = if stride == 12 {
                        u64::from(self.word(at + 8)?)
                    } else {
                        0
                    };
                    Some(high << 32 | low)
                })
        })
    }

    /// C prototype of a function, spelled as in the source without parameter names.
    pub fn prototype(&self, function: &str) -> Option<String> {
        let func = self.head(self.function_id(function)?)?;
        let proto = self.head(func.size_or_type)?;
        if proto.kind != KIND_FUNC_PROTO {
            return None;
        }
        let parameters: Option<Vec<String>> = (0..proto.len as usize)
            .map(|i| Some(self.spell(self.word(proto.rest + i * 8 + 4)?)))
            .collect();
        Some(format!(
            "{}({})",
            self.spell(proto.size_or_type),
            parameters?.join(", ")
        ))
    }

    /// Whether BTF knows the function, so that a trampoline can be attached to it.
    pub fn has_function(&self, name: &str) -> bool {
        self.function_id(name).is_some()
    }

    /// Type id of a function.
    pub fn function_id(&self, name: &str) -> Option<u32> {
        self.functions.find(self, name)
    }

    /// Type id of a variable.
    pub fn variable_id(&self, name: &str) -> Option<u32> {
        let ids = 1..=self.types.len() as u32;
        ids.into_iter().find(|id| {
            self.head(*id)
                .is_some_and(|head| head.kind == KIND_VAR && self.is_named(head.name, name))
        })
    }

    /// Type id of a structure or union.
    pub fn structure(&self, name: &str) -> Option<u32> {
        self.structures.find(self, name)
    }

    /// Offset in bits and type of a member, looked for in anonymous members, too.
    fn member(&self, id: u32, name: &str) -> Option<(u32, u32)> {
        let head = self.head(id)?;
        if !matches!(head.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for i in 0..head.len as usize {
            let at = head.rest + i * 12;
            let (member_name, of_type) = (self.word(at)?, self.word(at + 4)?);
            let raw = self.word(at + 8)?;
            let bits = if head.bitfields {
                raw & 0x00ff_ffff
            } else {
                raw
            };
            if member_name == 0 {
                if let Some((inner, found)) = self.member(self.resolve(of_type), name) {
                    return Some((bits + inner, found));
                }
            } else if self.is_named(member_name, name) {
                return Some((bits, of_type));
            }
        }
        None
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> u32 {
        while let Some(head) = self.head(id) {
            match head.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = head.size_or_type;
                }
                _ => break,
            }
        }
        id
    }

    fn spell(&self, id: u32) -> String {
        let Some(head) = self.head(id) else {
            return "void".to_owned();
        };
        let name = || String::from_utf8_lossy(self.string(head.name)).into_owned();
        match head.kind {
            KIND_PTR => format!("{} *", self.spell(head.size_or_type)).replace("* *", "**"),
            KIND_STRUCT => format!("struct {}", name()),
            KIND_UNION => format!("union {}", name()),
            KIND_ENUM | KIND_ENUM64 => format!("enum {}", name()),
            KIND_CONST => format!("const {}", self.spell(head.size_or_type)),
            KIND_VOLATILE | KIND_RESTRICT | KIND_TYPE_TAG => self.spell(head.size_or_type),
            _ => name(),
        }
    }

    fn head(&self, id: u32) -> Option<Head> {
        self.head_at(*self.types.get((id as usize).checked_sub(1)?)?)
    }

    fn head_at(&self, at: usize) -> Option<Head> {
        let info = self.word(at + 4)?;
        Some(Head {
            rest: at + 12,
            name: self.word(at)?,
            kind: info >> 24 & 0x1f,
            len: info & 0xffff,
            bitfields: info >> 31 != 0,
            size_or_type: self.word(at + 8)?,
        })
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(
            self.data.get(at..at + 4)?.try_into().ok()?,
        ))
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        self.data
            .get(self.strings + offset as usize..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    fn name_of(&self, id: u32) -> &[u8] {
        self.head(id).map_or(b"", |head| self.string(head.name))
    }

    fn string(&self, offset: u32) -> &[u8] {
        let rest = self.data.get(self.strings + offset as usize..);
        let name = rest.and_then(|rest| CStr::from_bytes_until_nul(rest).ok());
        name.map(CStr::to_bytes).unwrap_or_default()
    }
}

impl Head {
    /// Where the type ends.
    fn end(&self) -> usize {
        const KIND_INT: u32 = 1;
        let len = self.len as usize;
        let extra = match self.kind {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => len * 12,
            KIND_ENUM | KIND_FUNC_PROTO => len * 8,
            _ => 0,
        };
        self.rest + extra
    }
}

impl Names {
    /// Of several with one name the last is kept.
    fn of(btf: &Btf, named: &[u32]) -> Self {
        let hasher = RandomState::new();
        let mut ids = HashTable::with_capacity(named.len());
        for id in named {
            let name = btf.name_of(*id);
            let entry = ids.entry(
                hasher.hash_one(name),
                |known| btf.name_of(*known) == name,
                |known| hasher.hash_one(btf.name_of(*known)),
            );
            *entry.or_insert(*id).get_mut() = *id;
        }
        Self { ids, hasher }
    }

    fn find(&self, btf: &Btf, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name.as_bytes());
        let found = self
            .ids
            .find(hash, |id| btf.name_of(*id) == name.as_bytes());
        found.copied()
    }
}

#[cfg(test)]
mod btf_tests;
