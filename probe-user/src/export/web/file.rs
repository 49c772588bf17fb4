//! The keys of a web configuration, as exporter-toolkit 0.16 documents them.
//!
//! A key that the toolkit knows and flowprobe does not is refused by name: some of them keep clients out, and one that is
//! read and not obeyed would let them in.

use std::{collections::BTreeMap, path::Path};

use axum::http::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::fault::Fault;

/// Header fields that may be set, and the values of those that have a list.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) tls_server_config: Option<Tls>,
    pub(super) http_server_config: Option<Http>,
    pub(super) basic_auth_users: Option<BTreeMap<String, String>>,
    rate_limit: Option<Unsupported>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) client_ca: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) client_ca_file: Option<String>,
    pub(super) client_auth_type: Option<ClientAuth>,
    pub(super) min_version: Option<Version>,
    pub(super) max_version: Option<Version>,
    pub(super) prefer_server_cipher_suites: Option<bool>,
    client_allowed_sans: Option<Unsupported>,
    cipher_suites: Option<Unsupported>,
    curve_preferences: Option<Unsupported>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    /// Read and of no effect: HTTP/1.1 is spoken alone, and a client that prefers HTTP/2 takes it.
    http2: Option<bool>,
    headers: BTreeMap<String, String>,
}

/// What is asked of clients' certificates: names of Go's tls.ClientAuthType.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum ClientAuth {
    #[default]
    #[serde(alias = "")]
    NoClientCert,
    RequestClientCert,
    #[serde(alias = "RequireClientCert")]
    RequireAnyClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "TLS12" => Ok(Self::Tls12),
            "TLS13" => Ok(Self::Tls13),
            other => Err(D::Error::custom(format!("TLS12 or TLS13 is wanted, not `{other}`"))),
        }
    }
}

/// A key of the toolkit that is not obeyed here.
#[derive(Debug)]
struct Unsupported;

impl<'de> Deserialize<'de> for Unsupported {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("a key that flowprobe does not support has a value here; remove it"))
    }
}

impl File {
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let line = bytes[..e.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
            Fault::at(path, line, "this is no UTF-8 text")
        })?;
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        // An empty file asks for nothing.
        let file: Option<Self> = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
            let line = e.location().map_or(1, |location| location.line());
            Fault::at(path, line, reason(&e))
        })?;
        let file = file.unwrap_or_default();
        debug_assert!(file.rate_limit.is_none());
        Ok(file)
    }
}

/// In one line and without the place, which stands before it.
fn reason(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].trim_end_matches([',', ':', ' ']).to_owned()
}

impl Tls {
    /// Whether it asks for TLS at all: a section of options alone does not.
    pub(super) fn is_enabled(&self) -> bool {
        debug_assert!(
            self.client_allowed_sans.is_none()
                && self.cipher_suites.is_none()
                && self.curve_preferences.is_none()
        );
        let texts =
            [&self.cert, &self.key, &self.client_ca, &self.cert_file, &self.key_file, &self.client_ca_file];
        texts.into_iter().any(|text| given(text).is_some()) || self.client_auth_type.is_some()
    }
}

/// A text that is there and not empty.
pub(super) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

impl Http {
    pub(super) fn headers(self, path: &Path) -> Result<Vec<(HeaderName, Option<HeaderValue>)>, Fault> {
        let field = |(name, value): (String, String)| {
            let Some((_, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
                let known = HEADERS.map(|(known, _)| known).join(", ");
                return Err(Fault::of(path, format!("the header `{name}` cannot be set; there are {known}")));
            };
            if !values.is_empty() && !values.contains(&value.as_str()) {
                let wanted = values.join(" or ");
                return Err(Fault::of(path, format!("{name}: {wanted} is wanted, not `{value}`")));
            }
            let named = HeaderName::from_bytes(name.as_bytes());
            let (Ok(named), Ok(field)) = (named, HeaderValue::from_str(&value)) else {
                return Err(Fault::of(path, format!("{name}: `{value}` cannot stand in a header")));
            };
            Ok((named, Some(field).filter(|field| !field.is_empty())))
        };
        self.headers.into_iter().map(field).collect()
    }
}
