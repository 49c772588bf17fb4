//! Values of keys: from TOML to what they mean, or what is wanted instead.

use std::{
    net::SocketAddr,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::SignedDuration;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use tracing::level_filters::LevelFilter;

use super::Listen;
use crate::{
    flow::{
        field::Unit,
        filter::{nearest, quantity},
    },
    networks::{Label, ListFile, check_name},
};

/// A value and where it stands.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// A value that is not what is wanted.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    pub(super) what: String,
}

pub(super) type Taken<T> = Result<T, Wrong>;

/// What a value is told to be instead.
pub(super) fn wrong<T>(value: &Value<'_>, what: impl Into<String>) -> Taken<T> {
    Err(Wrong { span: value.span(), what: what.into() })
}

fn kind(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// `wanted` with its article and an example: `a path, such as "/a"`.
pub(super) fn text<'a>(value: &'a Value<'_>, wanted: &str) -> Taken<&'a str> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        _ => wrong(value, format!("{wanted} is wanted, not {}", kind(value))),
    }
}

/// A text that a function understands, or says what is wanted.
pub(super) fn parsed<T>(
    value: &Value<'_>,
    wanted: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Taken<T> {
    parse(text(value, wanted)?).map_err(|what| Wrong { span: value.span(), what })
}

pub(super) fn boolean(value: &Value<'_>) -> Taken<bool> {
    match value.get_ref() {
        DeValue::Boolean(boolean) => Ok(*boolean),
        _ => wrong(value, format!("true or false is wanted, not {}", kind(value))),
    }
}

pub(super) fn integer(value: &Value<'_>, range: RangeInclusive<u32>) -> Taken<u32> {
    let number = match value.get_ref() {
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    number.and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number)).map_or_else(
        || wrong(value, format!("a whole number from {} to {} is wanted", range.start(), range.end())),
        Ok,
    )
}

pub(super) fn prefix_len(value: &Value<'_>, most: u8) -> Taken<u8> {
    integer(value, 0..=u32::from(most)).map(|len| u8::try_from(len).unwrap_or(most))
}

pub(super) fn array<'a, 'i>(
    value: &'a Value<'i>,
    wanted: &str,
) -> Taken<impl Iterator<Item = &'a Value<'i>>> {
    match value.get_ref() {
        DeValue::Array(array) => Ok(array.iter()),
        _ => wrong(value, format!("an array of {wanted} is wanted, not {}", kind(value))),
    }
}

pub(super) fn table<'a, 'i>(value: &'a Value<'i>) -> Option<&'a DeTable<'i>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// A path; a relative one begins at the folder of the configuration file.
pub(super) fn path(value: &Value<'_>, folder: &Path) -> Taken<PathBuf> {
    let text = text(value, "a path, such as \"/var/lib/flowprobe/file\",")?;
    if text.is_empty() || text.contains('\0') {
        return wrong(value, "a path is wanted; leave the key out if there is no file");
    }
    Ok(folder.join(text))
}

pub(super) fn listen(text: &str) -> Result<Listen, String> {
    let wanted = || {
        "an address and a port in numbers, or `unix:` and an absolute path, is wanted: \
         127.0.0.1:10179, [::1]:10179 or unix:/run/flowprobe/metrics.sock"
            .to_owned()
    };
    match text.strip_prefix("unix:") {
        // sockaddr_un has 108 bytes with the one that ends it.
        Some(path) if path.starts_with('/') && path.len() < 108 && !path.contains('\0') => {
            Ok(Listen::Unix(path.into()))
        }
        Some(_) => Err(wanted()),
        None => text.parse::<SocketAddr>().map(Listen::Tcp).map_err(|_| wanted()),
    }
}

/// A time between two, as `friendly` says: `from 1s to 1m, such as 5s,`.
pub(crate) fn duration(
    text: &str,
    range: RangeInclusive<Duration>,
    friendly: &str,
) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|time| Duration::try_from(time).ok())
        .filter(|time| range.contains(time))
        .ok_or_else(|| format!("a time {friendly} is wanted"))
}

/// The kernel takes powers of two of at least a page (ringbuf_map_alloc).
pub(super) fn ring_size(value: &Value<'_>) -> Taken<u32> {
    const WANTED: &str = "a power of two from 64Ki to 1Gi is wanted, such as \"16Mi\"";
    let bytes = match value.get_ref() {
        DeValue::Integer(_) => integer(value, 0..=u32::MAX).ok().map(f64::from),
        DeValue::String(text) => quantity::parse(text, Unit::Bytes, true).ok(),
        _ => None,
    };
    let bytes = bytes.filter(|bytes| bytes.fract() == 0.0 && (65_536.0..=1_073_741_824.0).contains(bytes));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
    match bytes.map(|bytes| bytes as u32).filter(|bytes| bytes.is_power_of_two()) {
        Some(bytes) => Ok(bytes),
        None => wrong(value, WANTED),
    }
}

pub(super) fn log_level(text: &str) -> Result<LevelFilter, String> {
    [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE]
        .into_iter()
        .find(|level| level.to_string() == text.to_ascii_lowercase())
        .ok_or_else(|| "one of error, warn, info, debug and trace is wanted".to_owned())
}

/// `443` or `"8000-8099"`.
pub(super) fn ports(value: &Value<'_>) -> Taken<RangeInclusive<u16>> {
    const WANTED: &str = "a port or a range is wanted, such as 443 or \"8000-8099\", from 1 to 65535";
    let port = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| is_number && *port != 0)
    };
    let range = match value.get_ref() {
        DeValue::Integer(_) => {
            integer(value, 1..=65_535).ok().and_then(|n| u16::try_from(n).ok()).map(|port| port..=port)
        }
        DeValue::String(text) => match text.split_once('-') {
            Some((first, last)) => {
                port(first.trim()).zip(port(last.trim())).map(|(first, last)| first..=last)
            }
            None => port(text).map(|port| port..=port),
        },
        _ => None,
    };
    range.filter(|range| !range.is_empty()).map_or_else(|| wrong(value, WANTED), Ok)
}

/// An array with something in it: an empty one would fit nothing, or all.
pub(super) fn some<'a, 'i>(value: &'a Value<'i>, what: &str) -> Taken<impl Iterator<Item = &'a Value<'i>>> {
    let mut values = array(value, what)?.peekable();
    if values.peek().is_none() {
        return wrong(value, format!("at least one of the {what} is wanted; leave the key out if all fit"));
    }
    Ok(values)
}

pub(super) fn label(value: &Value<'_>) -> Taken<Label> {
    let text = text(value, "a label, such as \"prefix\",")?;
    let names = Label::ALL.map(Label::as_str);
    Label::ALL.into_iter().find(|label| label.as_str() == text).map_or_else(
        || {
            wrong(
                value,
                match nearest(text, names) {
                    Some(near) => format!("there is no label of this name: did you mean `{near}`?"),
                    None => format!("there is no label of this name: there are {}", names.join(", ")),
                },
            )
        },
        Ok,
    )
}

pub(super) fn list_file(value: &Value<'_>, folder: &Path) -> Taken<ListFile> {
    const WANTED: &str = "a path, or { name = \"…\", file = \"…\" }, is wanted";
    let Some(table) = table(value) else {
        text(value, "a path, or { name = \"…\", file = \"…\" },")?;
        return Ok(ListFile { name: None, path: path(value, folder)? });
    };
    let (mut name, mut file) = (None, None);
    for (key, value) in table {
        match &**key.get_ref() {
            "name" => {
                let given = text(value, "a name, such as \"partner\",")?;
                check_name(given).map_err(|what| Wrong { span: value.span(), what })?;
                name = Some(given.into());
            }
            "file" => file = Some(path(value, folder)?),
            other => {
                let what = format!("unknown key `{}`: {WANTED}", other.chars().take(60).collect::<String>());
                return Err(Wrong { span: key.span(), what });
            }
        }
    }
    match file {
        Some(path) => Ok(ListFile { name, path }),
        None => wrong(value, format!("the file is missing: {WANTED}")),
    }
}
