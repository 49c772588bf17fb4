//! Which flows a person asks for: a condition in words, read once and asked of every flow.
//!
//! Grammar, loosest first; words stand for themselves, in any number of arguments:
//!
//! ```text
//! either  = every { ("or" | "||") every }
//! every   = one { ["and" | "&&"] one }
//! one     = { "not" | "!" } ( "(" either ")" | test )
//! test    = ("src" | "dst") [= | !=] address                    address: 192.0.2.0/24, [2001:db8::1]:443, :443
//!         | ("sport" | "dport") [comparison] [":"] port
//!         | ("state" | "role" | "family" | "cc" | "reason" | "cgroup" | "netns" | "uid") [= | !=] value
//!         | measure comparison number                           rtt > 100ms, loss > 1%, bytes > 10M
//!         | "adopted"
//! ```
//!
//! Every other field of the contract is a test by its own name. What a flow has no value for is unknown, and unknown
//! matches neither a test nor its opposite: neither `rtt > 1ms` nor `not rtt > 1ms` finds a flow without round trips.
//!
//! Pure; asking costs no allocation.

use std::{fmt, ops::Range};

use globset::GlobMatcher;
use ipnet::IpNet;

use super::{
    Flow, State,
    field::{Field, Measure, Value},
};

mod lex;
mod nearest;
mod parse;
pub(crate) mod quantity;

pub use nearest::nearest;

/// A condition on flows.
#[derive(Clone, Debug, Default)]
pub struct Filter(Option<Expr>);

impl Filter {
    /// Reads words as they come from the command line; none at all match every flow.
    ///
    /// # Errors
    /// The first word that makes no sense, with a remedy.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Self, FilterError> {
        let text = words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        match lex::tokens(&text).and_then(|tokens| parse::expression(&tokens, text.len())) {
            Ok(expr) => Ok(Self(expr)),
            Err(Fault { at, message }) => Err(FilterError { text, at, message }),
        }
    }

    /// Whether `flow` is asked for.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        self.0.as_ref().is_none_or(|expr| expr.ask(flow) == Some(true))
    }

    /// Whether a test wants states in which there is no live connection: sockets that listen, that are closed, or that a
    /// connection left behind.
    #[must_use]
    pub fn wants_no_connection(&self) -> bool {
        self.0.as_ref().is_some_and(|expr| expr.wants_only(NO_CONNECTION))
    }
}

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    text: String,
    at: Range<usize>,
    message: String,
}

impl std::error::Error for FilterError {}

impl fmt::Display for FilterError {
    /// Three lines: what and the remedy, the filter, carets under the word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |range: Range<usize>| clean(self.text.get(range).unwrap_or_default());
        let before = unicode_width::UnicodeWidthStr::width(shown(0..self.at.start).as_str());
        let under = unicode_width::UnicodeWidthStr::width(shown(self.at.clone()).as_str()).max(1);
        writeln!(f, "{}", self.message)?;
        writeln!(f, "  {}", shown(0..self.text.len()))?;
        write!(f, "  {:before$}{:^>under$}", "", "")
    }
}

/// The text with every character replaced that steers a terminal or hides or turns round what follows.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Whether a character steers a terminal, or hides or turns round what follows.
#[must_use]
pub fn steers(c: char) -> bool {
    let invisible = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    c.is_control() || invisible || c == '\u{feff}'
}

/// A fault by its place in the text.
#[derive(Debug)]
struct Fault {
    at: Range<usize>,
    message: String,
}

fn fault<T>(at: Range<usize>, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { at, message: message.into() })
}

#[derive(Clone, Debug)]
enum Expr {
    Every(Vec<Expr>),
    Either(Vec<Expr>),
    Not(Box<Expr>),
    Test(Test),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Local,
    Remote,
}

#[derive(Clone, Debug)]
enum Test {
    Addr {
        side: Side,
        net: Option<IpNet>,
        port: Option<u16>,
    },
    Port {
        side: Side,
        op: Op,
        port: u16,
    },
    /// Bit n is the state of that number.
    State(u16),
    Text {
        field: &'static Field,
        value: String,
    },
    Cgroup(GlobMatcher),
    Flag(&'static Field),
    Measure {
        measure: Measure,
        op: Op,
        value: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Gt,
    Le,
    Ge,
}

impl Op {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Eq => left == right,
            Self::Ne => left != right,
            Self::Lt => left < right,
            Self::Gt => left > right,
            Self::Le => left <= right,
            Self::Ge => left >= right,
        }
    }
}

/// States of sockets that carry no connection.
const NO_CONNECTION: u16 = bit(State::Listen) | bit(State::Close) | bit(State::TimeWait);

impl Expr {
    /// Whether a test outside of any `not` wants states of `set` and no other.
    fn wants_only(&self, set: u16) -> bool {
        match self {
            Self::Every(many) | Self::Either(many) => many.iter().any(|expr| expr.wants_only(set)),
            Self::Test(Test::State(wanted)) => wanted & !set == 0,
            Self::Not(_) | Self::Test(_) => false,
        }
    }

    /// Kleene's three values: `None` is unknown.
    fn ask(&self, flow: &Flow) -> Option<bool> {
        match self {
            Self::Every(all) => decide(all, flow, false),
            Self::Either(any) => decide(any, flow, true),
            Self::Not(expr) => expr.ask(flow).map(|known| !known),
            Self::Test(test) => test.ask(flow),
        }
    }
}

/// The answer of many: `decisive` as soon as one says so, unknown if one is, else the opposite.
fn decide(many: &[Expr], flow: &Flow, decisive: bool) -> Option<bool> {
    let mut answer = Some(!decisive);
    for expr in many {
        match expr.ask(flow) {
            Some(known) if known == decisive => return Some(decisive),
            Some(_) => {}
            None => answer = None,
        }
    }
    answer
}

impl Test {
    fn ask(&self, flow: &Flow) -> Option<bool> {
        let end = |side| match side {
            Side::Local => (flow.local_addr, flow.local_port),
            Side::Remote => (flow.remote_addr, flow.remote_port),
        };
        match self {
            Self::Addr { side, net, port } => {
                let (addr, own) = end(*side);
                Some(net.is_none_or(|net| net.contains(&addr)) && port.is_none_or(|port| port == own))
            }
            Self::Port { side, op, port } => Some(op.holds(&end(*side).1, port)),
            Self::State(set) => Some(set & bit(flow.state) != 0),
            Self::Text { field, value } => match field.of(flow)? {
                Value::Text(text) => Some(text == value),
                _ => None,
            },
            Self::Cgroup(glob) => Some(glob.is_match(flow.cgroup.as_deref()?)),
            Self::Flag(field) => match field.of(flow)? {
                Value::Bool(flag) => Some(flag),
                _ => None,
            },
            Self::Measure { measure, op, value } => Some(op.holds(&measure.of(flow)?, value)),
        }
    }
}

const fn bit(state: State) -> u16 {
    1 << state as u16
}

#[cfg(test)]
mod tests;
