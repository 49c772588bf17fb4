//! Where are the kernel's fields? Looks them up in the kernel's own description of its types (BTF).
//!
//! Done once, at start. Takes bytes, so that tests can give it a doctored description.

use anyhow::{Context as _, Result, anyhow, bail};
use probe_common::fields::{ABSENT, FIELD_COUNT, FIELDS, Field, FieldSpec, Places, place};

use self::types::{Head, Kind, TypeId, Types};

mod types;

/// The running kernel's description.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// A field as it was found.
#[derive(Clone, Debug)]
pub struct FieldStatus {
    /// Which.
    pub field: Field,
    /// Container and path, as `tcp_sock.srtt_us`.
    pub name: String,
    /// Nothing is measured without it.
    pub required: bool,
    /// Why it has no place; `None` when it has one.
    pub absent: Option<String>,
}

/// All fields of this kernel.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What the programs get.
    pub places: Places,
    /// The same in words.
    pub fields: Vec<FieldStatus>,
    /// Names of the BTF tracepoints that exist, of those asked for.
    pub tracepoints: Vec<String>,
}

impl Layout {
    /// Finds every field in a BTF description.
    ///
    /// # Errors
    /// The bytes are not BTF. A missing field is no error here: see [`Layout::complete`].
    pub fn from_btf(bytes: &[u8], tracepoints: &[&str]) -> Result<Self> {
        let types = Types::parse(bytes)
            .context("the kernel's BTF cannot be read; a kernel with CONFIG_DEBUG_INFO_BTF is needed")?;
        let containers: Vec<_> = FIELDS.iter().map(|(_, spec)| spec.container).collect();
        let containers = types.find(&containers, |kind| kind == Kind::Struct)?;
        let typedefs: Vec<_> = tracepoints.iter().map(|name| format!("btf_trace_{name}")).collect();
        let typedefs: Vec<_> = typedefs.iter().map(String::as_str).collect();
        let typedefs = types.find(&typedefs, |kind| kind == Kind::Typedef)?;
        let mut places = [ABSENT; FIELD_COUNT];
        let mut fields = Vec::with_capacity(FIELD_COUNT);
        for (field, spec) in FIELDS {
            let found = locate(&types, containers.get(spec.container).copied(), spec);
            if let Ok(place) = found {
                places[*field as usize] = place;
            }
            fields.push(FieldStatus {
                field: *field,
                name: format!("{}.{}", spec.container, spec.path),
                required: spec.required,
                absent: found.err().map(|e| format!("{e:#}")),
            });
        }
        let exists = |name: &&&str| typedefs.contains_key(&format!("btf_trace_{name}"));
        let tracepoints = tracepoints.iter().filter(exists).map(|name| (*name).to_owned()).collect();
        Ok(Self { places, fields, tracepoints })
    }

    /// # Errors
    /// A required field is absent; its name and the reason.
    pub fn complete(&self) -> Result<()> {
        match self.fields.iter().find_map(|f| Some((f, f.absent.as_ref().filter(|_| f.required)?))) {
            Some((field, why)) => {
                bail!("this kernel has no {} ({why}), which nothing can be measured without", field.name)
            }
            None => Ok(()),
        }
    }

    /// Whether the kernel has the field.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.places[field as usize] != ABSENT
    }
}

/// Bits from the container's start, bits wide (of a bitfield), and the member's type.
struct Found {
    bit_offset: u32,
    bits: Option<u32>,
    type_id: TypeId,
}

fn locate(types: &Types<'_>, container: Option<TypeId>, spec: &FieldSpec) -> Result<u32> {
    let container = container.ok_or_else(|| anyhow!("there is no struct {}", spec.container))?;
    let mut found = Found { bit_offset: 0, bits: None, type_id: container };
    for name in spec.path.split('.') {
        let body = body(types, found.type_id)?;
        let inner =
            member(types, body, name.as_bytes(), 0)?.ok_or_else(|| anyhow!("there is no member {name}"))?;
        found = Found { bit_offset: found.bit_offset + inner.bit_offset, ..inner };
    }
    let (byte, first_bit) = (found.bit_offset / 8, found.bit_offset % 8);
    match found.bits {
        Some(bits) if first_bit + bits <= 8 => place(byte, first_bit, bits),
        Some(bits) => bail!("its {bits} bits do not lie in one byte"),
        None => {
            let size = types.size(found.type_id)?;
            // The programs read a fixed width: another one would be another meaning.
            if size != spec.bytes {
                bail!("it has {size} bytes where {} were expected", spec.bytes);
            }
            place(byte, 0, 0)
        }
    }
    .ok_or_else(|| anyhow!("its offset of {byte} bytes is too large"))
}

/// The struct or union that a type is, or that an array is made of: an array stands for its first element.
fn body(types: &Types<'_>, type_id: TypeId) -> Result<Head> {
    let head = types.resolve(type_id)?;
    if head.kind == Kind::Array {
        return types.resolve(types.array(head)?.0);
    }
    Ok(head)
}

/// Anonymous structs in anonymous unions go two deep in the kernel.
const DEEPEST: u32 = 16;

/// Finds a member by name, through anonymous structs and unions.
fn member(types: &Types<'_>, of: Head, name: &[u8], depth: u32) -> Result<Option<Found>> {
    if !matches!(of.kind, Kind::Struct | Kind::Union) || depth > DEEPEST {
        return Ok(None);
    }
    for candidate in types.members(of) {
        let candidate = candidate?;
        if candidate.name == name {
            return Ok(Some(Found {
                bit_offset: candidate.bit_offset,
                bits: candidate.bits,
                type_id: candidate.type_id,
            }));
        }
        if candidate.name.is_empty()
            && let Ok(inner) = types.resolve(candidate.type_id)
            && let Some(found) = member(types, inner, name, depth + 1)?
        {
            return Ok(Some(Found { bit_offset: candidate.bit_offset + found.bit_offset, ..found }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_btf_are_refused() {
        assert!(Layout::from_btf(b"not a description of types", &[]).is_err());
        assert!(Layout::from_btf(&[], &[]).is_err());
    }

    #[test]
    fn a_description_that_is_cut_short_is_refused() {
        let bytes = std::fs::read(KERNEL_BTF).expect("a kernel with BTF");
        for part in [3, 8, 23, 24, 1000, bytes.len() / 2, bytes.len() - 1] {
            assert!(Layout::from_btf(&bytes[..part], &[]).is_err(), "{part}");
        }
    }

    #[test]
    fn this_kernel_has_every_required_field() {
        let bytes = std::fs::read(KERNEL_BTF).expect("a kernel with BTF");
        let layout = Layout::from_btf(&bytes, &["tcp_destroy_sock", "no_such_tracepoint"]).expect("BTF");
        layout.complete().expect("required fields");
        assert_eq!(layout.tracepoints, ["tcp_destroy_sock"]);
        assert!(layout.has(Field::CaState));
    }

    #[test]
    fn a_renamed_member_is_reported_by_its_name() {
        let mut bytes = std::fs::read(KERNEL_BTF).expect("a kernel with BTF");
        let name = b"\0total_retrans\0";
        let at = bytes.windows(name.len()).position(|w| w == name).expect("total_retrans");
        bytes[at + 1] = b'T';
        let layout = Layout::from_btf(&bytes, &[]).expect("BTF");
        let error = layout.complete().expect_err("a required field is gone").to_string();
        assert!(error.contains("tcp_sock.total_retrans"), "{error}");
    }
}
