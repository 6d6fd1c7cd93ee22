//! The reader against BTF written here by hand, as the format's documentation has it.

use super::*;

/// Writes BTF; types are numbered from 1 in the order of their calls.
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Writer {
    fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            count: 0,
        }
    }

    fn name(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn put(&mut self, name: &str, kind: u32, len: u32, size_or_type: u32, rest: &[u32]) -> u32 {
        let head = [self.name(name), kind << 24 | len, size_or_type];
        for word in head.iter().chain(rest) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    fn int(&mut self, name: &str) -> u32 {
        self.put(name, 1, 0, 8, &[64])
    }

    fn pointer(&mut self, to: u32) -> u32 {
        self.put("", KIND_PTR, 0, to, &[])
    }

    fn members(&mut self, name: &str, kind: u32, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let words: Vec<u32> = members
            .iter()
            .flat_map(|(member, of_type, bits)| [self.name(member), *of_type, *bits])
            .collect();
        self.put(name, kind, members.len() as u32, size, &words)
    }

    fn function(&mut self, name: &str, returns: u32, parameters: &[u32]) {
        let words: Vec<u32> = parameters.iter().flat_map(|of| [0, *of]).collect();
        let len = parameters.len() as u32;
        let proto = self.put("", KIND_FUNC_PROTO, len, returns, &words);
        self.put(name, KIND_FUNC, 1, proto, &[]);
    }

    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&0xeb9f_u16.to_le_bytes());
        bytes.extend_from_slice(&[1, 0]);
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [24, 0, types, types, strings] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend(self.types);
        bytes.extend(self.strings);
        bytes
    }
}

/// `struct inner { long a; long b; }`,
/// `struct outer { long first; union { struct inner in; long alias; }; const inner_t last; }`,
/// `enum { FLAG = 256 }`, `long take(struct outer **, const long)`.
fn sample() -> Btf {
    let mut writer = Writer::new();
    let long = writer.int("long int");
    let inner = writer.members("inner", KIND_STRUCT, 16, &[("a", long, 0), ("b", long, 64)]);
    let union = writer.members("", KIND_UNION, 16, &[("in", inner, 0), ("alias", long, 0)]);
    let typedef = writer.put("inner_t", KIND_TYPEDEF, 0, inner, &[]);
    let constant = writer.put("", KIND_CONST, 0, typedef, &[]);
    let outer = writer.members(
        "outer",
        KIND_STRUCT,
        40,
        &[("first", long, 0), ("", union, 64), ("last", constant, 192)],
    );
    let flag = writer.name("FLAG");
    writer.put("", KIND_ENUM, 1, 4, &[flag, 256]);
    let pointer = writer.pointer(outer);
    let pointers = writer.pointer(pointer);
    let const_long = writer.put("", KIND_CONST, 0, long, &[]);
    writer.function("take", long, &[pointers, const_long]);
    writer.function("nothing", 0, &[]);
    Btf::parse(writer.bytes()).expect("well-formed")
}

#[test]
fn fields_are_found_in_embedded_and_anonymous_members() {
    let btf = sample();
    let rows = [
        ("first", 0),
        ("in", 8),
        ("in.b", 16),
        ("alias", 8),
        ("last.b", 32),
    ];
    for (path, offset) in rows {
        assert_eq!(btf.offset("outer", path), Ok(offset), "{path}");
    }
    assert_eq!(btf.size_of("outer"), Ok(40));
}

#[test]
fn what_is_missing_is_named() {
    let btf = sample();
    let said = |path| btf.offset("outer", path).expect_err("missing").to_string();
    assert_eq!(
        said("in.c"),
        "this kernel's `struct outer` has no field `in.c`"
    );
    assert_eq!(
        btf.offset("nowhere", "a").expect_err("missing").to_string(),
        "this kernel's BTF has no `struct nowhere`"
    );
}

#[test]
fn enumerators_and_prototypes_are_read() {
    let btf = sample();
    assert_eq!(btf.enumerator("FLAG"), Some(256));
    assert_eq!(btf.enumerator("FLAGS"), None);
    assert_eq!(
        btf.prototype("take").as_deref(),
        Some("long int(struct outer **, const long int)")
    );
    assert_eq!(btf.prototype("nothing").as_deref(), Some("void()"));
    assert!(btf.has_function("take") && !btf.has_function("outer"));
}

#[test]
fn what_is_not_btf_is_refused() {
    let cut = |keep: usize| {
        let mut bytes = {
            let mut writer = Writer::new();
            writer.int("long int");
            writer.bytes()
        };
        bytes.truncate(keep);
        Btf::parse(bytes)
    };
    for keep in [0, 1, 12, 30] {
        assert!(
            matches!(cut(keep), Err(Error::Malformed(_))),
            "{keep} bytes"
        );
    }
}
