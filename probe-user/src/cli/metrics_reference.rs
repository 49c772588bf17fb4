//! `flowprobe metrics-reference`: the text of `docs/metrics.md`, from the same tables as the metrics.

use std::io::{self, Write as _};

use crate::export::reference;

pub(super) fn run() -> anyhow::Result<()> {
    Ok(io::stdout().write_all(reference::markdown().as_bytes())?)
}
