//! Texts made from the keys: docs/configuration.md and the annotated example docs/flowprobe.toml.

use std::fmt::Write as _;

use super::{
    keys::{Effect, KEYS, Key},
    section::Section,
};

const INTRODUCTION: &str = "\
# Configuration

Made from the code by `cargo xtask docs`; do not edit. `flowprobe` reads the TOML file that `--config` or
`FLOWPROBE_CONFIG` names, else /etc/flowprobe/flowprobe.toml if that is there.
`flowprobe daemon --check-config --config FILE` reads it and the files that it names, and says what it amounts to and what
it costs in series; exit code 1 if something is wrong. Every key may be left out. An option on the command line wins over
the environment, that over the file, and that over the default. [flowprobe.toml](flowprobe.toml) is an annotated example.

* What is not understood is refused with file, line and key, and nothing of the file is used. SIGHUP (`systemctl reload`,
  where the unit has `ExecReload=kill -HUP $MAINPID`) reads it again: with a broken file the old configuration stays, the
  log says why, and `flowprobe_config_last_reload_successful` is 0.
* Times have units: `500ms`, `5s`, `15m`, `1h 30m`, `7d`. Sizes may: `64Ki`, `4Mi` (1024), `10M` (1000).
";

const EXAMPLE: &str = "\
# flowprobe's configuration, annotated. Made from the code by `cargo xtask docs`.
# Lines that begin with `#` and a key show the default, or an example where there is none or it is
# empty: take the `#` away to set it.
# Check with: flowprobe daemon --check-config --config flowprobe.toml
";

/// Width of the example's comments.
const WIDTH: usize = 100;

/// The reference of all keys, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = INTRODUCTION.to_owned();
    for section in Section::ALL {
        let title = match section {
            Section::Top => "The daemon".to_owned(),
            _ => format!("`{}`", section.header()),
        };
        push(&mut out, format_args!("\n## {title}\n\n{}\n", section.help()));
        for key in of(section) {
            push(&mut out, format_args!("\n### `{}`\n\n{}\n\n", key.full_name(), key.help));
            push(&mut out, format_args!("* Takes: {}.\n", key.takes));
            match (key.default, key.name) {
                ("", "name") => {}
                ("", _) => out.push_str("* Default: none.\n"),
                (default, _) => push(&mut out, format_args!("* Default: `{default}`.\n")),
            }
            if !key.example.is_empty() {
                push(&mut out, format_args!("* Example: `{} = {}`.\n", key.name, key.example));
            }
            let effect = match key.effect {
                Effect::Reload => "at a reload",
                Effect::Restart => "at a restart",
            };
            push(&mut out, format_args!("* A change takes effect {effect}.\n"));
        }
    }
    out
}

/// The annotated example: all keys, none set.
#[must_use]
pub fn example() -> String {
    let mut out = EXAMPLE.to_owned();
    for section in Section::ALL {
        out.push('\n');
        comment(&mut out, section.help());
        if section == Section::Service {
            push(&mut out, format_args!("#{}\n", section.header()));
        } else if section != Section::Top {
            push(&mut out, format_args!("{}\n", section.header()));
        }
        for key in of(section) {
            out.push('\n');
            comment(&mut out, &format!("{} Takes: {}.", key.help, key.takes));
            let value = if key.example.is_empty() { key.default } else { key.example };
            push(&mut out, format_args!("#{} = {value}\n", key.name));
        }
    }
    out
}

fn of(section: Section) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// A paragraph of `# ` lines.
fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width == 0 || width + 1 + length > WIDTH {
            out.push_str(if width == 0 { "# " } else { "\n# " });
            width = 1;
        } else {
            out.push(' ');
        }
        out.push_str(word);
        width += 1 + length;
    }
    out.push('\n');
}

/// Writing to a String cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}
