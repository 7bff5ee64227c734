//! The certificates of the TCP listener: reads their files, says everything that is wrong in them, and notices new
//! ones. Never listens, and never prints a key.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// What the command line names.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate of the agent, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authority of the clients' certificates.
    pub client_ca: PathBuf,
}

/// All that is wrong with the files, each with its option and name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct TlsError(pub Vec<String>);

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Vec<u8>,
}

/// The certificates in force.
pub struct Certificates {
    files: TlsFiles,
    /// What was found at the last look: a file that is being written to is left alone.
    seen: Result<Contents, TlsError>,
    /// What was last tried, right or wrong.
    tried: Result<Contents, TlsError>,
    /// What connections are made with.
    pub config: Arc<ServerConfig>,
    /// Seconds since the epoch when the agent's certificate ends.
    pub not_after_secs: i64,
}

impl Certificates {
    /// Reads the files.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = files.read()?;
        let (config, not_after_secs) = files.config(&contents, now_secs())?;
        Ok(Self { files, seen: Ok(contents.clone()), tried: Ok(contents), config, not_after_secs })
    }

    /// Looks whether there are new ones, and takes them when they have stayed the same for two looks. Returns whether
    /// they are in force; what is wrong with them leaves those before in force.
    pub fn look(&mut self) -> Result<bool, TlsError> {
        let found = self.files.read();
        if found != self.seen {
            self.seen = found;
            return Ok(false);
        }
        if found == self.tried { Ok(false) } else { self.take(found) }
    }

    /// Reads the files again, as somebody asked for.
    pub fn reload(&mut self) -> Result<bool, TlsError> {
        let found = self.files.read();
        self.seen.clone_from(&found);
        self.take(found)
    }

    fn take(&mut self, found: Result<Contents, TlsError>) -> Result<bool, TlsError> {
        self.tried.clone_from(&found);
        (self.config, self.not_after_secs) = self.files.config(&found?, now_secs())?;
        Ok(true)
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Contents, TlsError> {
        let mut wrong = Vec::new();
        let mut read = |option: &str, path: &Path| {
            read_file(path).unwrap_or_else(|error| {
                wrong.push(format!("{option} {}: cannot read it: {error}", path.display()));
                Vec::new()
            })
        };
        let contents = Contents {
            certificate: read(CERT, &self.certificate),
            key: read(KEY, &self.key),
            client_ca: read(CA, &self.client_ca),
        };
        if wrong.is_empty() { Ok(contents) } else { Err(TlsError(wrong)) }
    }

    /// What connections are made with, and when the agent's certificate ends.
    fn config(&self, contents: &Contents, now_secs: i64) -> Result<(Arc<ServerConfig>, i64), TlsError> {
        let mut wrong = Vec::new();
        let own = self.own_chain(&contents.certificate, now_secs).map_err(|reason| wrong.push(reason));
        let key = self.private_key(&contents.key).map_err(|reason| wrong.push(reason));
        let roots = self.authorities(&contents.client_ca, now_secs).map_err(|reason| wrong.push(reason));
        let (Ok((chain, not_after)), Ok(key), Ok(roots)) = (own, key, roots) else {
            return Err(TlsError(wrong));
        };
        let refused = |reason: String| TlsError(vec![reason]);
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| refused(format!("{CA} {}: {error}", self.client_ca.display())))?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(format!("no TLS on this host: {error}")))?;
        let with_key = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key);
        let mut config = with_key.map_err(|error| {
            let key = self.key.display();
            refused(if error == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
                format!(
                    "{KEY} {key}: it does not belong to the certificate in {}",
                    self.certificate.display()
                )
            } else {
                format!("{KEY} {key}: {error}")
            })
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Each connection shows its certificate: a session that is taken up again would outlive it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((Arc::new(config), not_after))
    }

    fn own_chain(&self, pem: &[u8], now_secs: i64) -> Result<(Vec<CertificateDer<'static>>, i64), String> {
        let place = format!("{CERT} {}", self.certificate.display());
        let chain = certificates(pem).map_err(|reason| format!("{place}: {reason}"))?;
        let mut not_after = i64::MAX;
        for certificate in &chain {
            not_after = not_after
                .min(valid_until(certificate, now_secs).map_err(|reason| format!("{place}: {reason}"))?);
        }
        Ok((chain, not_after))
    }

    fn private_key(&self, pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
        let place = format!("{KEY} {}", self.key.display());
        PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
            if contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, b"Proc-Type: 4,ENCRYPTED") {
                format!("{place}: the key has a passphrase: write it without (`openssl pkey -in OLD -out NEW`), readable \
                         by root alone")
            } else {
                format!("{place}: it has no private key: a PEM file with `-----BEGIN PRIVATE KEY-----` is expected")
            }
        })
    }

    /// A bundle may hold an authority whose time is over, beside the next one.
    fn authorities(&self, pem: &[u8], now_secs: i64) -> Result<RootCertStore, String> {
        let place = format!("{CA} {}", self.client_ca.display());
        let found = certificates(pem).map_err(|reason| format!("{place}: {reason}"))?;
        let mut roots = RootCertStore::empty();
        let mut over = None;
        for certificate in found {
            match valid_until(&certificate, now_secs) {
                Err(reason) => over = Some(format!("{place}: {reason}")),
                Ok(_) => roots.add(certificate).map_err(|error| format!("{place}: {error}"))?,
            }
        }
        match over {
            Some(reason) if roots.is_empty() => Err(reason),
            Some(_) | None => Ok(roots),
        }
    }
}

const CERT: &str = "--tls-cert";
const KEY: &str = "--tls-key";
const CA: &str = "--tls-client-ca";

/// A pipe or a device would make the reader wait, or fill the memory.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    fs::read(path)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Err(error) => Err(format!("it is no PEM file: {error}")),
        Ok(found) if found.is_empty() => {
            Err("it has no certificate: a PEM file with `-----BEGIN CERTIFICATE-----` is expected".to_owned())
        }
        Ok(found) => Ok(found),
    }
}

/// When a certificate ends that is valid now.
fn valid_until(certificate: &CertificateDer<'_>, now_secs: i64) -> Result<i64, String> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("it holds a certificate that cannot be read: {error}"))?;
    let (subject, validity) = (certificate.subject(), certificate.validity());
    if validity.not_after.timestamp() < now_secs {
        return Err(format!(
            "the certificate of `{subject}` has expired: it ended on {}",
            validity.not_after
        ));
    }
    if validity.not_before.timestamp() > now_secs {
        return Err(format!("the certificate of `{subject}` is not valid before {}", validity.not_before));
    }
    Ok(validity.not_after.timestamp())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn now_secs() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::*;

    struct Made {
        dir: TempDir,
        files: TlsFiles,
    }

    /// An authority, and a certificate of it that ends in that year.
    fn made(last_year: i32) -> Made {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let mut own = CertificateParams::new(vec!["lb1".to_owned()]).unwrap();
        own.not_after = date_time_ymd(last_year, 1, 1);
        let own_pem = own.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
        let files = TlsFiles {
            certificate: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
            client_ca: dir.path().join("ca.pem"),
        };
        fs::write(&files.certificate, own_pem).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        fs::write(&files.client_ca, ca_pem).unwrap();
        Made { dir, files }
    }

    fn refusal(files: &TlsFiles) -> String {
        Certificates::load(files.clone()).err().expect("it is refused").to_string()
    }

    #[test]
    fn files_that_fit_are_taken_with_their_end() {
        let Made { files, dir: _dir } = made(2100);
        assert_eq!(Certificates::load(files).unwrap().not_after_secs, 4_102_444_800);
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_file() {
        let Made { dir, files } = made(2100);
        fs::remove_file(&files.certificate).unwrap();
        let text = refusal(&files);
        assert!(
            text.starts_with("--tls-cert") && text.contains("cert.pem: cannot read it: No such file"),
            "{text}"
        );
        fs::write(&files.certificate, "hello").unwrap();
        fs::write(
            &files.key,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
        )
        .unwrap();
        fs::write(&files.client_ca, "").unwrap();
        let text = refusal(&files);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[0].contains("cert.pem: it has no certificate: a PEM file with `-----BEGIN CERT"),
            "{text}"
        );
        assert!(lines[1].contains("key.pem: the key has a passphrase"), "{text}");
        assert!(
            lines[2].starts_with("--tls-client-ca") && lines[2].contains("ca.pem: it has no cert"),
            "{text}"
        );
        fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap();
        assert!(refusal(&files).contains("cert.pem: it holds a certificate that cannot be read"));
        let of_folder = TlsFiles { key: dir.path().to_owned(), ..files };
        assert!(refusal(&of_folder).contains("it is not a regular file"));
    }

    #[test]
    fn a_key_of_another_certificate_and_a_time_that_is_over_are_told() {
        let Made { files, dir: _dir } = made(2100);
        fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let text = refusal(&files);
        assert!(text.contains("key.pem: it does not belong to the certificate in /"), "{text}");
        let expired = made(2001);
        let text = refusal(&expired.files);
        assert!(text.contains("has expired: it ended on Jan  1") && text.contains("2001"), "{text}");
    }

    #[test]
    fn new_files_are_taken_when_they_stay_and_broken_ones_leave_those_before() {
        let Made { files, dir: _dir } = made(2100);
        let mut certificates = Certificates::load(files.clone()).unwrap();
        assert_eq!(certificates.look(), Ok(false));
        let next = made(2200);
        for (from, to) in [(&next.files.certificate, &files.certificate), (&next.files.key, &files.key)] {
            fs::copy(from, to).unwrap();
            // Between the two files they do not fit, which nobody is told.
            assert_eq!(certificates.look(), Ok(false));
        }
        assert_eq!(certificates.look(), Ok(true));
        assert_eq!((certificates.look(), certificates.not_after_secs), (Ok(false), 7_258_118_400));
        fs::write(&files.key, "").unwrap();
        assert_eq!(certificates.look(), Ok(false));
        let error = certificates.look().unwrap_err().to_string();
        assert!(error.contains("key.pem: it has no private key"), "{error}");
        assert_eq!(
            (certificates.look(), certificates.not_after_secs),
            (Ok(false), 7_258_118_400),
            "told once"
        );
        assert!(certificates.reload().is_err(), "and whenever somebody asks");
    }
}
