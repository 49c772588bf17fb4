//! Basic authentication (RFC 7617) against bcrypt hashes.
//!
//! A hash takes tens of milliseconds to check, by design. So one is checked at a time, off the threads that answer, and a
//! password that was right is remembered, as a keyed digest, for as long as its user has the same hash. An unknown user
//! costs what a known one with a wrong password costs.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::HeaderValue;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bcrypt::HashParts;
use ring::{hmac, rand::SystemRandom};
use tokio::{sync, task};

use super::{Access, fault::Fault};

/// A higher cost would take longer than a scrape may.
const HIGHEST_COST: u32 = 16;

/// Remembered passwords; when there are more, all are forgotten.
const REMEMBERED: usize = 100;

/// Names and bcrypt hashes.
#[derive(Debug, Default)]
pub struct Users(BTreeMap<String, String>);

impl Users {
    pub(super) fn new(path: &Path, users: Option<BTreeMap<String, String>>) -> Result<Self, Fault> {
        let users = users.unwrap_or_default();
        for (user, hash) in &users {
            let fault = |reason: &str| Err(Fault::of(path, format!("basic_auth_users: {user}: {reason}")));
            match hash.parse::<HashParts>() {
                Err(_) => return fault("this is no bcrypt hash; make one with `htpasswd -nBC 10 NAME`"),
                Ok(parts) if parts.get_cost() > HIGHEST_COST => {
                    return fault(
                        "a cost above 16 takes longer than a scrape may; make a hash of a lower one",
                    );
                }
                Ok(_) => {}
            }
        }
        Ok(Self(users))
    }

    pub(super) fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }
}

/// What was found right before, and the turn to find out.
#[derive(Debug)]
pub(super) struct Checked {
    /// `None` if the system gives no randomness: nothing is remembered then.
    key: Option<hmac::Key>,
    right: Mutex<HashSet<Vec<u8>>>,
    turn: Arc<sync::Mutex<()>>,
}

impl Default for Checked {
    fn default() -> Self {
        Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            right: Mutex::default(),
            turn: Arc::default(),
        }
    }
}

impl Checked {
    pub(super) async fn allows(this: &Arc<Self>, access: &Arc<Access>, field: Option<&HeaderValue>) -> bool {
        let Some((user, password)) = field.and_then(credentials) else { return false };
        let users = &access.users.0;
        // Any hash does for an unknown user: that it matches counts for nothing.
        let Some((hash, is_known)) =
            users.get(&user).map(|hash| (hash, true)).or_else(|| Some((users.values().next()?, false)))
        else {
            return false;
        };
        let digest = this.digest([user.as_bytes(), hash.as_bytes(), &password]);
        if is_known && digest.as_ref().is_some_and(|digest| this.lock().contains(digest)) {
            return true;
        }
        let turn = Arc::clone(&this.turn).lock_owned().await;
        let hash = hash.clone();
        // The turn ends with the work, also when the client has gone away meanwhile.
        let work = move || {
            let _turn = turn;
            bcrypt::verify(password, &hash).unwrap_or(false)
        };
        let is_right = task::spawn_blocking(work).await.unwrap_or(false) && is_known;
        if is_right && let Some(digest) = digest {
            let mut right = this.lock();
            if right.len() >= REMEMBERED {
                right.clear();
            }
            right.insert(digest);
        }
        is_right
    }

    fn digest(&self, parts: [&[u8]; 3]) -> Option<Vec<u8>> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        for part in parts {
            // With its length, so that no two triples are the same bytes.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Some(context.sign().as_ref().to_vec())
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Vec<u8>>> {
        // Nothing under the lock can leave the set half-changed.
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Name and password of `Basic …`.
fn credentials(field: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, coded) = field.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = STANDARD.decode(coded.trim()).ok()?;
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    Some((std::str::from_utf8(&bytes[..colon]).ok()?.to_owned(), bytes[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn name_and_password_are_parted_at_the_first_colon() {
        let read = |text: &str| credentials(&HeaderValue::from_str(text).unwrap());
        // a:b:c, and the same with another case of the scheme.
        assert_eq!(read("Basic YTpiOmM="), Some(("a".to_owned(), b"b:c".to_vec())));
        assert_eq!(read("bASIC YTpiOmM="), read("Basic YTpiOmM="));
        for text in ["", "Basic", "Basic ", "Basic YQ==", "Basic !", "Bearer YTpiOmM=", "Basic /zph"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn what_was_right_is_remembered_for_its_hash_alone() {
        let hash = |password| bcrypt::hash(password, 4).unwrap();
        let access = |users: &[(&str, String)]| {
            let users = users.iter().map(|(user, hash)| ((*user).to_owned(), hash.clone())).collect();
            Arc::new(Access { tls: None, users: Users(users), headers: Vec::new() })
        };
        let field = |text: &str| HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).unwrap();
        let checked = Arc::new(Checked::default());
        let first = access(&[("a", hash("one"))]);
        assert!(Checked::allows(&checked, &first, Some(&field("a:one"))).await);
        assert_eq!(checked.lock().len(), 1);
        assert!(Checked::allows(&checked, &first, Some(&field("a:one"))).await);
        for wrong in ["a:two", "b:one", "a:", ":one", "a:one "] {
            assert!(!Checked::allows(&checked, &first, Some(&field(wrong))).await, "{wrong}");
        }
        assert!(!Checked::allows(&checked, &first, None).await);
        assert_eq!(checked.lock().len(), 1, "only what is right is remembered");
        let second = access(&[("a", hash("two"))]);
        assert!(!Checked::allows(&checked, &second, Some(&field("a:one"))).await, "the hash is another one");
        assert!(Checked::allows(&checked, &second, Some(&field("a:two"))).await);
    }

    #[tokio::test]
    async fn one_password_is_checked_at_a_time_also_when_clients_go_away() {
        let users = BTreeMap::from([("a".to_owned(), bcrypt::hash("x", 4).unwrap())]);
        let access = Arc::new(Access { tls: None, users: Users(users), headers: Vec::new() });
        let checked = Arc::new(Checked::default());
        let turn = Arc::clone(&checked.turn).lock_owned().await;
        let field = |text| HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).unwrap();
        // An unknown user waits for a check as well, which tells nobody that it is unknown.
        for text in ["a:x", "b:x"] {
            let field = field(text);
            let waiting = Checked::allows(&checked, &access, Some(&field));
            let waiting = timeout(Duration::from_millis(20), waiting).await;
            assert!(waiting.is_err(), "{text} did not wait for its turn");
        }
        drop(turn);
        assert!(Checked::allows(&checked, &access, Some(&field("a:x"))).await);
    }
}
