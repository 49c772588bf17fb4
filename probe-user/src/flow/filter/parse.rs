//! Makes a condition of the words of a filter, by recursive descent.

use std::{net::IpAddr, ops::Range};

use globset::GlobBuilder;
use ipnet::IpNet;

use super::{
    Expr, Fault, Op, Side, Test, bit, fault,
    lex::{Kind, Token, op_in_letters},
    nearest, quantity,
};
use crate::flow::{
    CloseReason, Family, FirstFin, Role, RttSource, State,
    field::{FIELDS, Field, Kind as Holds, Measure, Unit},
};

/// Parentheses within parentheses; more is no question that a person asks.
const DEEPEST: usize = 64;

const HEADS: [&str; 13] = [
    "src", "dst", "sport", "dport", "state", "role", "family", "cc", "reason", "cgroup", "netns", "uid",
    "adopted",
];

const ALL: u16 = (1 << State::ALL.len()) - 1;
const CONNECTED: u16 = ALL & !bit(State::Listen) & !bit(State::Close);

/// What `ss` calls states beside their names in the contract.
const STATES: [(&str, u16); 9] = [
    ("estab", bit(State::Established)),
    ("closed", bit(State::Close)),
    ("unconn", bit(State::Close)),
    ("unconnected", bit(State::Close)),
    ("listening", bit(State::Listen)),
    ("all", ALL),
    ("connected", CONNECTED),
    ("synchronized", CONNECTED & !bit(State::SynSent)),
    ("bucket", bit(State::SynRecv) | bit(State::TimeWait)),
];

pub(super) fn expression(tokens: &[Token], end: usize) -> Result<Option<Expr>, Fault> {
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser { tokens, next: 0, end, depth: 0 };
    let expr = parser.either()?;
    match parser.peek() {
        None => Ok(Some(expr)),
        Some(_) => fault(parser.here(), "this parenthesis closes nothing: remove it"),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    /// Length of the text, where a missing word is missed.
    end: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn here(&self) -> Range<usize> {
        self.tokens.get(self.next).map_or(self.end..self.end, |token| token.at.clone())
    }

    fn take(&mut self, kind: &Kind) -> bool {
        let found = self.peek() == Some(kind);
        self.next += usize::from(found);
        found
    }

    fn either(&mut self) -> Result<Expr, Fault> {
        let mut any = vec![self.every()?];
        while self.take(&Kind::Or) {
            any.push(self.every()?);
        }
        Ok(Expr::Either(any))
    }

    fn every(&mut self) -> Result<Expr, Fault> {
        let mut all = vec![self.one()?];
        while self.take(&Kind::And) || !matches!(self.peek(), None | Some(Kind::Or | Kind::Close)) {
            all.push(self.one()?);
        }
        Ok(Expr::Every(all))
    }

    fn one(&mut self) -> Result<Expr, Fault> {
        let mut opposite = false;
        while self.take(&Kind::Not) {
            opposite = !opposite;
        }
        let at = self.here();
        let expr = if self.take(&Kind::Open) {
            self.depth += 1;
            if self.depth > DEEPEST {
                return fault(at, format!("more than {DEEPEST} parentheses within each other: use fewer"));
            }
            let expr = self.either()?;
            if !self.take(&Kind::Close) {
                return fault(at, "this parenthesis is never closed: add `)`");
            }
            self.depth -= 1;
            expr
        } else {
            self.test()?
        };
        Ok(if opposite { Expr::Not(Box::new(expr)) } else { expr })
    }

    fn test(&mut self) -> Result<Expr, Fault> {
        let at = self.here();
        let word = match self.peek() {
            Some(Kind::Word(word)) => word.clone(),
            Some(Kind::Op(_)) => {
                return fault(at, "a comparison needs a word before it, such as rtt > 100ms");
            }
            Some(Kind::Quoted(_)) => return fault(at, "a test begins with a word without quotes"),
            Some(_) | None => return fault(at, "a test is missing here: such as `state established`"),
        };
        self.next += 1;
        match word.to_ascii_lowercase().replace('-', "_").as_str() {
            "src" | "local_addr" => self.addr(Side::Local, &word),
            "dst" | "remote_addr" => self.addr(Side::Remote, &word),
            "sport" | "local_port" => self.port(Side::Local, &word),
            "dport" | "remote_port" => self.port(Side::Remote, &word),
            "state" => self.equal(&word, "a state, such as established", state),
            "cgroup" => self.equal(&word, "a path, such as /system.slice/*", glob),
            name => {
                let name = match name {
                    "cc" => "congestion_control",
                    "reason" => "close_reason",
                    name => name,
                };
                match (Measure::find(name), Field::find(name)) {
                    (Some(measure), _) => self.measure(measure, &word),
                    (_, Some(field)) => self.field(field, &word),
                    _ => fault(at, unknown(&word)),
                }
            }
        }
    }

    fn field(&mut self, field: &'static Field, word: &str) -> Result<Expr, Fault> {
        match field.kind {
            Holds::Bool => Ok(Expr::Test(Test::Flag(field))),
            Holds::Text => self.equal(word, "a name", |text| {
                let wanted = text.to_ascii_lowercase().replace('-', "_");
                let value = match field.name {
                    "role" => one_of(&wanted, Role::ALL.iter().map(|v| v.name()))?,
                    "family" if wanted == "inet" => "ipv4".to_owned(),
                    "family" if wanted == "inet6" => "ipv6".to_owned(),
                    "family" => one_of(&wanted, Family::ALL.iter().map(|v| v.name()))?,
                    "close_reason" => one_of(&wanted, CloseReason::ALL.iter().map(|v| v.name()))?,
                    "first_fin" => one_of(&wanted, FirstFin::ALL.iter().map(|v| v.name()))?,
                    "rtt_source" => one_of(&wanted, RttSource::ALL.iter().map(|v| v.name()))?,
                    _ => text.to_owned(),
                };
                Ok(Test::Text { field, value })
            }),
            Holds::Int | Holds::Addr | Holds::Time | Holds::Histogram => {
                let at = self.tokens.get(self.next.wrapping_sub(1)).map_or(0..0, |token| token.at.clone());
                fault(at, format!("`{word}` cannot be compared: use rtt, min-rtt or duration"))
            }
        }
    }

    /// The comparison that stands here, if any.
    fn op(&mut self) -> Option<Op> {
        let op = match self.peek()? {
            Kind::Op(op) => Some(*op),
            Kind::Word(word) => op_in_letters(word),
            _ => None,
        };
        self.next += usize::from(op.is_some());
        op
    }

    /// The value that stands here.
    fn value(&mut self, word: &str, what: &str) -> Result<(Range<usize>, String), Fault> {
        let at = self.here();
        match self.peek() {
            Some(Kind::Word(text) | Kind::Quoted(text)) => {
                let text = text.clone();
                self.next += 1;
                Ok((at, text))
            }
            _ => fault(at, format!("`{word}` needs {what}")),
        }
    }

    /// A test that only knows equal and unequal.
    fn equal(
        &mut self,
        word: &str,
        what: &str,
        test: impl FnOnce(&str) -> Result<Test, String>,
    ) -> Result<Expr, Fault> {
        let at = self.here();
        let op = self.op().unwrap_or(Op::Eq);
        if !matches!(op, Op::Eq | Op::Ne) {
            return fault(at, format!("`{word}` has no order: use = or !="));
        }
        let (at, text) = self.value(word, what)?;
        match test(&text) {
            Ok(test) if op == Op::Ne => Ok(Expr::Not(Box::new(Expr::Test(test)))),
            Ok(test) => Ok(Expr::Test(test)),
            Err(message) => fault(at, message),
        }
    }

    fn addr(&mut self, side: Side, word: &str) -> Result<Expr, Fault> {
        self.equal(word, "an address, such as 192.0.2.0/24 or [2001:db8::1]:443", |text| {
            let (net, port) = address(text)?;
            Ok(Test::Addr { side, net, port })
        })
    }

    fn port(&mut self, side: Side, word: &str) -> Result<Expr, Fault> {
        let op = self.op().unwrap_or(Op::Eq);
        let (at, text) = self.value(word, "a port, such as :443")?;
        match port(text.strip_prefix(':').unwrap_or(&text)) {
            Ok(port) => Ok(Expr::Test(Test::Port { side, op, port })),
            Err(message) => fault(at, message),
        }
    }

    fn measure(&mut self, measure: Measure, word: &str) -> Result<Expr, Fault> {
        let named = matches!(measure, Measure::Field(field) if field.name == word.replace('-', "_"));
        let identity = matches!(measure, Measure::Field(field) if matches!(field.name, "netns" | "uid"));
        let at = self.here();
        let example = quantity::example(measure.unit());
        let op = match self.op() {
            Some(op) => op,
            None if identity => Op::Eq,
            None => {
                return fault(
                    at,
                    format!(
                        "`{word}` needs < or > and a number, such as {example}: \
                         quote < and > from the shell, or write lt and gt"
                    ),
                );
            }
        };
        let (at, text) = self.value(word, &format!("a number, such as {example}"))?;
        // A field's name ends with its unit, so its number needs none.
        match quantity::parse(&text, measure.unit(), named && measure.unit() != Unit::Percent) {
            Ok(value) => Ok(Expr::Test(Test::Measure { measure, op, value })),
            Err(message) => fault(at, message),
        }
    }
}

fn unknown(word: &str) -> String {
    if address(word).is_ok() {
        return format!("an address needs to know its side: `dst {word}` or `src {word}`");
    }
    let known = || HEADS.into_iter().chain(Measure::short_names());
    match nearest(word, known().chain(FIELDS.iter().map(|field| field.name))) {
        Some(near) => format!("unknown word: did you mean `{near}`?"),
        None => format!(
            "unknown word: use one of {}, or the name of a field",
            known().collect::<Vec<_>>().join(", ")
        ),
    }
}

fn one_of(word: &str, names: impl Iterator<Item = &'static str> + Clone) -> Result<String, String> {
    if names.clone().any(|name| name == word) {
        return Ok(word.to_owned());
    }
    Err(match nearest(word, names.clone()) {
        Some(near) => format!("unknown name: did you mean `{near}`?"),
        None => format!("unknown name: use one of {}", names.collect::<Vec<_>>().join(", ")),
    })
}

fn state(text: &str) -> Result<Test, String> {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '_'], "");
    let named = State::ALL.iter().map(|state| (state.name(), bit(*state)));
    let mut known = named.clone().chain(STATES);
    if let Some((_, set)) = known.find(|(name, _)| plain(name) == plain(text)) {
        return Ok(Test::State(set));
    }
    Err(match nearest(text, named.clone().chain(STATES).map(|(name, _)| name)) {
        Some(near) => format!("unknown state: did you mean `{near}`?"),
        None => {
            format!(
                "unknown state: use one of {}",
                named.map(|(name, _)| name).collect::<Vec<_>>().join(", ")
            )
        }
    })
}

fn glob(text: &str) -> Result<Test, String> {
    match GlobBuilder::new(text).backslash_escape(false).build() {
        Ok(glob) => Ok(Test::Cgroup(glob.compile_matcher())),
        Err(error) => Err(format!("this pattern cannot be read ({}): use * and ?", error.kind())),
    }
}

fn port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| "a port is a number from 0 to 65535".to_owned())
}

/// Prefix and port of `PREFIX`, `ADDR`, `ADDR:PORT`, `[ADDR6]:PORT`, `:PORT`, `*:PORT`; an address without brackets and
/// with more than one colon has no port.
fn address(text: &str) -> Result<(Option<IpNet>, Option<u16>), String> {
    let (host, tail) = if let Some(inner) = text.strip_prefix('[') {
        let Some((addr, tail)) = inner.split_once(']') else {
            return Err("the bracket is never closed: [2001:db8::1]:443".to_owned());
        };
        // Both [2001:db8::]/32 and [2001:db8::/32] are written.
        match (tail.strip_prefix('/'), tail.split_once(':')) {
            (Some(_), Some((len, port))) => (format!("{addr}{len}"), Some(port)),
            (Some(_), None) => (format!("{addr}{tail}"), None),
            (None, Some(("", port))) => (addr.to_owned(), Some(port)),
            (None, _) if tail.is_empty() => (addr.to_owned(), None),
            (None, _) => return Err("after ] comes :PORT or /LENGTH".to_owned()),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host.to_owned(), Some(port)),
            _ => (text.to_owned(), None),
        }
    };
    let port = tail.filter(|port| *port != "*").map(port).transpose()?;
    let net = if matches!(host.as_str(), "" | "*") { None } else { Some(prefix(&host)?) };
    if net.is_none() && tail.is_none() && text != "*" {
        return Err("an address is wanted here, such as 192.0.2.0/24".to_owned());
    }
    Ok((net, port))
}

/// A v4-mapped prefix is one of IPv4, as a v4-mapped peer is.
fn prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(addr.to_canonical()));
    }
    match text.parse::<IpNet>() {
        Ok(IpNet::V6(net)) if net.prefix_len() >= 96 => {
            let v4 = net.network().to_ipv4_mapped().map(IpAddr::from);
            let v4 = v4.and_then(|addr| IpNet::new(addr, net.prefix_len() - 96).ok());
            Ok(v4.unwrap_or(IpNet::V6(net)))
        }
        Ok(net) => Ok(net),
        Err(_) if text.contains('/') => {
            Err("this is no prefix: write 192.0.2.0/24 or 2001:db8::/32".to_owned())
        }
        Err(_) => Err("this is no address: write it in numbers, names are not looked up".to_owned()),
    }
}
