//! From the text to the configuration: which keys it has, and all that is wrong with them.

use std::{collections::BTreeMap, ops::Range, path::Path};

use toml::de::{DeTable, DeValue};

use super::{
    Config, Fault,
    keys::{self, Draft},
    relations,
    section::Section,
    services::Service,
};
use crate::flow::filter::nearest;

/// Longest part of a foreign text in a message.
const SHOWN: usize = 60;

/// Where in the text each key that was set stands; of services those of the last.
pub(super) type Places = BTreeMap<String, Range<usize>>;

/// Collects what is wrong.
pub(super) struct Faults<'a> {
    text: &'a str,
    path: &'a Path,
    found: Vec<(usize, Fault)>,
}

impl Faults<'_> {
    pub(super) fn add(
        &mut self,
        span: Option<&Range<usize>>,
        key: impl Into<String>,
        what: impl Into<String>,
    ) {
        let start = span.map_or(0, |span| span.start).min(self.text.len());
        let before = self.text.as_bytes().get(..start).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let fault = Fault {
            path: self.path.to_owned(),
            line: span.map(|_| line),
            key: key.into(),
            what: what.into(),
        };
        self.found.push((start, fault));
    }
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Config, Vec<Fault>> {
    let mut faults = Faults { text, path, found: Vec::new() };
    let mut draft =
        Draft { config: Config::default(), folder: path.parent().unwrap_or_else(|| Path::new("")) };
    match DeTable::parse(text) {
        Ok(table) => read(table.get_ref(), &mut draft, &mut faults),
        Err(error) => {
            let what = error.message().trim().replace('\n', ", ");
            faults.add(
                Some(&error.span().unwrap_or_default()),
                "",
                format!("this is no TOML here: {what}; write `key = value`, text in quotes"),
            );
        }
    }
    if faults.found.is_empty() {
        return Ok(draft.config);
    }
    faults.found.sort_by_key(|(start, _)| *start);
    Err(faults.found.into_iter().map(|(_, fault)| fault).collect())
}

fn read(table: &DeTable<'_>, draft: &mut Draft<'_>, faults: &mut Faults<'_>) {
    let mut places = Places::new();
    for (key, value) in table {
        let name = &**key.get_ref();
        let section = Section::ALL.into_iter().find(|section| !name.is_empty() && section.name() == name);
        match (section, value.get_ref()) {
            (None, _) => read_key(Section::Top, (name, &key.span()), value, draft, (&mut places, faults)),
            (Some(Section::Service), DeValue::Array(array)) => {
                for service in array {
                    match service.get_ref() {
                        DeValue::Table(table) => {
                            draft.config.services.push(Service::default());
                            let mut own = Places::new();
                            read_keys(Section::Service, table, draft, (&mut own, faults));
                            // An array that is written out, not with [[service]], has the place of its table.
                            relations::check_service(&draft.config.services, &own, &service.span(), faults);
                        }
                        _ => faults.add(
                            Some(&service.span()),
                            name,
                            "a table is wanted: write [[service]] and its keys below it",
                        ),
                    }
                }
            }
            (Some(Section::Service), _) => {
                faults.add(
                    Some(&key.span()),
                    name,
                    "write [[service]] with two brackets: there can be several",
                );
            }
            (Some(section), DeValue::Table(table)) => read_keys(section, table, draft, (&mut places, faults)),
            (Some(section), _) => {
                faults.add(
                    Some(&key.span()),
                    name,
                    format!("this is a section: write {} and its keys below it", section.header()),
                );
            }
        }
    }
    if faults.found.is_empty() {
        relations::check(&draft.config, &places, faults);
    }
}

fn read_keys(
    section: Section,
    table: &DeTable<'_>,
    draft: &mut Draft<'_>,
    (places, faults): (&mut Places, &mut Faults<'_>),
) {
    for (key, value) in table {
        read_key(section, (key.get_ref(), &key.span()), value, draft, (places, faults));
    }
}

fn read_key(
    section: Section,
    (name, span): (&str, &Range<usize>),
    value: &super::value::Value<'_>,
    draft: &mut Draft<'_>,
    (places, faults): (&mut Places, &mut Faults<'_>),
) {
    let shown: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).take(SHOWN).collect();
    let full = keys::full_name(section, &shown);
    match find(section, name) {
        Some(key) => {
            places.insert(full.clone(), span.clone());
            if let Err(wrong) = (key.set)(draft, value) {
                faults.add(Some(&wrong.span), full, wrong.what);
            }
        }
        None => faults.add(Some(span), full, unknown(section, name)),
    }
}

fn find(section: Section, name: &str) -> Option<&'static keys::Key> {
    keys::KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// What to say of a key that there is not.
fn unknown(section: Section, name: &str) -> String {
    let here = || keys::KEYS.iter().filter(|key| key.section == section).map(|key| key.name);
    let is_top = section == Section::Top;
    let sections = Section::ALL.into_iter().filter(|section| is_top && !section.name().is_empty());
    if let Some(key) = keys::KEYS.iter().find(|key| key.name == name) {
        let place = match key.section {
            Section::Top => "before the first section".to_owned(),
            section => format!("in {}", section.header()),
        };
        return format!("unknown key here: it belongs {place}");
    }
    let candidates: Vec<&str> = here().chain(sections.clone().map(Section::name)).collect();
    if let Some(near) = nearest(name, candidates.iter().copied()) {
        return match Section::ALL.into_iter().find(|section| section.name() == near) {
            Some(section) if find(Section::Top, near).is_none() => {
                format!("unknown section: did you mean {}?", section.header())
            }
            _ => format!("unknown key: did you mean `{near}`?"),
        };
    }
    let sections: Vec<&str> = sections.map(Section::header).collect();
    let keys = here().collect::<Vec<_>>().join(", ");
    if sections.is_empty() {
        format!("unknown key: {} has {keys}", section.header())
    } else {
        format!("unknown key: there are {keys}, and the sections {}", sections.join(", "))
    }
}
