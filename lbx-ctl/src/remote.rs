//! An agent on another machine: its address, the files that TLS needs, and what went wrong with them in words. Sends
//! nothing.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use reqwest::Url;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::error::CliError;

/// The agent's address, and the files to reach it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// As `https://lb1:9470/`.
    pub url: Url,
    /// Certificate to show.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authority of the agent's certificate.
    pub ca: PathBuf,
}

impl Remote {
    /// What TLS is spoken with.
    pub fn tls(&self) -> Result<ClientConfig, CliError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("--ca", &self.ca)? {
            roots.add(certificate).map_err(|error| wrong("--ca", &self.ca, &error.to_string()))?;
        }
        let chain = certificates("--cert", &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&read("--key", &self.key)?).map_err(|_| {
            let reason = "no private key without a passphrase is in it, in PEM";
            wrong("--key", &self.key, reason)
        })?;
        builder()?.with_root_certificates(roots).with_client_auth_cert(chain, key).map_err(|error| {
            let reason = if let rustls::Error::InconsistentKeys(_) = error {
                format!("it does not belong to the certificate in {}", self.cert.display())
            } else {
                error.to_string()
            };
            wrong("--key", &self.key, &reason)
        })
    }

    /// What TLS says of a failed request.
    pub fn reason(&self, error: &(dyn Error + 'static)) -> Option<String> {
        let (ca, cert) = (self.ca.display(), self.cert.display());
        let error = tls_error(error)?;
        Some(if let rustls::Error::InvalidCertificate(reason) = error {
            use CertificateError::{
                BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer,
            };
            if matches!(reason, UnknownIssuer | BadSignature) {
                format!("the agent's certificate is not signed by the authority in {ca}")
            } else if matches!(reason, NotValidForName | NotValidForNameContext { .. }) {
                format!("the agent's certificate is for another name: {reason}")
            } else if matches!(reason, Expired | ExpiredContext { .. }) {
                format!("the agent's certificate has expired: {reason}")
            } else {
                format!("the agent's certificate is not accepted: {reason}")
            }
        } else if let rustls::Error::AlertReceived(alert) = error {
            format!("the agent refuses the certificate in {cert}: {}", refusal(*alert))
        } else if let rustls::Error::InvalidMessage(_) = error {
            "it does not speak TLS there".to_owned()
        } else {
            format!("no TLS: {error}")
        })
    }
}

/// Where TLS is not spoken, the HTTP client is to have this: else it would look for the certificates of this host.
pub fn no_tls() -> Result<ClientConfig, CliError> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, CliError> {
    let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions();
    versions.map_err(|error| CliError::Local(format!("cannot speak TLS: {error}")))
}

fn refusal(alert: AlertDescription) -> String {
    // The second one where the right authority has the same name and another key.
    if matches!(alert, AlertDescription::UnknownCA | AlertDescription::DecryptError) {
        "it is not signed by the agent's --tls-client-ca".to_owned()
    } else if alert == AlertDescription::CertificateExpired {
        "it has expired".to_owned()
    } else {
        format!("alert {alert:?}")
    }
}

/// The one of TLS among the layers of an error of the HTTP client, some of which are errors of the system around it.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let below = |error: &'a (dyn Error + 'static)| -> Option<&'a (dyn Error + 'static)> {
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inside) => Some(inside),
            None => error.source(),
        }
    };
    std::iter::successors(Some(error), |&error| below(error)).find_map(|error| error.downcast_ref())
}

fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, CliError> {
    let pem = read(option, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(wrong(option, path, "no certificate is in it, in PEM")),
    }
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, CliError> {
    fs::read(path).map_err(|error| wrong(option, path, &error.to_string()))
}

fn wrong(option: &str, path: &Path, reason: &str) -> CliError {
    CliError::Usage(format!("{option} {}: {reason}", path.display()))
}
