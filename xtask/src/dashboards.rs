//! `cargo xtask dashboards`: writes dashboards/*.json for Grafana from the descriptions beside this file, or checks that
//! they are fresh.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{step, workspace};

mod connections;
mod grafana;
mod loss;
mod networks;
mod overview;
mod probe;
mod promql;

use grafana::Dashboard;

/// Arguments of `cargo xtask dashboards`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if a file differs from its description
    #[arg(long)]
    check: bool,
}

/// The verb.
pub(crate) fn main(arguments: &Arguments) -> Result<()> {
    if arguments.check { check() } else { write() }
}

fn all() -> [Dashboard; 5] {
    [
        overview::dashboard(),
        networks::dashboard(),
        loss::dashboard(),
        connections::dashboard(),
        probe::dashboard(),
    ]
}

fn file(dashboard: &Dashboard) -> PathBuf {
    workspace::root().join("dashboards").join(format!("{}.json", dashboard.uid))
}

fn write() -> Result<()> {
    for dashboard in all() {
        workspace::write_if_changed(&file(&dashboard), &dashboard.text()?)?;
        step::say(&format!("{} is up to date", file(&dashboard).display()));
    }
    Ok(())
}

/// Fails if a committed file is not what its description says.
pub(crate) fn check() -> Result<()> {
    for dashboard in all() {
        let file = file(&dashboard);
        let present = fs::read_to_string(&file)
            .with_context(|| format!("{} is missing: cargo xtask dashboards", file.display()))?;
        if present != dashboard.text()? {
            bail!("{} differs from its description: run `cargo xtask dashboards`", file.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_files_are_what_the_descriptions_say() {
        check().unwrap();
        let names: BTreeSet<_> = all().iter().map(file).collect();
        for entry in fs::read_dir(workspace::root().join("dashboards")).unwrap() {
            let path = entry.unwrap().path();
            let is_known = names.contains(&path) || path.extension().is_none_or(|end| end != "json");
            assert!(is_known, "nothing describes {}", path.display());
        }
    }

    #[test]
    fn every_panel_says_what_it_shows_and_no_source_is_fixed() {
        for dashboard in all() {
            let mut titles = BTreeSet::new();
            for panel in dashboard.panels() {
                assert!(panel.description.ends_with('.'), "{}: {}", dashboard.uid, panel.title);
                assert!(!panel.queries.is_empty() && titles.insert(panel.title), "{}", panel.title);
            }
            let text = dashboard.text().unwrap();
            assert!(!text.contains("\"current\"") && text.contains("\"uid\": \"${datasource}\""));
        }
    }
}
