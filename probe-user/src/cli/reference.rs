//! Pages of docs/ that are made from the code: the text of one to standard output.

use std::io::{self, Write as _};

use super::args::ReferencePage;
use crate::{config, export::reference};

pub(super) fn run(page: ReferencePage) -> anyhow::Result<()> {
    let text = match page {
        ReferencePage::Metrics => reference::markdown(),
        ReferencePage::Configuration => config::reference(),
        ReferencePage::Example => config::example(),
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}
