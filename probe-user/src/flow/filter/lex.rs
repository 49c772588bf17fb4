//! Cuts a filter into words, operators and parentheses.

use std::ops::Range;

use super::{Fault, Op, fault};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Word(String),
    /// In quotes, never a keyword.
    Quoted(String),
    Op(Op),
    And,
    Or,
    Not,
    Open,
    Close,
}

const SPECIAL: &str = "()=!<>&|\"'";

/// The longest first, as one may begin another.
const SYMBOLS: [(&str, Kind); 14] = [
    ("==", Kind::Op(Op::Eq)),
    ("!=", Kind::Op(Op::Ne)),
    ("<=", Kind::Op(Op::Le)),
    (">=", Kind::Op(Op::Ge)),
    ("&&", Kind::And),
    ("||", Kind::Or),
    ("=", Kind::Op(Op::Eq)),
    ("<", Kind::Op(Op::Lt)),
    (">", Kind::Op(Op::Gt)),
    ("&", Kind::And),
    ("|", Kind::Or),
    ("!", Kind::Not),
    ("(", Kind::Open),
    (")", Kind::Close),
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let rest = &text[start..];
        if first.is_whitespace() {
            start += first.len_utf8();
            continue;
        }
        let (len, kind) = if let Some((symbol, kind)) = SYMBOLS.iter().find(|(s, _)| rest.starts_with(s)) {
            (symbol.len(), kind.clone())
        } else if first == '"' || first == '\'' {
            let Some(len) = rest[1..].find(first) else {
                return fault(start..text.len(), format!("this quote is never closed: end it with {first}"));
            };
            (len + 2, Kind::Quoted(rest[1..=len].to_owned()))
        } else {
            let len = rest.find(|c: char| c.is_whitespace() || SPECIAL.contains(c)).unwrap_or(rest.len());
            (len, word(&rest[..len]))
        };
        tokens.push(Token { at: start..start + len, kind });
        start += len;
    }
    Ok(tokens)
}

fn word(text: &str) -> Kind {
    match text.to_ascii_lowercase().as_str() {
        "and" => Kind::And,
        "or" => Kind::Or,
        "not" => Kind::Not,
        _ => Kind::Word(text.to_owned()),
    }
}

/// `ss` writes comparisons in letters too, which need no quotes in a shell.
pub(super) fn op_in_letters(word: &str) -> Option<Op> {
    Some(match word.to_ascii_lowercase().as_str() {
        "eq" => Op::Eq,
        "ne" | "neq" => Op::Ne,
        "lt" => Op::Lt,
        "gt" => Op::Gt,
        "le" | "leq" => Op::Le,
        "ge" | "geq" => Op::Ge,
        _ => return None,
    })
}
