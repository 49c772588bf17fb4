//! `flowprobe man`: one manual page with every verb, from the same words as `--help`.

use std::io::{self, Write as _};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::args::Cli;

pub(super) fn run() -> anyhow::Result<()> {
    Ok(io::stdout().write_all(page()?.as_bytes())?)
}

fn page() -> io::Result<String> {
    let mut whole = Cli::command();
    whole.build();
    let mut page = Vec::new();
    let man = Man::new(whole.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    for verb in whole.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        page.push_str(&section(verb)?);
    }
    let mut end = Vec::new();
    man.render_extra_section(&mut end)?;
    man.render_version_section(&mut end)?;
    page.push_str(&String::from_utf8_lossy(&end).replacen(".SH EXTRA", ".SH NOTES\n.nf", 1).replacen(
        ".SH VERSION",
        ".fi\n.SH VERSION",
        1,
    ));
    Ok(page)
}

/// The verb's own page as one section of the whole.
fn section(verb: &Command) -> io::Result<String> {
    let man = Man::new(verb.clone());
    let mut text = Vec::new();
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    man.render_extra_section(&mut text)?;
    let title = format!(".SH \"{}\"", verb.get_display_name().unwrap_or(verb.get_name()).to_uppercase());
    Ok(String::from_utf8_lossy(&text)
        .replacen(".SH SYNOPSIS", &title, 1)
        .replacen(".SH DESCRIPTION", ".PP", 1)
        .replacen(".SH OPTIONS", ".SS Options", 1)
        .replacen(".SH EXTRA", ".SS Notes\n.nf", 1)
        + ".fi\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_verb_and_the_filter_words() {
        let page = page().unwrap();
        for verb in ["DAEMON", "FLOWS", "WATCH", "CHECK", "COMPLETIONS", "MAN"] {
            assert!(page.contains(&format!("FLOWPROBE-{verb}\"")), "{verb}");
        }
        assert!(page.contains("reset_received"));
        assert!(!page.contains("METRICS"));
        assert_eq!(page.matches(".TH ").count(), 1);
    }
}
