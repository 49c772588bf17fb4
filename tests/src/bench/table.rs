//! Tables of figures: rows and columns by the figures' names, medians with the smallest and the largest behind.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::sheet::{Figure, Part};

/// Conditions that everything is compared with come first, and of a group the summary rows.
const FIRST: [&str; 5] = ["", "all", "nothing", "empty", "flowprobe"];

/// The tables of a part, one for each group of rows.
pub(super) fn tables(part: &Part, columns: &[&str]) -> String {
    let mut groups: BTreeMap<&str, BTreeMap<&str, Row<'_>>> = BTreeMap::new();
    for (name, figure) in &part.figures {
        let Some((row, column)) = name.rsplit_once('/') else { continue };
        let (group, row) = row.split_once('/').unwrap_or(("", row));
        groups.entry(group).or_default().entry(row).or_default().insert(column, figure);
    }
    groups.into_iter().map(|(group, rows)| table(group, &rows, columns)).collect()
}

type Row<'a> = BTreeMap<&'a str, &'a Figure>;

fn table(group: &str, rows: &BTreeMap<&str, Row<'_>>, columns: &[&str]) -> String {
    let used: Vec<_> =
        columns.iter().filter(|column| rows.values().any(|row| row.contains_key(**column))).collect();
    let mut order: Vec<_> = rows.keys().collect();
    order.sort_by(|left, right| in_order(left, right));
    // Of a column of one unit it stands in the head.
    let units: Vec<Option<&str>> = used.iter().map(|column| unit(rows, column)).collect();
    let mut text = format!("| {group} |");
    for (column, unit) in used.iter().zip(&units) {
        let unit = unit.filter(|unit| !unit.is_empty()).map(|unit| format!(", {}", micro(unit)));
        let _ = write!(text, " {column}{} |", unit.unwrap_or_default());
    }
    let _ = writeln!(text, "\n|---|{}", "--:|".repeat(used.len()));
    for name in order {
        let _ = write!(text, "| {name} |");
        for (column, unit) in used.iter().zip(&units) {
            let cell = rows[name].get(**column).map(|figure| {
                let cell = cell(figure.median, figure.spread());
                if unit.is_some() { cell } else { format!("{cell} {}", micro(&figure.unit)) }
            });
            let _ = write!(text, " {} |", cell.unwrap_or_default());
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// The unit of a column, if it has one.
fn unit<'a>(rows: &BTreeMap<&str, Row<'a>>, column: &str) -> Option<&'a str> {
    let units: BTreeSet<&str> =
        rows.values().filter_map(|row| Some(row.get(column)?.unit.as_str())).collect();
    (units.len() == 1).then(|| units.first().copied()).flatten()
}

/// `us` as people write it.
pub(super) fn micro(unit: &str) -> &str {
    if unit == "us" { "µs" } else { unit }
}

/// Median and, where they differ, smallest and largest.
pub(super) fn cell(median: f64, (min, max): (f64, f64)) -> String {
    if min < max { format!("{} ({}…{})", number(median), number(min), number(max)) } else { number(median) }
}

/// Three digits that matter; thousands apart.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1_000.0 {
        let digits = format!("{size:.0}");
        let mut text = String::from(if value < 0.0 { "-" } else { "" });
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return text;
    }
    let decimals = match size {
        _ if size == size.round() && size < 1_000.0 => 0,
        _ if size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 0.1 => 3 - usize::from(size >= 1.0),
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// Rows of one beginning (up to a colon) together, and among each what all is compared with first.
fn in_order(left: &str, right: &str) -> Ordering {
    let [left, right] = [left, right].map(|name| name.split_once(": ").unwrap_or((name, "")));
    let one = |left: &str, right: &str| rank(left).cmp(&rank(right)).then_with(|| natural(left, right));
    one(left.0, right.0).then_with(|| one(left.1, right.1))
}

fn rank(name: &str) -> usize {
    FIRST.iter().position(|first| name == *first).unwrap_or(FIRST.len())
}

/// Numbers in names are compared as numbers.
fn natural(left: &str, right: &str) -> Ordering {
    let number = |text: &str| -> Option<(u64, usize)> {
        let length = text.bytes().take_while(u8::is_ascii_digit).count();
        Some((text[..length].parse().ok()?, length))
    };
    let mut left = left;
    let mut right = right;
    loop {
        if let (Some((one, skip_one)), Some((two, skip_two))) = (number(left), number(right)) {
            if one != two {
                return one.cmp(&two);
            }
            (left, right) = (&left[skip_one..], &right[skip_two..]);
        }
        let (mut one, mut two) = (left.chars(), right.chars());
        match (one.next(), two.next()) {
            (Some(a), Some(b)) if a == b => (left, right) = (one.as_str(), two.as_str()),
            (a, b) => return a.cmp(&b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_matter() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_34, "0.0123"),
            (0.975_3, "0.975"),
            (1.234_5, "1.23"),
            (12.34, "12.3"),
            (512.0, "512"),
            (123.4, "123"),
            (12_345.6, "12,346"),
            (-1_234.0, "-1,234"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn sizes_are_in_order_of_size() {
        assert_eq!(natural("1000 sockets: b", "10000 sockets: a"), Ordering::Less);
        assert_eq!(natural("1000 sockets: b", "1000 sockets: a"), Ordering::Greater);
        assert_eq!(natural("a", "a"), Ordering::Equal);
        assert_eq!(in_order("nothing", "empty"), Ordering::Less);
        assert_eq!(in_order("CPUs 2: nothing", "CPUs 10: flowprobe"), Ordering::Less);
        assert_eq!(in_order("x: nothing", "x: apart"), Ordering::Less);
    }
}
