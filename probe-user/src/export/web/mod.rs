//! Who may see the metrics: `--web.config.file`, in the format of Prometheus' exporter-toolkit.
//!
//! Reads the file and those it names at each connection, so that a change is in force without a restart: a few kilobytes
//! of reading, and nothing is made anew unless a byte is another one. What cannot be used is told once in the log and in
//! `flowprobe_web_config_last_reload_successful`, and what was in force before stays.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::http::{HeaderName, HeaderValue};
use rustls::ServerConfig;
use tokio::{sync, task};

pub use self::{fault::Fault, users::Users};
use self::{file::File, users::Checked};

mod client_certificate;
mod fault;
mod file;
#[cfg(test)]
mod tests;
mod tls;
mod users;

/// What is in force for a connection.
#[derive(Debug)]
pub struct Access {
    /// TLS; `None` is plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who may ask; nobody in it lets everybody.
    pub users: Users,
    /// Fields for every answer, in place of those of the same name; one without value takes the field away.
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
}

/// A web configuration that follows its file.
#[derive(Debug)]
pub struct Web {
    path: PathBuf,
    access: Mutex<Arc<Access>>,
    /// What was read last, used or not. Locked while files are read, the others only for a moment.
    read: Arc<sync::Mutex<Inputs>>,
    successful: AtomicBool,
    checked: Arc<Checked>,
}

/// Bytes of a file, or why there are none.
type Content = Result<Vec<u8>, io::ErrorKind>;

/// The configuration and the files it names.
#[derive(Debug, PartialEq, Eq)]
struct Inputs {
    own: Content,
    named: Vec<(PathBuf, Content)>,
}

impl Web {
    /// Reads the configuration.
    ///
    /// # Errors
    /// The file, or one that it names, cannot be used.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let own = read(path);
        let mut named = Vec::new();
        let access = access(path, &own, &mut named)?;
        Ok(Self {
            path: path.to_owned(),
            access: Mutex::new(Arc::new(access)),
            read: Arc::new(sync::Mutex::new(Inputs { own, named })),
            successful: AtomicBool::new(true),
            checked: Arc::default(),
        })
    }

    /// What is in force now.
    pub async fn current(self: &Arc<Self>) -> Arc<Access> {
        // One look at a time: clients that wait are tasks, not threads. The lock ends with the look, also when the client has
        // gone away meanwhile.
        let last = Arc::clone(&self.read).lock_owned().await;
        let this = Arc::clone(self);
        let look = move || this.look(last);
        // Off the threads that answer: a disk may be slow.
        if let Err(e) = task::spawn_blocking(look).await {
            tracing::error!("reading {} failed inside: {e}; please report this", self.path.display());
        }
        Arc::clone(&lock(&self.access))
    }

    /// Whether what the files held at the last look is in force.
    #[must_use]
    pub fn last_reload_successful(&self) -> bool {
        self.successful.load(Ordering::Relaxed)
    }

    /// Whether the name and password of an `Authorization` field are those of a user, by `access`.
    pub async fn is_allowed(&self, access: &Arc<Access>, authorization: Option<&HeaderValue>) -> bool {
        access.users.is_nobody() || Checked::allows(&self.checked, access, authorization).await
    }

    fn look(&self, mut last: sync::OwnedMutexGuard<Inputs>) {
        let own = read(&self.path);
        let same = |(path, content): &(PathBuf, Content)| *content == read(path);
        if own == last.own && last.named.iter().all(same) {
            return;
        }
        let mut named = Vec::new();
        let made = access(&self.path, &own, &mut named);
        *last = Inputs { own, named };
        self.successful.store(made.is_ok(), Ordering::Relaxed);
        match made {
            Ok(access) => {
                *lock(&self.access) = Arc::new(access);
                tracing::info!("{} was read again and is in force", self.path.display());
            }
            Err(fault) => tracing::warn!("{fault}; what was in force before stays"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under the locks can leave what they hold half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(path: &Path) -> Content {
    std::fs::read(path).map_err(|e| e.kind())
}

/// Makes of a configuration what is in force; `named` gets the files that were read for it, also when it fails.
fn access(path: &Path, own: &Content, named: &mut Vec<(PathBuf, Content)>) -> Result<Access, Fault> {
    let own = own.as_ref().map_err(|kind| Fault::of(path, format!("cannot be read: {kind}")))?;
    let file = File::parse(path, own)?;
    let tls = file.tls_server_config.as_ref().map(|section| tls::config(path, section, named)).transpose()?;
    Ok(Access {
        tls: tls.flatten(),
        users: Users::new(path, file.basic_auth_users)?,
        headers: file
            .http_server_config
            .map(|section| section.headers(path))
            .transpose()?
            .unwrap_or_default(),
    })
}
