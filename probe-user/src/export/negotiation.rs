//! Which form of an answer a client asks for: `Accept` and `Accept-Encoding` by q-value (RFC 9110, 12.4.2, 12.5).
//!
//! Text is the answer to everything that does not name the protobuf format: also to OpenMetrics, whose scrapers take it,
//! and to what accepts nothing that there is (RFC 9110, 12.5.1: the server may disregard the field).

/// Media type of Prometheus' protobuf format, and the parameters without which it means another one.
const PROTOBUF: &str = "application/vnd.google.protobuf";
const PROTOBUF_PARAMETERS: [(&str, &str); 2] =
    [("proto", "io.prometheus.client.MetricFamily"), ("encoding", "delimited")];

/// Ranges that text answers, the most specific first: only the first that is there counts.
const TEXT: [&str; 3] = ["text/plain", "text/*", "*/*"];

/// A form of the exposition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text 0.0.4, classic buckets.
    #[default]
    Text,
    /// Delimited protobuf, classic buckets and native histograms.
    Protobuf,
}

impl Format {
    /// The one that an `Accept` field asks for.
    #[must_use]
    pub fn asked(accept: &str) -> Self {
        let (mut protobuf, mut text) = (0, [None; TEXT.len()]);
        for range in list(accept) {
            if range.name.eq_ignore_ascii_case(PROTOBUF) {
                let has = |(name, value): &(&str, &str)| {
                    range.parameters.iter().any(|(n, v)| n.eq_ignore_ascii_case(name) && v == value)
                };
                if PROTOBUF_PARAMETERS.iter().all(has) {
                    protobuf = protobuf.max(range.quality);
                }
            } else if let Some(at) = TEXT.iter().position(|name| range.name.eq_ignore_ascii_case(name)) {
                text[at] = text[at].max(Some(range.quality));
            }
        }
        let text = text.into_iter().flatten().next().unwrap_or_default();
        if protobuf > 0 && protobuf >= text { Self::Protobuf } else { Self::Text }
    }
}

/// Whether an `Accept-Encoding` field prefers gzip to nothing.
#[must_use]
pub fn wants_gzip(accept_encoding: &str) -> bool {
    let quality = |names: &[&str]| {
        list(accept_encoding)
            .filter(|range| names.iter().any(|name| range.name.eq_ignore_ascii_case(name)))
            .map(|range| range.quality)
            .max()
    };
    let gzip = quality(&["gzip", "x-gzip"]).or_else(|| quality(&["*"])).unwrap_or_default();
    // Unless it is named, what is not coded is acceptable but not wished for.
    gzip > 0 && gzip >= quality(&["identity"]).unwrap_or_default()
}

struct Range<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// In thousandths; 0 where it cannot be read.
    quality: u16,
}

fn list(field: &str) -> impl Iterator<Item = Range<'_>> {
    field.split(',').map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let mut range =
            Range { name: parts.next().unwrap_or_default(), parameters: Vec::new(), quality: 1000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim_end(), value.trim_start().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                range.quality = thousandths(value).unwrap_or_default();
            } else {
                range.parameters.push((name, value));
            }
        }
        range
    })
}

/// `0`, `0.5`, `1.000`: at most three digits after the point, at most 1.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn servers_of_prometheus_get_what_they_prefer() {
        // 2.42 without and with native histograms, 3.x with and without.
        let open = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                    q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(Format::asked(open), Format::Text);
        assert_eq!(Format::asked(&format!("{ASKED},{open}")), Format::Protobuf);
        let third = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4";
        assert_eq!(Format::asked(&format!("{ASKED};escaping=allow-utf-8;q=0.7,{third}")), Format::Protobuf);
        assert_eq!(Format::asked(&format!("{third},{ASKED};q=0.3")), Format::Text);
    }

    #[test]
    fn text_is_the_answer_to_everything_else() {
        for accept in [
            "",
            "*/*",
            "text/html, */*;q=0.8",
            "application/json",
            "application/vnd.google.protobuf",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            "application/vnd.google.protobuf;proto=other.Message;encoding=delimited",
            ";;q=,=,;",
        ] {
            assert_eq!(Format::asked(accept), Format::Text, "{accept}");
        }
        for quality in ["0", "0.0", "2", "1.001", "x", "-1", "0.1234", ""] {
            assert_eq!(Format::asked(&format!("{ASKED};q={quality}")), Format::Text, "{quality}");
        }
    }

    #[test]
    fn qualities_are_compared_and_the_most_specific_range_counts() {
        for (accept, format) in [
            (format!("{ASKED};q=0.5, text/plain;q=0.6"), Format::Text),
            (format!("{ASKED};q=0.5, text/plain;q=0.4, */*"), Format::Protobuf),
            (format!("{ASKED};q=0.001, text/plain;q=0"), Format::Protobuf),
            (format!("{ASKED};q=0.5, */*;q=0.51"), Format::Text),
            (ASKED.to_uppercase().replace("IO.PROMETHEUS.CLIENT.METRICFAMILY", "x"), Format::Text),
            (ASKED.replace("application", "Application").replace(";", " ; "), Format::Protobuf),
            (ASKED.replace("delimited", "\"delimited\""), Format::Protobuf),
        ] {
            assert_eq!(Format::asked(&accept), format, "{accept}");
        }
    }

    #[test]
    fn gzip_is_for_those_who_ask() {
        for yes in [
            "gzip",
            "deflate, gzip;q=0.5",
            "GZIP",
            "*",
            "br, *;q=0.1",
            "gzip;q=0.5, identity;q=0.5",
            "x-gzip",
        ] {
            assert!(wants_gzip(yes), "{yes}");
        }
        for no in [
            "",
            "identity",
            "gzip;q=0",
            "gzip;q=0, *",
            "br, deflate",
            "gzip;q=0.4, identity;q=0.5",
            "gzip;q=x",
        ] {
            assert!(!wants_gzip(no), "{no}");
        }
    }
}
