//! A section `tls_server_config` as a configuration of rustls.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{
    Content,
    client_certificate::AnyCertificate,
    fault::Fault,
    file::{ClientAuth, Tls, Version, given},
    read,
};

/// TLS as the section says; `None` if it does not ask for it. `named` gets the files that were read.
pub(super) fn config(
    path: &Path,
    section: &Tls,
    named: &mut Vec<(PathBuf, Content)>,
) -> Result<Option<Arc<ServerConfig>>, Fault> {
    if !section.is_enabled() {
        return Ok(None);
    }
    let fault = |reason: String| Fault::of(path, reason);
    let mut pem = |name, inline, file| pem(path, name, inline, file, named);
    let certificate = pem("cert", &section.cert, &section.cert_file)?
        .ok_or_else(|| fault("tls_server_config: one of cert and cert_file is missing".to_owned()))?;
    let key = pem("key", &section.key, &section.key_file)?
        .ok_or_else(|| fault("tls_server_config: one of key and key_file is missing".to_owned()))?;
    let authorities = pem("client_ca", &section.client_ca, &section.client_ca_file)?;

    let provider = Arc::new(ring::default_provider());
    let versions = versions(section).map_err(fault)?;
    let chain = certificates(&certificate).map_err(fault)?;
    let key = PrivateKeyDer::from_pem_slice(&key.bytes)
        .map_err(|e| fault(format!("{}: there is no private key in it: {e}", key.name)))?;
    let verifier = verifier(section.client_auth_type.unwrap_or_default(), authorities.as_ref(), &provider)
        .map_err(fault)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|e| fault(format!("tls_server_config: {e}")))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| {
        fault(format!("{}: the certificate cannot be used with the key: {e}", certificate.name))
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = section.prefer_server_cipher_suites.unwrap_or(true);
    Ok(Some(Arc::new(config)))
}

struct Pem {
    /// Where it is from, for messages.
    name: String,
    bytes: Vec<u8>,
}

/// What a pair of keys such as `cert` and `cert_file` names; the file, relative to the configuration, comes first.
fn pem(
    path: &Path,
    name: &str,
    inline: &Option<String>,
    file: &Option<String>,
    named: &mut Vec<(PathBuf, Content)>,
) -> Result<Option<Pem>, Fault> {
    let Some(file) = given(file) else {
        return Ok(given(inline)
            .map(|text| Pem { name: format!("tls_server_config.{name}"), bytes: text.as_bytes().to_vec() }));
    };
    let file = path.parent().unwrap_or(Path::new("")).join(file);
    let content = read(&file);
    named.push((file.clone(), content.clone()));
    let bytes = content.map_err(|kind| {
        Fault::of(path, format!("tls_server_config.{name}_file: {} cannot be read: {kind}", file.display()))
    })?;
    Ok(Some(Pem { name: file.display().to_string(), bytes }))
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!("{}: there is no certificate in it", pem.name)),
        Err(e) => Err(format!("{}: the certificates cannot be read: {e}", pem.name)),
    }
}

fn versions(section: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let lowest = section.min_version.unwrap_or(Version::Tls12);
    let highest = section.max_version.unwrap_or(Version::Tls13);
    let all = [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)];
    let out: Vec<_> =
        all.into_iter().filter(|(version, _)| (lowest..=highest).contains(version)).map(|(_, v)| v).collect();
    if out.is_empty() {
        return Err("tls_server_config: min_version is above max_version".to_owned());
    }
    Ok(out)
}

fn verifier(
    auth: ClientAuth,
    authorities: Option<&Pem>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let any = |required| Ok(Some(Arc::new(AnyCertificate::new(required, provider)) as _));
    let verified = |required: bool| {
        let Some(pem) = authorities else {
            return Err(
                "tls_server_config: client_auth_type asks for certificates to be verified; say by which \
                        authority in client_ca_file"
                    .to_owned(),
            );
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem)? {
            roots
                .add(certificate)
                .map_err(|e| format!("{}: a certificate cannot be an authority: {e}", pem.name))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        builder.build().map(Some).map_err(|e| format!("{}: {e}", pem.name))
    };
    match auth {
        ClientAuth::NoClientCert if authorities.is_some() => {
            Err("tls_server_config: there is a client_ca, and no \
             client_auth_type that says what it is for, such as RequireAndVerifyClientCert"
                .to_owned())
        }
        ClientAuth::NoClientCert => Ok(None),
        ClientAuth::RequestClientCert => any(false),
        ClientAuth::RequireAnyClientCert => any(true),
        ClientAuth::VerifyClientCertIfGiven => verified(false),
        ClientAuth::RequireAndVerifyClientCert => verified(true),
    }
}
