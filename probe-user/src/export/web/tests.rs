//! What is refused and where, what stays in force, and what a TLS handshake may take of the server.

use std::{collections::BTreeMap, fs, net::SocketAddr, time::Duration};

use axum::http::HeaderValue;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use proptest::prelude::*;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::export::{
    http::{Limits, MetricsSource, Pieces, Rendered, serve_within},
    negotiation::Format,
};

/// What has not happened by then will not.
const PATIENCE: Duration = Duration::from_secs(30);
const SECTION: &str = "tls_server_config:\n  cert_file: c.pem\n  key_file: k.pem\n";

/// A folder with a certificate for localhost `c.pem`, its key `k.pem`, and a configuration `web.yml`.
struct Folder {
    folder: TempDir,
    certificate: String,
}

impl Folder {
    fn new(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let this = Self { folder, certificate: cert.pem() };
        this.write("c.pem", &cert.pem());
        this.write("k.pem", &signing_key.serialize_pem());
        this.write("web.yml", configuration);
        this
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("web.yml")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn load(&self) -> Result<Arc<Web>, Fault> {
        Web::load(&self.path()).map(Arc::new)
    }

    /// What is said of the file, without its folder.
    fn fault(configuration: &str) -> String {
        let this = Self::new(configuration);
        let folder = format!("{}/", this.folder.path().display());
        this.load().expect_err(configuration).to_string().replace(&folder, "")
    }
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, fault) in [
        ("tls_server_config:\n  certfile: x\n", "web.yml:2: unknown field `certfile`"),
        ("basic_auth_users:\n  a: b\nmore: 1\n", "web.yml:3: unknown field `more`"),
        ("tls_server_config:\n  min_version: TLS11\n", "web.yml:2: TLS12 or TLS13 is wanted, not `TLS11`"),
        ("tls_server_config:\n  client_auth_type: Sure\n", "web.yml:2: unknown variant `Sure`"),
        (
            "tls_server_config:\n  client_allowed_sans: [a]\n",
            "web.yml:2: a key that flowprobe does not support",
        ),
        ("\nrate_limit:\n  burst: 1\n", "web.yml:3: a key that flowprobe does not support"),
        ("http_server_config:\n  http2: maybe\n", "web.yml:2: "),
        ("tls_server_config: [\n", "web.yml:"),
        ("a: 1\na: 2\n", "web.yml:1: "),
        ("basic_auth_users:\n  a: secret\n", "web.yml: basic_auth_users: a: this is no bcrypt hash"),
        (
            "basic_auth_users:\n  a: $2y$17$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG\n",
            "web.yml: basic_auth_users: a: a cost above 16",
        ),
        ("tls_server_config:\n  key_file: k.pem\n", "web.yml: tls_server_config: one of cert and cert_file"),
        ("tls_server_config:\n  cert_file: c.pem\n", "web.yml: tls_server_config: one of key and key_file"),
        (
            "tls_server_config:\n  cert_file: gone\n  key_file: k.pem\n",
            "web.yml: tls_server_config.cert_file: gone cannot be read",
        ),
        (
            "tls_server_config:\n  cert_file: k.pem\n  key_file: k.pem\n",
            "web.yml: k.pem: there is no certificate",
        ),
        (
            "tls_server_config:\n  cert_file: c.pem\n  key_file: c.pem\n",
            "web.yml: c.pem: there is no private key",
        ),
        (
            "http_server_config:\n  headers:\n    Server: x\n",
            "web.yml: the header `Server` cannot be set; there are Content-Security-Policy,",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: no\n",
            "web.yml: X-Frame-Options: deny or sameorigin",
        ),
    ] {
        let is = Folder::fault(text);
        assert!(is.starts_with(fault), "{text}: {is}");
        assert_eq!(is.lines().count(), 1, "{is}");
    }
    for (more, fault) in [
        ("  client_auth_type: RequireAndVerifyClientCert\n", "client_auth_type asks"),
        ("  client_ca_file: c.pem\n", "there is a client_ca, and no client_auth_type"),
        ("  min_version: TLS13\n  max_version: TLS12\n", "min_version is above max_version"),
    ] {
        let is = Folder::fault(&format!("{SECTION}{more}"));
        assert!(is.starts_with("web.yml: tls_server_config: ") && is.contains(fault), "{is}");
    }
    let gone = Web::load(Path::new("/nowhere/web.yml")).unwrap_err().to_string();
    assert!(gone.starts_with("/nowhere/web.yml: cannot be read"), "{gone}");
}

#[test]
fn what_the_toolkit_takes_is_taken() {
    let all = format!(
        "{SECTION}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: c.pem\n  min_version: TLS13\n  \
         max_version: TLS13\n  prefer_server_cipher_suites: false\nhttp_server_config:\n  http2: true\n  headers:\n    \
         Strict-Transport-Security: max-age=1\n    X-Content-Type-Options: nosniff\n    Content-Security-Policy: ''\n\
         basic_auth_users:\n  alice: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG\n  \"bob b\": \
         $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay\n"
    );
    let folder = Folder::new(&all);
    let access = access(&folder.path(), &read(&folder.path()), &mut Vec::new()).unwrap();
    assert!(access.tls.is_some() && !access.users.is_nobody());
    let header = |name: &str| access.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    assert_eq!(header("strict-transport-security"), Some(Some(HeaderValue::from_static("max-age=1"))));
    assert_eq!(header("content-security-policy"), Some(None), "one without value is taken away");

    for nothing in
        ["", "# nothing\n", "tls_server_config: {}\n", "tls_server_config:\n  min_version: TLS13\n"]
    {
        let folder = Folder::new(nothing);
        let access = access_of(&folder);
        assert!(access.tls.is_none() && access.users.is_nobody(), "{nothing}");
    }
    for auth in ["''", "NoClientCert", "RequestClientCert", "RequireAnyClientCert", "RequireClientCert"] {
        assert!(
            access_of(&Folder::new(&format!("{SECTION}  client_auth_type: {auth}\n"))).tls.is_some(),
            "{auth}"
        );
    }
}

fn access_of(folder: &Folder) -> Access {
    access(&folder.path(), &read(&folder.path()), &mut Vec::new()).unwrap()
}

#[tokio::test]
async fn a_change_is_in_force_at_the_next_connection_and_a_broken_one_never() {
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let folder = Folder::new(&format!("basic_auth_users:\n  a: {}\n", hash("one")));
    let web = folder.load().unwrap();
    let first = web.current().await;
    assert!(Arc::ptr_eq(&first, &web.current().await), "nothing changed");
    let field = |password: &str| {
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("a:{password}")))).unwrap()
    };
    assert!(web.is_allowed(&first, Some(&field("one"))).await);

    folder.write("web.yml", &format!("basic_auth_users:\n  a: {}\n", hash("two")));
    let second = web.current().await;
    assert!(!web.is_allowed(&second, Some(&field("one"))).await);
    assert!(web.is_allowed(&second, Some(&field("two"))).await);

    folder.write("web.yml", "basic_auth_users:\n  a: two\n");
    assert!(Arc::ptr_eq(&second, &web.current().await), "a broken file is in force");
    assert!(!web.last_reload_successful());
    fs::remove_file(folder.path()).unwrap();
    assert!(Arc::ptr_eq(&second, &web.current().await));
    folder.write("web.yml", SECTION);
    assert!(web.current().await.tls.is_some() && web.last_reload_successful());

    // A certificate whose key is not there yet is not in force; then both are.
    let before = web.current().await;
    let other = Folder::new("");
    folder.write("c.pem", &other.certificate);
    assert!(Arc::ptr_eq(&before, &web.current().await) && !web.last_reload_successful());
    folder.write("k.pem", &fs::read_to_string(other.folder.path().join("k.pem")).unwrap());
    assert!(!Arc::ptr_eq(&before, &web.current().await) && web.last_reload_successful());
}

struct Metrics;

impl MetricsSource for Metrics {
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn render(&self, _format: Format) -> Rendered<'_> {
        Box::pin(async { Box::new([Ok(Bytes::from_static(b"a 1\n"))].into_iter()) as Pieces })
    }
}

async fn server(limits: Limits, web: Arc<Web>) -> SocketAddr {
    server_of(limits, web, Arc::new(Metrics)).await
}

async fn server_of(limits: Limits, web: Arc<Web>, source: Arc<dyn MetricsSource>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_within(limits, listener.into(), Some(web), source, std::future::pending()));
    address
}

/// Says when it was asked, and answers when it is let.
#[derive(Default)]
struct Held {
    asked: Notify,
    let_go: Notify,
}

impl MetricsSource for Held {
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn render(&self, format: Format) -> Rendered<'_> {
        Box::pin(async move {
            self.asked.notify_one();
            self.let_go.notified().await;
            Metrics.render(format).await
        })
    }
}

/// A scrape with a password, over plain HTTP.
async fn ask(address: SocketAddr, credentials: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let field = STANDARD.encode(credentials);
    let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {field}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn wrong_passwords_displace_no_scrape() {
    let folder = Folder::new(&format!("basic_auth_users:\n  a: {}\n", bcrypt::hash("x", 4).unwrap()));
    let held = Arc::new(Held::default());
    let limits = Limits { answers: 1, ..patient() };
    let address = server_of(limits, folder.load().unwrap(), held.clone()).await;
    let scrape = tokio::spawn(ask(address, "a:x"));
    timeout(PATIENCE, held.asked.notified()).await.expect("it was not asked");
    for _ in 0..10 {
        assert!(ask(address, "a:y").await.starts_with("HTTP/1.1 401 "));
    }
    held.let_go.notify_one();
    assert!(scrape.await.unwrap().starts_with("HTTP/1.1 200 "));
}

/// Limits of which none but the number of connections can end anything in the time of a test.
fn patient() -> Limits {
    let long = Duration::from_secs(3600);
    Limits { connections: 16, answers: 4, head: long, render: long, total: long, drain: Duration::ZERO }
}

async fn scrape(address: SocketAddr, folder: &Folder) -> String {
    let mut roots = RootCertStore::empty();
    let certificate =
        rustls::pki_types::pem::PemObject::from_pem_slice(folder.certificate.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut out = String::new();
    stream.read_to_string(&mut out).await.unwrap();
    out
}

async fn ends(mut stream: TcpStream) {
    let mut out = Vec::new();
    // A reset is an end too.
    let _ =
        timeout(PATIENCE, stream.read_to_end(&mut out)).await.expect("the server keeps the connection open");
}

#[tokio::test]
async fn silent_and_half_spoken_handshakes_lock_nobody_out() {
    let folder = Folder::new(SECTION);
    let address = server(patient(), folder.load().unwrap()).await;
    let mut silent = Vec::new();
    // The beginning of a ClientHello of 512 bytes.
    for said in [0, 3, 5].into_iter().cycle().take(100) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[22, 3, 1, 2, 0][..said]).await.unwrap();
        silent.push(stream);
    }
    let answer = timeout(PATIENCE, scrape(address, &folder)).await.expect("it was locked out");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\na 1\n\r\n0\r\n"), "{answer}");
    silent.truncate(100 - 15);
    for stream in silent {
        ends(stream).await;
    }
}

#[tokio::test]
async fn a_slow_handshake_is_ended_by_the_clock() {
    let folder = Folder::new(SECTION);
    for limits in [
        Limits { head: Duration::from_millis(20), ..patient() },
        Limits { total: Duration::from_millis(20), ..patient() },
    ] {
        let address = server(limits, folder.load().unwrap()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
        ends(stream).await;
    }
}

#[tokio::test]
async fn headers_are_those_of_the_configuration_for_refusals_too() {
    let users = BTreeMap::from([("a", bcrypt::hash("x", 4).unwrap())]);
    let text = format!(
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Content-Security-Policy: ''\n\
         basic_auth_users:\n  a: {}\n",
        users["a"]
    );
    let folder = Folder::new(&text);
    let address = server(patient(), folder.load().unwrap()).await;
    for (field, status) in [
        (String::new(), "401"),
        (format!("Authorization: Basic {}\r\n", STANDARD.encode("a:y")), "401"),
        (format!("Authorization: Basic {}\r\n", STANDARD.encode("a:x")), "200"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nx-frame-options: deny\r\n"), "{answer}");
        assert!(!answer.contains("content-security-policy"), "{answer}");
        assert_eq!(answer.contains("\r\nwww-authenticate: Basic realm="), status == "401", "{answer}");
        assert_eq!(answer.contains("\r\na 1\n\r\n0\r\n"), status == "200", "{answer}");
    }
}

proptest! {
    #[test]
    fn arbitrary_files_never_panic(
        text in "(tls_server_config|basic_auth_users|cert_file|headers|: |\n|\n  |- |\\[|\\{|\\}|&a|\\*a|'|\"|\\||[\\x00-\\x7f]|é){0,30}",
    ) {
        if let Err(fault) = File::parse(Path::new("web.yml"), text.as_bytes()) {
            let fault = fault.to_string();
            prop_assert!(fault.starts_with("web.yml:") && fault.lines().count() == 1, "{}", fault);
        }
    }

    #[test]
    fn a_file_that_is_cut_or_changed_never_panics(at in 0..SECTION.len(), byte: u8) {
        let mut bytes = SECTION.as_bytes().to_vec();
        let _ = File::parse(Path::new("web.yml"), &bytes[..at]);
        bytes[at] = byte;
        let _ = File::parse(Path::new("web.yml"), &bytes);
    }
}
