//! Who gets to the metrics: TLS, clients' certificates, passwords and unix sockets, asked by curl and by a real Prometheus,
//! with files that `promtool check web-config` takes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustix::process::Signal;
use tempfile::TempDir;
use tests::kit::{Finished, Process, Stream, free_port, take_turn, wait_until};
use tests::scenario::{LONG, Prometheus, command, expect};

/// Quick to check; the toolkit takes any.
const COST: u32 = 5;

/// A folder of files for one server.
struct Folder(TempDir);

impl Folder {
    /// An authority `ca.pem`, the server's `server.pem`, a client's `client.pem`, each with its `.key`, and a client's
    /// `stranger.pem` of another authority.
    fn new() -> Result<Self> {
        let this = Self(tempfile::tempdir()?);
        let authority = this.authority("ca")?;
        this.certificate("server", ExtendedKeyUsagePurpose::ServerAuth, &authority)?;
        this.certificate("client", ExtendedKeyUsagePurpose::ClientAuth, &authority)?;
        this.certificate("stranger", ExtendedKeyUsagePurpose::ClientAuth, &this.authority("other")?)?;
        Ok(this)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path(name), text).with_context(|| format!("cannot write {name}"))
    }

    fn authority(&self, name: &str) -> Result<Issuer<'static, KeyPair>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        self.write(&format!("{name}.pem"), &params.self_signed(&key)?.pem())?;
        Ok(Issuer::new(params, key))
    }

    fn certificate(
        &self,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
        authority: &Issuer<'static, KeyPair>,
    ) -> Result<()> {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        // OpenSSL takes a certificate whose issuer has its own name for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        self.write(&format!("{name}.pem"), &params.signed_by(&key, authority)?.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())
    }

    /// Writes `web.yml`, which has to be right for promtool too.
    fn configure(&self, text: &str) -> Result<()> {
        self.write("web.yml", text)?;
        let said = self.promtool("web.yml")?;
        ensure!(said.code == Some(0), "promtool refuses {text}: {}{}", said.out, said.err);
        Ok(())
    }

    fn promtool(&self, name: &str) -> Result<Finished> {
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "web-config", &self.arg(name)]);
        Process::run(promtool, LONG).context("install Debian's package `prometheus`")
    }
}

fn users(all: &[(&str, &str)]) -> Result<String> {
    let mut out = "basic_auth_users:\n".to_owned();
    for (user, password) in all {
        out.push_str(&format!("  {user}: {}\n", bcrypt::hash(password, COST)?));
    }
    Ok(out)
}

const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";

/// Runs curl: its exit code, the status, and the body.
fn curl(more: &[&str]) -> Result<(Option<i32>, String, String)> {
    let mut curl = Command::new("curl");
    // A user's own settings are none of the test's.
    curl.args(["-q", "-s", "--max-time", "60", "-w", "\n%{http_code}"]).args(more);
    let done = Process::run(curl, LONG).context("install Debian's package `curl`")?;
    let (body, status) = done.out.rsplit_once('\n').unwrap_or_default();
    Ok((done.code, status.to_owned(), body.to_owned()))
}

/// A daemon with a web configuration.
struct Served {
    process: Process,
    address: SocketAddr,
    run_dir: TempDir,
}

impl Served {
    fn start(folder: &Folder) -> Result<Self> {
        let run_dir = tempfile::tempdir()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = command(run_dir.path())?;
        command.args([
            "daemon",
            "--listen",
            &address.to_string(),
            "--web.config.file",
            &folder.arg("web.yml"),
        ]);
        let mut process = Process::start(command, None)?;
        wait_until(LONG, "the daemon serves", || {
            process.expect_running()?;
            Ok(process.output(Stream::Err).contains("metrics on"))
        })?;
        Ok(Self { process, address, run_dir })
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/metrics", self.address)
    }

    fn stop(self) -> Result<()> {
        let done = self.process.stop(LONG)?;
        expect("the daemon's exit code", done.code, Some(0))?;
        ensure!(!done.err.contains("panicked"), "{}", done.err);
        drop(self.run_dir);
        Ok(())
    }
}

#[test]
fn tls_is_for_those_who_know_the_authority() -> Result<()> {
    let _turn = take_turn()?;
    let folder = Folder::new()?;
    folder.configure(&format!("{TLS}  min_version: TLS12\n"))?;
    let served = Served::start(&folder)?;
    let (https, ca) = (served.url("https"), folder.arg("ca.pem"));
    let (code, status, body) = curl(&["--cacert", &ca, &https])?;
    expect("curl's exit code", (code, status.as_str()), (Some(0), "200"))?;
    ensure!(body.contains("flowprobe_web_config_last_reload_successful 1\n"), "{body}");
    // 60: the certificate cannot be verified. 52, 56: no answer, or a broken one.
    expect("without the authority", curl(&[&https])?.0, Some(60))?;
    expect("another authority", curl(&["--cacert", &folder.arg("other.pem"), &https])?.0, Some(60))?;
    let plain = curl(&[&served.url("http")])?;
    ensure!(matches!(plain.0, Some(52 | 56 | 1)), "plain HTTP on a TLS port: {plain:?}");

    // The lowest version is raised without a restart.
    let twelve = ["--cacert", &ca, "--tls-max", "1.2", &https];
    expect("TLS 1.2", curl(&twelve)?.1, "200".to_owned())?;
    folder.configure(&format!("{TLS}  min_version: TLS13\n"))?;
    ensure!(curl(&twelve)?.0 != Some(0), "TLS 1.2 is taken after it was ruled out");
    expect("TLS 1.3", curl(&["--cacert", &ca, &https])?.1, "200".to_owned())?;

    // A new certificate of another authority, key first: in force once both fit.
    let other = Folder::new()?;
    for name in ["server.key", "server.pem"] {
        expect("the old certificate", curl(&["--cacert", &ca, &https])?.1, "200".to_owned())?;
        fs::copy(other.path(name), folder.path(name))?;
    }
    expect("the new certificate", curl(&["--cacert", &other.arg("ca.pem"), &https])?.1, "200".to_owned())?;
    ensure!(curl(&["--cacert", &ca, &https])?.0 != Some(0), "the old certificate is still in force");
    served.stop()
}

#[test]
fn a_certificate_is_asked_of_clients() -> Result<()> {
    let _turn = take_turn()?;
    let folder = Folder::new()?;
    folder.configure(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
    ))?;
    let served = Served::start(&folder)?;
    let (https, ca) = (served.url("https"), folder.arg("ca.pem"));
    let with = |name: &str| {
        let (cert, key) = (folder.arg(&format!("{name}.pem")), folder.arg(&format!("{name}.key")));
        curl(&["--cacert", &ca, "--cert", &cert, "--key", &key, &https])
    };
    expect("the client's certificate", with("client")?.1, "200".to_owned())?;
    ensure!(with("stranger")?.0 != Some(0), "a stranger's certificate is taken");
    ensure!(curl(&["--cacert", &ca, &https])?.0 != Some(0), "no certificate is needed");
    folder.configure(&format!(
        "{TLS}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem\n"
    ))?;
    expect("none", curl(&["--cacert", &ca, &https])?.1, "200".to_owned())?;
    ensure!(with("stranger")?.0 != Some(0), "a stranger's certificate is taken");
    folder.configure(&format!("{TLS}  client_auth_type: RequireAnyClientCert\n"))?;
    expect("any", with("stranger")?.1, "200".to_owned())?;
    ensure!(curl(&["--cacert", &ca, &https])?.0 != Some(0), "no certificate is needed");
    served.stop()
}

#[test]
fn passwords_are_those_of_the_file_as_it_is_now() -> Result<()> {
    let _turn = take_turn()?;
    let folder = Folder::new()?;
    folder.configure(&users(&[("alice", "one"), ("bob", "two")])?)?;
    let served = Served::start(&folder)?;
    let http = served.url("http");
    let status = |user: &str| Ok::<_, anyhow::Error>(curl(&["-u", user, &http])?.1);
    let refused = curl(&[&http])?;
    expect("nobody", refused.1.as_str(), "401")?;
    ensure!(!refused.2.contains("flowprobe_"), "metrics are given away: {}", refused.2);
    for (user, wanted) in [
        ("alice:one", "200"),
        ("bob:two", "200"),
        ("alice:two", "401"),
        ("eve:one", "401"),
        ("alice:", "401"),
    ] {
        expect(user, status(user)?.as_str(), wanted)?;
    }
    for path in ["/", "/-/healthy", "/nothing"] {
        let (_, status, _) = curl(&[&format!("http://{}{path}", served.address)])?;
        expect(path, status.as_str(), "401")?;
    }

    folder.configure(&users(&[("alice", "new")])?)?;
    expect("the new password", status("alice:new")?.as_str(), "200")?;
    expect("the old password", status("alice:one")?.as_str(), "401")?;
    expect("who is no user any more", status("bob:two")?.as_str(), "401")?;

    // Neither promtool nor flowprobe takes it; what was in force stays, and both the log and a metric say so.
    folder.write("web.yml", "basic_auth_users:\n  alice: new\n")?;
    expect("promtool's exit code", folder.promtool("web.yml")?.code, Some(1))?;
    let (_, code, body) = curl(&["-u", "alice:new", &http])?;
    expect("the password of before", code.as_str(), "200")?;
    ensure!(body.contains("\nflowprobe_web_config_last_reload_successful 0\n"), "{body}");
    expect("the hash of before as a password", status("alice:one")?.as_str(), "401")?;
    let log = served.process.output(Stream::Err);
    let lines = log.lines().filter(|line| line.contains("web.yml") && line.contains("stays")).count();
    ensure!(lines == 1, "{lines} lines about the broken file: {log}");
    folder.configure(&users(&[("alice", "last")])?)?;
    let (_, _, body) = curl(&["-u", "alice:last", &http])?;
    ensure!(body.contains("\nflowprobe_web_config_last_reload_successful 1\n"), "{body}");
    served.stop()
}

#[test]
fn a_broken_file_is_refused_at_the_start_with_its_line() -> Result<()> {
    let _turn = take_turn()?;
    let folder = Folder::new()?;
    for (text, wanted) in [
        (format!("{TLS}  cert_fil: x\n"), "web.yml:4: unknown field `cert_fil`"),
        ("basic_auth_users:\n  a: b\n".to_owned(), "web.yml: basic_auth_users: a: this is no bcrypt hash"),
        ("tls_server_config:\n  cert_file: server.pem\n".to_owned(), "one of key and key_file is missing"),
        (format!("{TLS}  client_ca_file: ca.pem\n"), "there is a client_ca"),
    ] {
        folder.write("web.yml", &text)?;
        expect("promtool's exit code", folder.promtool("web.yml")?.code, Some(1))?;
        let run_dir = tempfile::tempdir()?;
        let mut command = command(run_dir.path())?;
        command.args(["daemon", "--listen", "127.0.0.1:0", "--web.config.file", &folder.arg("web.yml")]);
        let done = Process::run(command, LONG)?;
        expect("the exit code", done.code, Some(1))?;
        ensure!(done.err.contains(wanted), "{text}: {}", done.err);
    }
    Ok(())
}

#[test]
fn a_prometheus_server_scrapes_with_certificate_and_password() -> Result<()> {
    let _turn = take_turn()?;
    let folder = Folder::new()?;
    folder.configure(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n{}",
        users(&[("prometheus", "secret")])?
    ))?;
    let served = Served::start(&folder)?;
    let job = |name: &str, password: &str| {
        format!(
            "  - job_name: {name}\n    scheme: https\n    basic_auth: {{username: prometheus, password: {password}}}\n    \
             tls_config: {{ca_file: {}, cert_file: {}, key_file: {}}}\n    static_configs: [{{targets: ['{}']}}]\n",
            folder.arg("ca.pem"),
            folder.arg("client.pem"),
            folder.arg("client.key"),
            served.address
        )
    };
    let mut prometheus = Prometheus::start(
        &format!("scrape_configs:\n{}{}", job("right", "secret"), job("wrong", "guess")),
        true,
    )?;
    prometheus.wait_for_value("up{job=\"right\"}", |value| value == 1.0)?;
    prometheus.wait_for_value("up{job=\"wrong\"}", |value| value == 0.0)?;
    prometheus
        .wait_for_value("flowprobe_web_config_last_reload_successful{job=\"right\"}", |value| value == 1.0)?;
    prometheus.stop()?;
    served.stop()
}

/// A daemon on a unix socket that answers.
fn on_socket(run_dir: &Path, socket: &Path) -> Result<Process> {
    let mut command = command(run_dir)?;
    command.args(["daemon", "--listen", &format!("unix:{}", socket.display())]);
    let mut process = Process::start(command, None)?;
    wait_until(LONG, "the daemon is ready", || {
        process.expect_running()?;
        Ok(ask(socket, "/-/ready")?.1 == "200")
    })?;
    Ok(process)
}

fn ask(socket: &Path, path: &str) -> Result<(Option<i32>, String, String)> {
    curl(&["--unix-socket", &socket.display().to_string(), &format!("http://flowprobe{path}")])
}

#[test]
fn a_unix_socket_is_served_replaced_when_stale_and_removed() -> Result<()> {
    let _turn = take_turn()?;
    let (run_dir, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let socket = folder.path().join("metrics.sock");
    let process = on_socket(run_dir.path(), &socket)?;
    let metadata = fs::metadata(&socket)?;
    ensure!(metadata.file_type().is_socket());
    expect("the mode", format!("{:o}", metadata.permissions().mode() & 0o7777), "660".to_owned())?;
    let (_, status, body) = ask(&socket, "/metrics")?;
    expect("/metrics", status.as_str(), "200")?;
    ensure!(body.contains("\nflowprobe_build_info{"), "{body}");

    // Another daemon does not take it away.
    let other = tempfile::tempdir()?;
    let mut second = command(other.path())?;
    second.args(["daemon", "--listen", &format!("unix:{}", socket.display())]);
    let second = Process::run(second, LONG)?;
    expect("the second's exit code", second.code, Some(1))?;
    ensure!(second.err.contains("somebody listens on unix:"), "{}", second.err);
    expect("the first", ask(&socket, "/metrics")?.1.as_str(), "200")?;

    // One that was killed leaves its socket; the next one takes its place, and removes it at the end.
    process.signal(Signal::KILL)?;
    process.finish(LONG)?;
    ensure!(socket.exists(), "nothing was left behind");
    let process = on_socket(run_dir.path(), &socket)?;
    expect("the exit code", process.stop(LONG)?.code, Some(0))?;
    ensure!(!socket.exists(), "the socket is left behind");
    Ok(())
}
