//! Prometheus' text format, read back: samples by name and labels, families with type and help.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};

/// What the `# HELP` and `# TYPE` lines and the samples of one family say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// counter, gauge, histogram, …
    pub kind: String,
    /// The help text.
    pub help: String,
    /// All label names that occur in its samples, `le` left out.
    pub labels: BTreeSet<String>,
}

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    samples: Vec<Sample>,
    /// Families by name.
    pub families: BTreeMap<String, Family>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// Parse the text of a scrape.
    ///
    /// # Errors
    /// On a line that is not in the text format, or a series that occurs twice; the message has the line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut scrape = Self::default();
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                scrape.families.entry(name.to_owned()).or_default().help = help.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').with_context(|| format!("no type in: {line}"))?;
                scrape.families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            } else if !line.is_empty() && !line.starts_with('#') {
                let sample = parse_sample(line).with_context(|| format!("not a sample: {line}"))?;
                if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                    bail!("a series occurs twice: {line}");
                }
                scrape.note_labels(&sample);
                scrape.samples.push(sample);
            }
        }
        Ok(scrape)
    }

    /// The value of the one series with this name and, among others, these labels. `None` when no series matches or
    /// several do.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut matching = self.matching(name, labels);
        let first = matching.next()?;
        matching.next().is_none().then_some(first.value)
    }

    /// Sum over all series with this name and, among others, these labels; 0 when there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// How many series have this name and, among others, these labels.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        self.matching(name, labels).count()
    }

    /// The values that a label takes in the samples of this name.
    #[must_use]
    pub fn label_values(&self, name: &str, label: &str) -> BTreeSet<String> {
        self.matching(name, &[]).filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|have| have == value))
        })
    }

    fn note_labels(&mut self, sample: &Sample) {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| sample.name.strip_suffix(suffix))
            .find(|base| self.families.get(*base).is_some_and(|family| family.kind == "histogram"))
            .unwrap_or(&sample.name);
        let family = self.families.entry(base.to_owned()).or_default();
        family.labels.extend(sample.labels.keys().filter(|label| *label != "le").cloned());
    }
}

fn parse_sample(line: &str) -> Result<Sample> {
    let (name, labels, rest) = match line.find('{') {
        Some(open) => {
            let (labels, used) = parse_labels(&line[open + 1..])?;
            (&line[..open], labels, &line[open + 1 + used..])
        }
        None => {
            let (name, rest) = line.split_once(' ').context("no value")?;
            (name, BTreeMap::new(), rest)
        }
    };
    let value = rest.split_whitespace().next().context("no value")?.parse()?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// Labels up to and with the closing brace, and how many bytes they took.
fn parse_labels(text: &str) -> Result<(BTreeMap<String, String>, usize)> {
    let mut labels = BTreeMap::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with('}') {
            return Ok((labels, at + 1));
        }
        let equals = rest.find("=\"").context("a label without value")?;
        let name = rest[..equals].trim_start_matches([',', ' ']).to_owned();
        let mut value = String::new();
        let mut characters = rest[equals + 2..].char_indices();
        let end = loop {
            let (index, character) = characters.next().context("a label value without end")?;
            match character {
                '"' => break index,
                '\\' => match characters.next().context("a label value without end")?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                other => value.push(other),
            }
        };
        if labels.insert(name.clone(), value).is_some() {
            bail!("label {name} occurs twice");
        }
        at += equals + 2 + end + 1;
        if text[at..].starts_with(',') {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let scrape = Scrape::parse(
            "# HELP a_total What a is.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\\\\\\n,}\"} 3\n\
             a_total{x=\"2\",y=\"\"} 4\nplain 1e3\n# HELP h s\n# TYPE h histogram\nh_bucket{z=\"1\",le=\"+Inf\"} 2\n",
        )
        .unwrap();
        assert_eq!(scrape.value("a_total", &[("x", "1"), ("y", "q\"\\\n,}")]), Some(3.0));
        assert_eq!(scrape.value("a_total", &[]), None, "two series match");
        assert!((scrape.sum("a_total", &[]) - 7.0).abs() < f64::EPSILON);
        assert_eq!(scrape.value("plain", &[]), Some(1000.0));
        assert_eq!(scrape.families["a_total"].kind, "counter");
        assert_eq!(scrape.families["h"].labels.iter().collect::<Vec<_>>(), ["z"]);
        assert!(Scrape::parse("a 1\na 2\n").is_err());
    }
}
