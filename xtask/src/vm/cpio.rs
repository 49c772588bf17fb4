//! A cpio archive in the `newc` format, which the kernel unpacks as its first root
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Pure: bytes in, bytes out.
//!
//! Reproducible: owner root, times 0, inodes in order of adding.

use std::collections::BTreeSet;

/// An archive being written.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    folders: BTreeSet<String>,
}

/// Device numbers, major and minor.
type Device = (u32, u32);

impl Archive {
    const FOLDER: u32 = 0o040_000;
    const FILE: u32 = 0o100_000;
    const LINK: u32 = 0o120_000;
    const CHARACTER_DEVICE: u32 = 0o020_000;

    /// Adds a directory and those above it.
    pub(super) fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return;
        }
        self.folder_above(path);
        self.entry(path, Self::FOLDER | 0o755, (0, 0), &[]);
    }

    /// Adds a file with its permission bits, and the directories above it.
    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.folder_above(path);
        self.entry(path, Self::FILE | (permissions & 0o7777), (0, 0), content);
    }

    /// Adds a symbolic link to `to`.
    pub(super) fn link(&mut self, path: &str, to: &str) {
        self.folder_above(path);
        self.entry(path, Self::LINK | 0o777, (0, 0), to.as_bytes());
    }

    /// Adds a character device.
    pub(super) fn character_device(&mut self, path: &str, device: Device) {
        self.folder_above(path);
        self.entry(path, Self::CHARACTER_DEVICE | 0o600, device, &[]);
    }

    /// The archive, with the entry that ends it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.header("TRAILER!!!", 0, (0, 0), 0);
        self.bytes
    }

    fn folder_above(&mut self, path: &str) {
        if let Some((above, _)) = path.trim_matches('/').rsplit_once('/') {
            self.folder(above);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: Device, content: &[u8]) {
        self.inode += 1;
        self.header(path.trim_start_matches('/'), mode, device, content.len());
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn header(&mut self, name: &str, mode: u32, device: Device, size: usize) {
        // The format's size field holds 32 bits; a guest file of 4 GiB would not fit its memory either.
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let links = 1;
        let (owner, group, time, check) = (0, 0, 0, 0);
        let on_device = (0, 0);
        self.bytes.extend_from_slice(b"070701");
        for field in [
            self.inode,
            mode,
            owner,
            group,
            links,
            time,
            size,
            on_device.0,
            on_device.1,
            device.0,
            device.1,
            name_size,
            check,
        ] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    /// Headers and contents begin at multiples of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    /// (name, mode, device minor, content) of each entry, read by the format's description alone.
    fn read(bytes: &[u8]) -> Vec<(String, u32, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |index: usize| {
                let start = at + 6 + index * 8;
                u32::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap()
            };
            let name_end = at + 110 + field(11) as usize;
            let name = String::from_utf8(bytes[at + 110..name_end - 1].to_vec()).unwrap();
            assert_eq!(bytes[name_end - 1], 0);
            let begin = name_end.next_multiple_of(4);
            let content = bytes[begin..begin + field(6) as usize].to_vec();
            entries.push((name, field(1), field(10), content));
            at = (begin + field(6) as usize).next_multiple_of(4);
        }
        entries
    }

    #[test]
    fn what_was_added_is_read_back() {
        let mut archive = Archive::default();
        archive.file("/bin/tool", 0o755, b"12345");
        archive.file("/bin/other", 0o644, b"");
        archive.link("/bin/sh", "busybox");
        archive.character_device("/dev/console", (5, 1));
        let entries = read(&archive.finish());
        let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(names, ["bin", "bin/tool", "bin/other", "bin/sh", "dev", "dev/console", "TRAILER!!!"]);
        assert_eq!(entries[0].1, 0o040_755);
        assert_eq!((entries[1].1, entries[1].3.as_slice()), (0o100_755, b"12345".as_slice()));
        assert_eq!((entries[3].1, entries[3].3.as_slice()), (0o120_777, b"busybox".as_slice()));
        assert_eq!((entries[5].1, entries[5].2), (0o020_600, 1));
    }

    #[test]
    fn a_folder_is_made_once_and_after_the_one_above() {
        let mut archive = Archive::default();
        archive.folder("/a/b/c");
        archive.folder("a/b");
        let entries = read(&archive.finish());
        let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "TRAILER!!!"]);
    }
}
