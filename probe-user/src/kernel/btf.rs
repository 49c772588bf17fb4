//! Where are the kernel's fields? Looks them up in the kernel's own description of its types (BTF).
//!
//! Done once, at start. Takes bytes, so that tests can give it a doctored description.

use anyhow::{Context as _, Result, anyhow, bail};
use btf_rs::{Btf, Member, Struct, Type};
use probe_common::fields::{ABSENT, FIELD_COUNT, FIELDS, Field, FieldSpec, Places, place};

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
        let btf = Btf::from_bytes(bytes)
            .context("the kernel's BTF cannot be read; a kernel with CONFIG_DEBUG_INFO_BTF is needed")?;
        let mut places = [ABSENT; FIELD_COUNT];
        let mut fields = Vec::with_capacity(FIELD_COUNT);
        for (field, spec) in FIELDS {
            let found = locate(&btf, spec);
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
        let tracepoints = tracepoints
            .iter()
            .filter(|name| btf.resolve_ids_by_name(&format!("btf_trace_{name}")).is_ok())
            .map(|name| (*name).to_owned())
            .collect();
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
    type_id: Type,
}

fn locate(btf: &Btf, spec: &FieldSpec) -> Result<u32> {
    let container = btf
        .resolve_types_by_name(spec.container)
        .ok()
        .and_then(|types| types.into_iter().find(|t| matches!(t, Type::Struct(_))))
        .ok_or_else(|| anyhow!("there is no struct {}", spec.container))?;
    let mut found = Found { bit_offset: 0, bits: None, type_id: container };
    for name in spec.path.split('.') {
        let member =
            member(btf, &found.type_id, name)?.ok_or_else(|| anyhow!("there is no member {name}"))?;
        found = Found {
            bit_offset: found.bit_offset + member.bit_offset,
            bits: member.bits,
            type_id: member.type_id,
        };
    }
    let (byte, first_bit) = (found.bit_offset / 8, found.bit_offset % 8);
    match found.bits {
        Some(bits) if first_bit + bits <= 8 => place(byte, first_bit, bits),
        Some(bits) => bail!("its {bits} bits do not lie in one byte"),
        None => {
            let size = size_of_type(btf, &found.type_id)?;
            // The programs read a fixed width: another one would be another meaning.
            if size != spec.bytes {
                bail!("it has {size} bytes where {} were expected", spec.bytes);
            }
            place(byte, 0, 0)
        }
    }
    .ok_or_else(|| anyhow!("its offset of {byte} bytes is too large"))
}

/// Finds a member by name, through anonymous structs and unions; arrays stand for their first element.
fn member(btf: &Btf, of: &Type, name: &str) -> Result<Option<Found>> {
    let (Type::Struct(body) | Type::Union(body)) = resolve(btf, of.clone(), true)? else {
        return Ok(None);
    };
    for candidate in &body.members {
        let candidate_name = btf.resolve_name(candidate).unwrap_or_default();
        if candidate_name == name {
            return Ok(Some(Found {
                bit_offset: candidate.bit_offset(),
                bits: bits(candidate),
                type_id: btf.resolve_chained_type(candidate)?,
            }));
        }
        if candidate_name.is_empty()
            && let Some(inner) = member(btf, &btf.resolve_chained_type(candidate)?, name)?
        {
            return Ok(Some(Found { bit_offset: candidate.bit_offset() + inner.bit_offset, ..inner }));
        }
    }
    Ok(None)
}

fn bits(member: &Member) -> Option<u32> {
    member.bitfield_size().filter(|bits| *bits > 0)
}

/// Strips names and qualifiers; `through_arrays` gives an array's element.
fn resolve(btf: &Btf, mut of: Type, through_arrays: bool) -> Result<Type> {
    loop {
        of = match &of {
            Type::Typedef(t) | Type::TypeTag(t) => btf.resolve_chained_type(t)?,
            Type::Volatile(t) | Type::Const(t) | Type::Restrict(t) => btf.resolve_chained_type(t)?,
            // btf-rs does not say an array's element type by the common trait alone.
            Type::Array(a) if through_arrays => btf.resolve_chained_type(a)?,
            _ => return Ok(of),
        };
    }
}

fn size_of_type(btf: &Btf, of: &Type) -> Result<u32> {
    let size = match resolve(btf, of.clone(), false)? {
        Type::Int(t) => t.size(),
        Type::Enum(t) => t.size(),
        Type::Ptr(_) => 8,
        Type::Struct(t) | Type::Union(t) => Struct::size(&t),
        Type::Array(a) => a.len() * size_of_type(btf, &btf.resolve_chained_type(&a)?)? as usize,
        other => bail!("it is of the unexpected kind {}", other.name()),
    };
    Ok(u32::try_from(size)?)
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
