//! Reads BTF: the kernel's description of its types (Documentation/bpf/btf.rst).
//!
//! Borrows the bytes and makes one table of offsets, so that a description of six megabytes costs one pass and 4 bytes a
//! type. Every read is checked; a broken description is an error, never a panic. Native byte order only: it is the running
//! kernel's.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};

const MAGIC: u16 = 0xeb9f;

/// A type's number; 0 is void.
pub(super) type TypeId = u32;

/// Kinds that matter here (enum in include/uapi/linux/btf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Enum64,
    Typedef,
    /// const, volatile, restrict, type tag.
    Qualifier,
    Other,
}

/// A type's head; what follows it is read on demand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// Offset of the name.
    name: u32,
    /// Members, enumerators, parameters that follow.
    count: u32,
    bitfields: bool,
    /// Size in bytes or the type referred to, by kind.
    size_or_type: u32,
    /// Where the rest starts in the type section.
    rest: usize,
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) name: &'a [u8],
    pub(super) type_id: TypeId,
    pub(super) bit_offset: u32,
    /// Width of a bitfield.
    pub(super) bits: Option<u32>,
}

/// A description.
pub(super) struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset of each type's head; type 1 is first.
    heads: Vec<u32>,
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let four = bytes.get(at..at + 4).context("it ends too early")?;
    Ok(u32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
}

impl<'a> Types<'a> {
    /// # Errors
    /// The bytes are not a whole description, or hold a kind of type that is not known.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let head = bytes.get(..4).context("it ends too early")?;
        if u16::from_ne_bytes([head[0], head[1]]) != MAGIC {
            bail!("it does not start as BTF does");
        }
        let body = bytes.get(word(bytes, 4)? as usize..).context("its head is longer than all of it")?;
        let section = |offset: u32, length: u32| {
            body.get(offset as usize..)
                .and_then(|s| s.get(..length as usize))
                .context("a section is cut short")
        };
        let types = section(word(bytes, 8)?, word(bytes, 12)?)?;
        let strings = section(word(bytes, 16)?, word(bytes, 20)?)?;
        let mut parsed = Self { types, strings, heads: Vec::new() };
        let mut at = 0;
        while at < types.len() {
            parsed.heads.push(u32::try_from(at)?);
            at = parsed.end_of(at)?;
        }
        Ok(parsed)
    }

    /// Where the type that starts at `at` ends.
    fn end_of(&self, at: usize) -> Result<usize> {
        let info = word(self.types, at + 4)?;
        let count = (info & 0xffff) as usize;
        // BTF_KIND_*: what follows the twelve bytes that all types have.
        let rest = match info >> 24 & 0x1f {
            2 | 7..=12 | 16 | 18 => 0, // pointer, forward, typedef, qualifiers, function, float, type tag
            1 | 14 | 17 => 4,          // int, variable, declaration tag
            3 => 12,                   // array
            4 | 5 | 15 | 19 => 12 * count, // struct, union, section, 64-bit enum
            6 | 13 => 8 * count,       // enum, prototype
            kind => bail!("it has types of kind {kind}, which are newer than this program"),
        };
        Ok(at + 12 + rest)
    }

    pub(super) fn head(&self, id: TypeId) -> Result<Head> {
        let index = (id as usize).checked_sub(1).context("void has no description")?;
        let at = *self.heads.get(index).with_context(|| format!("there is no type {id}"))? as usize;
        let info = word(self.types, at + 4)?;
        let kind = match info >> 24 & 0x1f {
            1 => Kind::Int,
            2 => Kind::Pointer,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            8 => Kind::Typedef,
            9..=11 | 18 => Kind::Qualifier,
            19 => Kind::Enum64,
            _ => Kind::Other,
        };
        Ok(Head {
            kind,
            name: word(self.types, at)?,
            count: info & 0xffff,
            bitfields: info >> 31 == 1,
            size_or_type: word(self.types, at + 8)?,
            rest: at + 12,
        })
    }

    fn string(&self, offset: u32) -> Result<&'a [u8]> {
        let from = self.strings.get(offset as usize..).context("a name lies outside")?;
        let end = from.iter().position(|b| *b == 0).context("a name does not end")?;
        Ok(&from[..end])
    }

    /// The first type of each of these names that is of a kind accepted by `wanted`.
    pub(super) fn find(
        &self,
        names: &[&str],
        wanted: impl Fn(Kind) -> bool,
    ) -> Result<HashMap<String, TypeId>> {
        let mut found = HashMap::new();
        for id in 1..=u32::try_from(self.heads.len())? {
            let head = self.head(id)?;
            if head.name == 0 || !wanted(head.kind) {
                continue;
            }
            let name = self.string(head.name)?;
            if let Some(name) = names.iter().find(|n| n.as_bytes() == name) {
                found.entry((*name).to_owned()).or_insert(id);
            }
        }
        Ok(found)
    }

    /// Members of a struct or union.
    pub(super) fn members(&self, of: Head) -> impl Iterator<Item = Result<Member<'a>>> {
        (0..of.count as usize).map(move |i| {
            let at = of.rest + 12 * i;
            let offset = word(self.types, at + 8)?;
            let (bit_offset, bits) =
                if of.bitfields { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            Ok(Member {
                name: self.string(word(self.types, at)?)?,
                type_id: word(self.types, at + 4)?,
                bit_offset,
                bits: (bits > 0).then_some(bits),
            })
        })
    }

    /// The type behind names and qualifiers.
    pub(super) fn resolve(&self, mut id: TypeId) -> Result<Head> {
        // A description that refers to itself would never end.
        for _ in 0..64 {
            let head = self.head(id)?;
            match head.kind {
                Kind::Typedef | Kind::Qualifier => id = head.size_or_type,
                _ => return Ok(head),
            }
        }
        bail!("a type refers to itself")
    }

    /// Element type and number of elements of an array.
    pub(super) fn array(&self, of: Head) -> Result<(TypeId, u32)> {
        Ok((word(self.types, of.rest)?, word(self.types, of.rest + 8)?))
    }

    /// Size of a value, in bytes.
    pub(super) fn size(&self, id: TypeId) -> Result<u32> {
        let head = self.resolve(id)?;
        match head.kind {
            Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 => Ok(head.size_or_type),
            Kind::Pointer => Ok(8),
            Kind::Array => {
                let (element, count) = self.array(head)?;
                self.size(element)?.checked_mul(count).context("an array is too large")
            }
            _ => bail!("it has no size"),
        }
    }
}
