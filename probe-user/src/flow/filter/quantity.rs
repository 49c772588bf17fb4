//! Numbers with units, as people type them: `100ms`, `10M`, `64Ki`, `1.5%`.

use crate::flow::field::Unit;

/// The number in `unit`: µs, bytes, things or percent. k, M, G, T are powers of 1000, Ki, Mi, Gi, Ti of 1024.
///
/// `bare`: whether a number without a suffix is accepted for a time or a percentage; 0 always is.
pub(crate) fn parse(text: &str, unit: Unit, bare: bool) -> Result<f64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let Ok(number) = number.parse::<f64>() else {
        return Err(format!("a number is wanted here, such as {}", example(unit)));
    };
    let factor = match unit {
        _ if suffix.is_empty() && (bare || number == 0.0) => Some(1.0),
        Unit::Micros => micros(suffix),
        Unit::Percent => (suffix == "%").then_some(1.0),
        Unit::Count => multiple(suffix),
        Unit::Bytes => multiple(suffix.strip_suffix(['b', 'B']).unwrap_or(suffix)),
    };
    match (factor, unit) {
        (Some(factor), _) => Ok(number * factor),
        (None, Unit::Micros) if suffix.is_empty() => {
            Err("a time needs its unit: us, ms, s, min or h".to_owned())
        }
        (None, Unit::Micros) => Err(format!("`{suffix}` is no unit of time: use us, ms, s, min or h")),
        (None, Unit::Percent) => Err("write a percentage with %, such as 1%".to_owned()),
        (None, _) => Err(format!("`{suffix}` is no multiple: use k, M, G, T or Ki, Mi, Gi, Ti")),
    }
}

fn micros(suffix: &str) -> Option<f64> {
    Some(match suffix {
        "us" | "µs" | "μs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "min" => 60e6,
        "h" => 3600e6,
        _ => return None,
    })
}

fn multiple(suffix: &str) -> Option<f64> {
    const KI: f64 = 1024.0;
    Some(match suffix {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => KI,
        "Mi" => KI * KI,
        "Gi" => KI * KI * KI,
        "Ti" => KI * KI * KI * KI,
        _ => return None,
    })
}

/// A value of that unit, for messages.
pub(super) fn example(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "10 or 5k",
        Unit::Bytes => "1500, 10M or 64Ki",
        Unit::Micros => "250us, 100ms or 2s",
        Unit::Percent => "1% or 0.5%",
    }
}
