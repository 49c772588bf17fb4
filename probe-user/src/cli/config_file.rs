//! The daemon's configuration file: TOML with the names of the options.
//!
//! A fault is told with file, line and key, and nothing of the file is used.

use std::{fs, path::Path, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use tracing::level_filters::LevelFilter;

use super::{Usage, daemon};
use crate::config::Listen;

/// What the file says; what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    #[serde(deserialize_with = "listen")]
    pub(super) listen: Option<Listen>,
    #[serde(deserialize_with = "sweep_period")]
    pub(super) sweep_period: Option<Duration>,
    #[serde(deserialize_with = "ring_size")]
    pub(super) ring_size: Option<u32>,
    #[serde(deserialize_with = "log_level")]
    pub(super) log: Option<LevelFilter>,
    pub(super) kernel_log: Option<bool>,
}

impl File {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| {
            Usage(format!("the configuration file {} cannot be read: {error}", path.display()))
        })?;
        Self::parse(&text).map_err(|fault| Usage(format!("{}:{fault}", path.display())).into())
    }

    /// The error is `line: key: what`.
    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            let before = text.get(..start).unwrap_or_default();
            let number = before.matches('\n').count() + 1;
            let line = text.lines().nth(number - 1).unwrap_or_default();
            let key = line.split_once('=').map_or(String::new(), |(key, _)| format!("{}: ", key.trim()));
            format!("{number}: {key}{}", error.message().trim().replace('\n', ", "))
        })
    }
}

fn listen<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Listen>, D::Error> {
    daemon::listen(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
}

fn sweep_period<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    daemon::sweep_period(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
}

fn log_level<'de, D: Deserializer<'de>>(from: D) -> Result<Option<LevelFilter>, D::Error> {
    daemon::log_level(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
}

fn ring_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a size is wanted, such as \"16Mi\" or 16777216")]
    enum Size {
        Number(u64),
        Text(String),
    }
    let text = match Size::deserialize(from)? {
        Size::Number(number) => number.to_string(),
        Size::Text(text) => text,
    };
    daemon::ring_size(&text).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = "# edge\nlisten = '[::]:10179'\nsweep_period = '2s'\nring_size = '1Mi'\nlog = 'warn'\nkernel_log = true\n";
        let file = File {
            listen: daemon::listen("[::]:10179").ok(),
            sweep_period: Some(Duration::from_secs(2)),
            ring_size: Some(1 << 20),
            log: Some(LevelFilter::WARN),
            kernel_log: Some(true),
        };
        assert_eq!(File::parse(text), Ok(file));
        assert_eq!(File::parse("ring_size = 65536").unwrap().ring_size, Some(65_536));
        assert_eq!(File::parse(""), Ok(File::default()));
    }

    #[test]
    fn faults_say_line_and_key() {
        for (text, says) in [
            ("\n\nsweep_period = '5'\n", "3: sweep_period: a time from 100ms to 10m is wanted"),
            ("listen = 5", "1: listen: invalid type: integer `5`, expected a string"),
            ("ring_size = '16M'", "1: ring_size: a power of two"),
            ("log = 'loud'", "1: log: one of error, warn"),
            ("ring_size = true", "1: ring_size: a size is wanted"),
            ("kernel_log = true\nsweep = '5s'", "2: sweep: unknown field `sweep`, expected one of"),
            ("listen", "1: "),
            ("[groups]", "1: "),
            ("listen = '127.0.0.1:1'\nlisten = '127.0.0.1:2'", "2: listen: duplicate key"),
        ] {
            let fault = File::parse(text).unwrap_err();
            assert!(fault.starts_with(says), "{text:?}: {fault}");
            assert_eq!(fault.lines().count(), 1, "{fault}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = File::read(Path::new("/nonexistent/flowprobe.toml")).unwrap_err();
        assert!(error.is::<Usage>());
        assert!(error.to_string().contains("/nonexistent/flowprobe.toml"), "{error}");
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(text in "(listen|ring_size|\\[|\\]|=|'|\"|\n|é|5|[\\x00-\\x7f]){0,30}") {
            let _ = File::parse(&text);
        }
    }
}
