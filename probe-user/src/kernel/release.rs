//! Which kernel is this, and which of its faults touch the numbers?

use rustix::system::uname;

use super::hooks::CALLBACKS_FOR_OLDER;

/// Release of the running kernel, as `uname -r`.
#[must_use]
pub fn release() -> String {
    uname().release().to_string_lossy().into_owned()
}

/// Major, minor and patch level of a release; Debian's releases do not tell the patch level.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What a reader of the numbers should know of this kernel.
#[must_use]
pub fn notes(release: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(version) = version(release) else {
        return vec![format!("the kernel release {release} was not understood; no known faults are listed")];
    };
    if version < (6, 10) {
        notes.push(
            "before Linux 6.10 the kernel does not tell a round-trip sample itself; the round trip of the newest \
             delivered segment stands for it, and without SACK there is none"
                .to_owned(),
        );
    }
    if version < CALLBACKS_FOR_OLDER {
        notes.push(
            "before Linux 6.12 callbacks cannot be switched on for connections older than the probe: their round \
             trips are read at sweeps and their retransmissions have no causes"
                .to_owned(),
        );
    }
    if version <= (6, 12) {
        notes.push(
            "the TCP iterator can skip sockets before 6.1.183 and 6.12.104; check the package's version"
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_number() {
        assert_eq!(version("6.1.0-56-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("6.12.117+deb12-cloud-amd64"), Some((6, 12)));
        assert_eq!(version("strange"), None);
        assert!(notes("6.18.44").is_empty());
        assert_eq!(notes("6.1.0-56").len(), 3);
    }
}
