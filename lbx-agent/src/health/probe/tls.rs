//! TLS of a probe.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{ProbeError, Steps};

/// Makes the handshake for the name in `host`, which may have a port.
pub(super) async fn wrap(
    stream: TcpStream,
    host: &str,
    allow_insecure: bool,
    steps: &mut Steps,
) -> Result<TlsStream<TcpStream>, ProbeError> {
    let name = name_in(host);
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| ProbeError::Endpoint(format!("`{name}` is no name that a certificate can have")))?;
    let config = config(allow_insecure).map_err(ProbeError::Host)?;
    steps.wait_for("the TLS handshake");
    let stream = TlsConnector::from(config).connect(server, stream).await.map_err(|error| {
        let hint = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_)) => " (`allow_insecure` would let it pass)",
            _ => "",
        };
        ProbeError::Endpoint(format!("no TLS for `{name}`: {error}{hint}"))
    })?;
    steps.finish("tls", || {
        let version = stream.get_ref().1.protocol_version();
        let version =
            version.and_then(|version| version.as_str()).unwrap_or("unknown version").replace('_', ".");
        format!("{version} for `{name}`")
    });
    Ok(stream)
}

/// The host without a port and without brackets.
fn name_in(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.split(':').next().unwrap_or(host)
}

/// With the certificate authorities that the host trusts, as they were when the first probe asked for them.
fn config(allow_insecure: bool) -> Result<Arc<ClientConfig>, String> {
    static CHECKED: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    static UNCHECKED: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let config = if allow_insecure { UNCHECKED.get_or_init(unchecked) } else { CHECKED.get_or_init(checked) };
    config.clone()
}

fn checked() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate authority of this host could not be read");
    }
    roots.add_parsable_certificates(found.certs);
    let builder = builder()?.with_root_certificates(roots);
    Ok(Arc::new(builder.with_no_client_auth()))
}

fn unchecked() -> Result<Arc<ClientConfig>, String> {
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let builder =
        builder()?.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)));
    Ok(Arc::new(builder.with_no_client_auth()))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    builder.map_err(|error| format!("no TLS on this host: {error}"))
}

/// Takes any certificate; that the other side holds its key is still checked.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
