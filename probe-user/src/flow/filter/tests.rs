//! What filters match, what they refuse, and that nothing makes them panic.

use proptest::prelude::*;

use super::*;
use crate::flow::{Family, Role, sample};

fn filter(text: &str) -> Filter {
    Filter::parse(&[text]).unwrap_or_else(|e| panic!("{e}"))
}

fn error(text: &str) -> String {
    Filter::parse(&[text]).expect_err(text).to_string()
}

#[track_caller]
fn agrees(flow: &Flow, yes: &[&str], no: &[&str]) {
    for text in yes {
        assert!(filter(text).matches(flow), "should match: {text}");
    }
    for text in no {
        assert!(!filter(text).matches(flow), "should not match: {text}");
    }
}

#[test]
fn addresses_and_ports() {
    let flow = sample::full();
    agrees(
        &flow,
        &[
            "dst 198.51.100.7",
            "dst 198.51.100.0/24",
            "dst 198.51.100.9/24",
            "dst 198.51.100.7:51234",
            "dst = 198.51.100.0/24:51234",
            "dst :51234",
            "dst *:51234",
            "dst *",
            "dst 198.51.100.7:*",
            "dst ::ffff:198.51.100.7",
            "dst ::ffff:198.51.100.0/120",
            "dst != 10.0.0.0/8",
            "src 192.0.2.1:443",
            "sport = :443",
            "sport :443",
            "sport 443",
            "sport=:443",
            "sport != 80",
            "dport >= :1024",
            "dport ge 1024 dport lt 60000",
            "local_port 443",
            "remote_addr 198.51.100.7",
        ],
        &["dst 198.51.100.8", "src 198.51.100.7", "dst 198.51.100.7:443", "dst 2001:db8::/32", "sport > 443"],
    );
    let v6 = Flow {
        family: Family::Ipv6,
        remote_addr: "2001:db8::1".parse().unwrap(),
        remote_port: 443,
        ..sample::full()
    };
    agrees(
        &v6,
        &[
            "dst 2001:db8::1",
            "dst [2001:db8::1]",
            "dst [2001:db8::1]:443",
            "dst 2001:db8::/32",
            "dst [2001:db8::]/32",
            "dst [2001:db8::]/32:443",
            "dst [2001:db8::/32]:443",
            "family ipv6",
            "family inet6",
        ],
        &["dst 2001:db8::2", "dst [2001:db8::1]:80", "dst 0.0.0.0/0", "family ipv4"],
    );
}

#[test]
fn names() {
    let flow = sample::full();
    agrees(
        &flow,
        &[
            "state established",
            "state estab",
            "state connected",
            "STATE Established",
            "role server",
            "role != client",
            "cc cubic",
            "family ipv4",
            "netns 4026531840",
            "netns = 4026531840",
            "uid 33",
            "cgroup /system.slice/*",
            "cgroup */nginx.service",
            "cgroup '/system.slice/nginx.service'",
            "reason fin_local",
            "reason fin-local",
            "close_reason = fin_local",
            "error ECONNRESET",
            "flow_id 281474976710657.1",
            "not adopted",
            "!adopted",
        ],
        &["state syn-sent", "role client", "cc bbr", "uid 0", "cgroup nginx*", "reason timeout", "adopted"],
    );
    for (state, spellings) in [
        (State::FinWait1, ["fin-wait-1", "fin_wait1"]),
        (State::SynSent, ["syn-sent", "syn_sent"]),
        (State::CloseWait, ["close-wait", "close_wait"]),
    ] {
        for spelling in spellings {
            let flow = Flow { state, ..sample::full() };
            agrees(&flow, &[&format!("state {spelling}")], &["state established"]);
        }
    }
}

#[test]
fn measures_and_units() {
    let flow = sample::full();
    agrees(
        &flow,
        &[
            "rtt > 20ms",
            "rtt < 0.021s",
            "rtt>=20100us",
            "rtt = 20.1ms",
            "srtt_us = 20100",
            "rtt gt 20ms",
            "min-rtt < 20100us",
            "min_rtt > 20ms",
            "rttvar < 2ms",
            "retrans > 0",
            "retrans_rto = 1",
            "loss > 1%",
            "loss < 1.02%",
            "bytes > 3M",
            "bytes < 3MiB",
            "duration > 1min",
            "cwnd = 38",
            "unsent = 0",
            "rtt > 0",
        ],
        &["rtt > 100ms", "loss > 2%", "bytes > 10M", "duration > 1h", "cwnd > 1k", "unsent > 0"],
    );
}

#[test]
fn juxtaposition_is_and_binds_closer_than_or() {
    let flow = sample::full();
    agrees(
        &flow,
        &[
            "role client and cc bbr or uid 33",
            "uid 33 or role client and cc bbr",
            "role server (cc bbr or cc cubic)",
            "not (role client or cc bbr)",
            "not role client cc cubic",
            "not not role server",
            "role server && cc cubic || adopted",
            "",
        ],
        &[
            "(uid 33 or role client) cc bbr",
            "role server cc bbr",
            "not (role server and cc cubic)",
            "not role server or cc bbr",
        ],
    );
    let words = ["role", "server", "and", "rtt", ">", "20ms"];
    assert!(Filter::parse(&words).unwrap().matches(&flow));
    assert!(Filter::parse::<&str>(&[]).unwrap().matches(&flow));
}

#[test]
fn what_is_unknown_matches_neither_way() {
    let flow = sample::bare();
    agrees(
        &flow,
        &["adopted", "rtt > 1ms or adopted", "not (rtt > 1ms and state syn-sent)", "retrans > 0"],
        &[
            "rtt > 0",
            "rtt < 1h",
            "rtt != 5ms",
            "not rtt > 1ms",
            "loss = 0%",
            "not loss = 0%",
            "uid 0",
            "uid != 0",
            "not uid 0",
            "cgroup *",
            "not cgroup *",
            "role client",
            "not role client",
            "cc != cubic",
            "reason timeout",
            "not reason timeout",
            "duration > 0",
            "app_limited",
            "not app_limited",
            "adopted and rtt > 0",
        ],
    );
    assert_eq!(flow.role, None::<Role>);
}

#[test]
fn an_error_points_at_the_word_and_says_what_to_do() {
    assert_eq!(
        error("role server rtz > 100ms"),
        "unknown word: did you mean `rtt`?\n  role server rtz > 100ms\n              ^^^"
    );
    assert_eq!(error("rtt > 100"), "a time needs its unit: us, ms, s, min or h\n  rtt > 100\n        ^^^");
    assert_eq!(error("rtt >"), "`rtt` needs a number, such as 250us, 100ms or 2s\n  rtt >\n       ^");
    assert_eq!(
        error("dst é.x"),
        "this is no address: write it in numbers, names are not looked up\n  dst é.x\n      ^^^"
    );
    for (text, says) in [
        ("rtt", "quote < and > from the shell"),
        ("role clinet", "did you mean `client`?"),
        ("role both", "use one of client, server"),
        ("state establish", "did you mean `established`?"),
        ("state and", "`state` needs a state"),
        ("state > established", "has no order"),
        ("reason fin", "use one of fin_local"),
        ("loss > 1", "write a percentage with %"),
        ("rtt > 10m", "`m` is no unit of time"),
        ("bytes > 10q", "`q` is no multiple"),
        ("retrans > many", "a number is wanted"),
        ("retrans > -1", "a number is wanted"),
        ("dst 192.0.2.0/33", "this is no prefix"),
        ("dst example.com", "names are not looked up"),
        ("dst [2001:db8::1", "bracket is never closed"),
        ("dst [2001:db8::1]x", "after ] comes"),
        ("dst ''", "an address is wanted"),
        ("192.0.2.1", "`dst 192.0.2.1`"),
        ("sport https", "a port is a number"),
        ("sport +1", "a port is a number"),
        ("dport 65536", "a port is a number"),
        ("(adopted", "never closed"),
        ("adopted)", "closes nothing"),
        ("'adopted", "never closed"),
        ("'adopted'", "without quotes"),
        ("adopted and", "a test is missing"),
        ("or adopted", "a test is missing"),
        ("()", "a test is missing"),
        ("> 5", "needs a word before it"),
        ("opened_at > 5", "cannot be compared"),
        ("cgroup {a", "use * and ?"),
        ("zzzzzzzz", "use one of src, dst"),
        ("uid root", "a number is wanted"),
    ] {
        let error = error(text);
        assert!(error.contains(says), "{text}: {error}");
        assert_eq!(error.lines().count(), 3, "{error}");
    }
}

#[test]
fn a_hostile_word_reaches_no_terminal() {
    let error = error("\u{1b}[31mred\u{7}");
    assert!(!error.replace('\n', "").chars().any(char::is_control), "{error:?}");
    assert_eq!(clean("a\u{9b}b\u{202e}c\u{200b}d é 日"), "a\u{fffd}b\u{fffd}c\u{fffd}d é 日");
}

#[test]
fn depth_is_bounded_and_length_is_not() {
    assert!(error(&"(".repeat(100_000)).contains("parentheses within each other"));
    for text in ["not not ", "adopted ", "adopted or "] {
        let long = format!("{}adopted", text.repeat(50_000));
        assert!(filter(&long).matches(&sample::bare()), "{text}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*|[\\x00-\\x7f]{0,60}") {
        match Filter::parse(&[&text]) {
            Ok(filter) => { std::hint::black_box(filter.matches(&sample::full())); }
            Err(error) => { let _ = error.to_string(); }
        }
    }

    #[test]
    fn arbitrary_words_never_panic(words in proptest::collection::vec(
        prop::sample::select(vec![
            "dst", "src", "sport", "state", "rtt", "loss", "bytes", "cgroup", "adopted", "and", "or", "not", "(", ")",
            "=", "!=", "<", ">=", "gt", "!", "'", "10ms", "1%", "5M", "192.0.2.0/24", "[2001:db8::1]:443", "[", "]/",
            "::/0", "*", "[]:", "[::]/", ":", ".", "1e999", "9999999999999999999999999T", "é", "\u{0}",
        ]), 0..24)) {
        match Filter::parse(&words) {
            Ok(filter) => { std::hint::black_box((filter.matches(&sample::full()), filter.matches(&sample::bare()))); }
            Err(error) => { let _ = error.to_string(); }
        }
    }

    #[test]
    fn the_opposite_is_the_complement_where_all_is_known(words in prop::sample::select(vec![
        "rtt > 20ms", "loss < 1%", "dst 198.51.100.0/24", "state established or uid 1", "cc bbr",
    ])) {
        let flow = sample::full();
        prop_assert_ne!(filter(words).matches(&flow), filter(&format!("not ({words})")).matches(&flow));
    }
}

#[test]
fn states_without_a_connection_are_known() {
    for words in
        ["state listen", "state listening", "state time-wait and rtt > 1ms", "dport :80 or (state closed)"]
    {
        assert!(Filter::parse(&[words]).unwrap().wants_no_connection(), "{words}");
    }
    for words in ["", "state all", "state bucket", "state established", "not state listen", "state != listen"]
    {
        assert!(!Filter::parse(&[words]).unwrap().wants_no_connection(), "{words}");
    }
}
