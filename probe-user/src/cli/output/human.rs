//! Numbers for eyes: three digits and a unit. JSON and CSV have the exact ones.

/// A time of `us` microseconds: `850us`, `20.1ms`, `3.25s`, `2m03s`, `5h07m`, `3d04h`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "at most a minute here")]
pub fn micros(us: u64) -> String {
    let seconds = us.saturating_add(500_000) / 1_000_000;
    match us {
        0..1_000 => format!("{us}us"),
        1_000..999_500 => format!("{}ms", three(us as f64 / 1e3)),
        999_500..59_950_000 => format!("{}s", three(us as f64 / 1e6)),
        _ if seconds < 3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A number in thousands: `812`, `3.0M`, `120k`; a unit is 1000 of the one before.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub fn scaled(number: u64) -> String {
    let mut value = number as f64;
    if number < 1_000 {
        return number.to_string();
    }
    let mut unit = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        if value < 999.5 {
            break;
        }
        value /= 1e3;
        unit = next;
    }
    if value < 99.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// A percentage: `0%`, `<0.01%`, `1.02%`, `12.5%`.
#[must_use]
pub fn percent(value: f64) -> String {
    if value == 0.0 {
        "0%".to_owned()
    } else if value < 0.005 {
        "<0.01%".to_owned()
    } else {
        format!("{}%", three(value))
    }
}

fn three(value: f64) -> String {
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (us, text) in [
            (0, "0us"),
            (999, "999us"),
            (1_000, "1.00ms"),
            (9_994, "9.99ms"),
            (9_996, "10.0ms"),
            (20_100, "20.1ms"),
            (312_400, "312ms"),
            (999_499, "999ms"),
            (999_500, "1.00s"),
            (59_949_999, "59.9s"),
            (59_950_000, "1m00s"),
            (123_000_000, "2m03s"),
            (3_599_600_000, "1h00m"),
            (18_420_000_000, "5h07m"),
            (273_600_000_000, "3d04h"),
        ] {
            assert_eq!(micros(us), text);
        }
        assert!(micros(u64::MAX).ends_with('h'));
    }

    #[test]
    fn numbers() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0k"),
            (3_030_408, "3.0M"),
            (99_960, "100k"),
            (999_499, "999k"),
            (999_500, "1.0M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(scaled(number), text);
        }
    }

    #[test]
    fn percentages() {
        for (value, text) in
            [(0.0, "0%"), (0.001, "<0.01%"), (1.019, "1.02%"), (12.46, "12.5%"), (100.0, "100%")]
        {
            assert_eq!(percent(value), text);
        }
    }
}
