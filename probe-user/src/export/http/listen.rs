//! Where the server listens: an address and port, or a unix socket.
//!
//! A unix socket has mode 0660 from its first moment, is made anew in place of one that nobody listens on any more, and
//! is removed at the end. Scrapes through it are no TCP connections, so they are not in the metrics themselves.

use std::{
    fs, io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::{Mode, chmod, fchmod, lstat},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Listen;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 128;

/// Owner and group may connect, which takes the right to write.
const MODE: u32 = 0o660;

/// A listening socket.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix { socket: UnixListener, _name: Name },
}

/// A connection.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A listening socket that no runtime knows yet.
#[derive(Debug)]
pub struct Bound(BoundKind);

#[derive(Debug)]
enum BoundKind {
    Tcp(std::net::TcpListener),
    Unix(unix::net::UnixListener, Name),
}

/// The name of a unix socket; removed when dropped.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for Name {
    fn drop(&mut self) {
        // Another one may have taken the name since.
        if lstat(&self.path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (self.device, self.inode)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Bound {
    /// Listens.
    ///
    /// # Errors
    /// The address is in use or not this host's, or the socket's folder cannot be written.
    pub fn new(address: &Listen) -> Result<Self> {
        Ok(Self(match address {
            Listen::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address).with_context(|| {
                    format!("cannot listen on {address}; free the address, or choose another with --listen")
                })?;
                listener.set_nonblocking(true)?;
                BoundKind::Tcp(listener)
            }
            Listen::Unix(path) => {
                let (listener, name) = unix(path)?;
                BoundKind::Unix(listener, name)
            }
        }))
    }

    /// The address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn address(&self) -> io::Result<Listen> {
        match &self.0 {
            BoundKind::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            BoundKind::Unix(_, name) => Ok(Listen::Unix(name.path.clone())),
        }
    }

    /// Hands it to the runtime that this runs in.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn into_listener(self) -> io::Result<Listener> {
        Ok(Listener(match self.0 {
            BoundKind::Tcp(listener) => Kind::Tcp(TcpListener::from_std(listener)?),
            BoundKind::Unix(listener, name) => {
                Kind::Unix { socket: UnixListener::from_std(listener)?, _name: name }
            }
        }))
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self(Kind::Tcp(listener))
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.0 {
            Kind::Tcp(listener) => {
                listener.accept().await.map(|(stream, _): (_, SocketAddr)| Accepted::Tcp(stream))
            }
            Kind::Unix { socket, .. } => socket.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

fn unix(path: &Path) -> Result<(unix::net::UnixListener, Name)> {
    remove_stale(path)?;
    let made = || -> io::Result<(OwnedFd, Name)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let mode = Mode::from_raw_mode(MODE);
        // The file that bind makes has the socket's mode less the umask; what the umask took is given back after.
        fchmod(&socket, mode)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        let stat = lstat(path)?;
        let name = Name { path: path.to_owned(), device: stat.st_dev, inode: stat.st_ino };
        chmod(path, mode)?;
        listen(&socket, BACKLOG)?;
        Ok((socket, name))
    };
    let (socket, name) = made().with_context(|| {
        format!("cannot listen on unix:{}; see that its folder is there and may be written", path.display())
    })?;
    Ok((socket.into(), name))
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        bail!("cannot listen on unix:{}: there is something that is no socket; move it away", path.display());
    }
    match unix::net::UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .with_context(|| format!("cannot remove {}, a socket that nobody listens on", path.display())),
        Err(e) => Err(e).with_context(|| {
            format!("cannot see whether somebody listens on unix:{}; choose another --listen", path.display())
        }),
        Ok(_) => bail!("somebody listens on unix:{}; end that, or choose another --listen", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_unix_socket_has_its_mode_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let address = Listen::Unix(path.clone());
        let bound = Bound::new(&address).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        assert_eq!(bound.address().unwrap(), address);
        let error = Bound::new(&address).unwrap_err().to_string();
        assert!(error.starts_with("somebody listens on unix:"), "{error}");
        assert!(unix::net::UnixStream::connect(&path).is_ok(), "asking did no harm");
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn what_nobody_listens_on_is_replaced_and_what_is_no_socket_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the name");
        let first = Bound::new(&Listen::Unix(path.clone())).unwrap();
        // Another one takes the name: it is not the first one's to remove.
        fs::remove_file(&path).unwrap();
        let other = unix::net::UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(other);

        fs::remove_file(&path).unwrap();
        fs::write(&path, "text").unwrap();
        let error = Bound::new(&Listen::Unix(path.clone())).unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"text");
        let error = Bound::new(&Listen::Unix("/nowhere/s".into())).unwrap_err().to_string();
        assert!(error.contains("its folder"), "{error}");
    }
}
