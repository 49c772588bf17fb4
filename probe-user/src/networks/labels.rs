//! The labels that a network gives a group, and how their values are written.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use ipnet::IpNet;

/// A label that networks can give to groups; the names are those of the metrics' labels and of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// The address cut to a fixed length.
    Prefix,
    /// The longest announced prefix of the BGP table.
    BgpPrefix,
    /// The AS that announces it, or the one in the MMDB file.
    Asn,
    /// The country in the MMDB file.
    Country,
    /// The name of the longest prefix in the lists.
    List,
}

impl Label {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Prefix, Self::BgpPrefix, Self::Asn, Self::Country, Self::List];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::BgpPrefix => "bgp_prefix",
            Self::Asn => "asn",
            Self::Country => "country",
            Self::List => "list",
        }
    }

    /// The value where no source knows one.
    #[must_use]
    pub const fn absent(self) -> &'static str {
        match self {
            Self::List => "unlisted",
            _ => "unknown",
        }
    }
}

/// An AS number; written `AS64500`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asn(pub u32);

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

/// `64500` or `AS64500`; 0 is reserved (RFC 7607) and no AS.
impl FromStr for Asn {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = match text.get(..2) {
            Some(letters) if letters.eq_ignore_ascii_case("as") => text.get(2..).unwrap_or_default(),
            _ => text,
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(());
        }
        digits.parse().ok().filter(|number| *number != 0).map(Self).ok_or(())
    }
}

/// A country's code, ISO 3166-1 alpha-2 in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// `None` unless the text is two letters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let code = <[u8; 2]>::try_from(text.as_bytes()).ok()?;
        code.iter().all(u8::is_ascii_alphabetic).then(|| Self(code.map(|byte| byte.to_ascii_uppercase())))
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// What an address belongs to; what is not configured or not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    /// [`Label::Prefix`].
    pub prefix: Option<IpNet>,
    /// [`Label::BgpPrefix`].
    pub bgp_prefix: Option<IpNet>,
    /// [`Label::Asn`].
    pub asn: Option<Asn>,
    /// [`Label::Country`].
    pub country: Option<Country>,
    /// [`Label::List`].
    pub list: Option<Arc<str>>,
}

impl Labels {
    /// The value of a label, [`Label::absent`] where there is none.
    #[must_use]
    pub fn value(&self, label: Label) -> Cow<'_, str> {
        match label {
            Label::Prefix => self.prefix.map(|net| net.to_string().into()),
            Label::BgpPrefix => self.bgp_prefix.map(|net| net.to_string().into()),
            Label::Asn => self.asn.map(|asn| asn.to_string().into()),
            Label::Country => self.country.as_ref().map(|country| country.as_str().into()),
            Label::List => self.list.as_deref().map(Cow::Borrowed),
        }
        .unwrap_or(Cow::Borrowed(label.absent()))
    }
}

/// Longest name of a list or a service, in bytes.
pub(super) const LONGEST_NAME: usize = 100;

/// A name that can be a label's value, or why not.
///
/// # Errors
/// It is empty, too long, has control characters, or is a word that groups use themselves; one sentence with the remedy.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        Err("the name is empty: write at least one letter".to_owned())
    } else if name.len() > LONGEST_NAME {
        Err(format!("the name has {} bytes: {LONGEST_NAME} are the most", name.len()))
    } else if name.chars().any(char::is_control) {
        Err("the name holds a control character: take it out".to_owned())
    } else if ["other", "former", "unknown", "unlisted"].contains(&name) {
        Err(format!("`{name}` is what groups without a name are called: choose another name"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_numbers_are_read_in_both_spellings() {
        for text in ["64500", "AS64500", "as64500"] {
            assert_eq!(text.parse(), Ok(Asn(64500)));
        }
        for text in ["", "AS", "AS0", "0", "-1", "+5", "4294967296", "ASx", "64500 ", "1.10", "é"] {
            assert_eq!(text.parse::<Asn>(), Err(()), "{text}");
        }
        assert_eq!(Asn(4_294_967_295).to_string(), "AS4294967295");
    }

    #[test]
    fn countries_are_two_letters() {
        assert_eq!(Country::new("de").unwrap().as_str(), "DE");
        for text in ["", "D", "DEU", "D1", "é", "Germany"] {
            assert_eq!(Country::new(text), None, "{text}");
        }
    }

    #[test]
    fn absent_values_are_words() {
        let labels = Labels::default();
        assert_eq!(labels.value(Label::Asn), "unknown");
        assert_eq!(labels.value(Label::List), "unlisted");
        let labels = Labels { asn: Some(Asn(1)), country: Country::new("NL"), ..labels };
        assert_eq!((labels.value(Label::Asn), labels.value(Label::Country)), ("AS1".into(), "NL".into()));
    }

    #[test]
    fn names_that_groups_use_are_refused() {
        assert_eq!(check_name("cdn \"1\""), Ok(()));
        for name in ["", "other", "former", "unlisted", "a\nb", &"x".repeat(101)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
