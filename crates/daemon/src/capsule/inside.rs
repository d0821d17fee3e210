//! How does one see what a module keeps to itself?
//!
//! By giving it more exports. Which memories and globals a module has is written in it, and whether others may see
//! them is a list of names: so the list is made longer, and the rest of the file is left as it is. The stack of a
//! program in C or Rust lies in a memory, with its top in a global, and both are exported that way.
//!
//! What could change and cannot be seen is refused: tables that are written to, references in globals, segments that
//! are dropped. No compiler of C or Rust makes them today.

use wasmparser::{BinaryReaderError, ExternalKind, Operator, Parser, Payload, TypeRef};

/// A module of which everything that can change is exported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) bytes: Vec<u8>,
    /// Names of its memories, in order.
    pub(super) memories: Vec<String>,
    /// Names of its mutable globals, in order.
    pub(super) globals: Vec<String>,
}

/// Why a module stays shut.
#[derive(Debug, thiserror::Error)]
pub(super) enum Shut {
    #[error("{0}")]
    Invalid(#[from] BinaryReaderError),
    #[error("it {0}, which could not be seen from outside")]
    Unseen(&'static str),
}

/// In front of the names that are added; no compiler gives such ones.
const PREFIX: &str = "cosmos inside:";

/// Of sections.
const EXPORTS: u8 = 7;
/// Of exports.
const MEMORY: u8 = 2;
const GLOBAL: u8 = 3;

/// Whether a module exports a function of that name.
pub(super) fn exports(bytes: &[u8], name: &str) -> bool {
    let payloads = Parser::new(0).parse_all(bytes);
    let mut sections = payloads.filter_map(|payload| match payload {
        Ok(Payload::ExportSection(section)) => Some(section),
        _ => None,
    });
    let is_it =
        |export: wasmparser::Export<'_>| export.kind == ExternalKind::Func && export.name == name;
    sections.any(|section| section.into_iter().flatten().any(is_it))
}

pub(super) fn open(bytes: &[u8]) -> Result<Open, Shut> {
    let (mut memories, mut globals, mut count) = (0, Vec::new(), 0_u32);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    match import?.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => {}
                        _ => return Err(Shut::Unseen("imports more than functions")),
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    if memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
                        return Err(Shut::Unseen(
                            "has memory that is shared, wide or finely paged",
                        ));
                    }
                    memories += 1;
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let ty = global?.ty;
                    if ty.mutable {
                        if ty.shared || ty.content_type.is_reference_type() {
                            return Err(Shut::Unseen("has references in globals"));
                        }
                        globals.push(count);
                    }
                    count += 1;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.name.starts_with(PREFIX) {
                        return Err(Shut::Unseen("has names that are added to others"));
                    }
                    if export.kind == ExternalKind::Table {
                        return Err(Shut::Unseen("shows its tables"));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                let mut operators = body.get_operators_reader()?;
                while !operators.eof() {
                    match operators.read()? {
                        Operator::TableSet { .. }
                        | Operator::TableGrow { .. }
                        | Operator::TableFill { .. }
                        | Operator::TableCopy { .. }
                        | Operator::TableInit { .. } => {
                            return Err(Shut::Unseen("writes to tables"));
                        }
                        Operator::DataDrop { .. } | Operator::ElemDrop { .. } => {
                            return Err(Shut::Unseen("drops segments"));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let named = |what: &str, index: u32| format!("{PREFIX} {what} {index}");
    let memories: Vec<_> = (0..memories).map(|index| named("memory", index)).collect();
    let names: Vec<_> = globals
        .iter()
        .map(|index| named("global", *index))
        .collect();
    let more = memories
        .iter()
        .zip(0..)
        .map(|(name, index)| (name, MEMORY, index));
    let more = more.chain(
        names
            .iter()
            .zip(&globals)
            .map(|(name, index)| (name, GLOBAL, *index)),
    );
    Ok(Open {
        bytes: with_exports(bytes, more.collect()).ok_or(Shut::Unseen("exports nothing"))?,
        memories,
        globals: names,
    })
}

/// The module with more behind its list of exports; `None` if there is none.
fn with_exports(bytes: &[u8], more: Vec<(&String, u8, u32)>) -> Option<Vec<u8>> {
    /// Magic and version.
    const HEADER: usize = 8;
    let (mut made, mut rest) = bytes
        .split_at_checked(HEADER)
        .map(|(a, b)| (a.to_vec(), b))?;
    let mut found = false;
    while let Some((&id, behind)) = rest.split_first() {
        let (length, behind) = number(behind)?;
        let (section, behind) = behind.split_at_checked(length as usize)?;
        if id == EXPORTS {
            found = true;
            let (count, entries) = number(section)?;
            let mut longer = Vec::new();
            put(&mut longer, count + u32::try_from(more.len()).ok()?);
            longer.extend_from_slice(entries);
            for (name, kind, index) in &more {
                put(&mut longer, u32::try_from(name.len()).ok()?);
                longer.extend_from_slice(name.as_bytes());
                longer.push(*kind);
                put(&mut longer, *index);
            }
            made.push(id);
            put(&mut made, u32::try_from(longer.len()).ok()?);
            made.extend(longer);
        } else {
            made.extend_from_slice(&rest[..rest.len() - behind.len()]);
        }
        rest = behind;
    }
    found.then_some(made)
}

/// An unsigned number in LEB128, and what is behind it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0_u64;
    for (place, byte) in bytes.iter().enumerate().take(5) {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(number).ok()?, &bytes[place + 1..]));
        }
    }
    None
}

fn put(to: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_change_is_exported_and_the_rest_is_as_it_was() {
        let module = wat::parse_str(
            r#"(module
              (memory 1) (memory 2)
              (global $fixed i32 (i32.const 1))
              (global $top (mut i32) (i32.const 2))
              (global $wide (mut i64) (i64.const 3))
              (func (export "on_event") (global.set $top (i32.const 9))))"#,
        )
        .unwrap();
        let open = open(&module).unwrap();
        assert_eq!(
            open.memories,
            ["cosmos inside: memory 0", "cosmos inside: memory 1"]
        );
        assert_eq!(
            open.globals,
            ["cosmos inside: global 1", "cosmos inside: global 2"]
        );
        let engine = wasmtime::Engine::default();
        let before = wasmtime::Module::new(&engine, &module).unwrap();
        let after = wasmtime::Module::new(&engine, &open.bytes).unwrap();
        assert_eq!((before.exports().len(), after.exports().len()), (1, 5));
        assert!(after.get_export("on_event").is_some());
    }

    #[test]
    fn what_could_change_unseen_is_refused() {
        for (text, because) in [
            (
                r#"(module (import "a" "b" (memory 1)))"#,
                "imports more than functions",
            ),
            (
                r#"(module (table 1 funcref) (func (export "f") (table.set (i32.const 0) (ref.null func))))"#,
                "writes to tables",
            ),
            (
                r#"(module (table (export "t") 1 funcref))"#,
                "shows its tables",
            ),
            (
                r#"(module (global (mut externref) (ref.null extern)) (func (export "f")))"#,
                "has references in globals",
            ),
            (
                r#"(module (memory 1) (data $d "x") (func (export "f") (data.drop $d)))"#,
                "drops segments",
            ),
            ("(module (memory 1))", "exports nothing"),
        ] {
            let said = open(&wat::parse_str(text).unwrap())
                .unwrap_err()
                .to_string();
            assert!(said.contains(because), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_put(number_put: u32, behind in proptest::collection::vec(any::<u8>(), 0..3)) {
            let mut bytes = Vec::new();
            put(&mut bytes, number_put);
            bytes.extend(&behind);
            prop_assert_eq!(number(&bytes), Some((number_put, &behind[..])));
        }

        #[test]
        fn anything_is_opened_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), module: bool) {
            let header: &[u8] = if module { b"\0asm\x01\0\0\0" } else { b"" };
            let _ = open(&[header, &bytes].concat());
            let _ = with_exports(&[header, &bytes].concat(), Vec::new());
        }
    }
}
