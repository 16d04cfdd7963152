//! How is a connection encrypted, and whom must the other side prove to be?
//!
//! Towards mail hosts one of three policies holds (R5.1), each with a certificate check of its own: opportunistic (any
//! certificate: the alternative is clear text), MTA-STS (RFC 8461: a public certificate for the host's name), DANE (RFC
//! 7672: a certificate that the TLSA records name). TLS 1.2 and 1.3 only. The server side has one certificate, or one for each
//! host, from files that can be read again at any time, or made up on the spot.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::iter;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use mail::dane::{self, Tlsa, Verdict};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Sessions that are remembered per policy, so that the next connection to the same host is cheaper.
const SESSIONS_MAX: usize = 1_024;

/// What the other side must prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Nothing.
    Opportunistic,
    /// That a public authority vouches for its name. (That the name is one of the policy's `mx` is checked before
    /// dialling: it needs no connection.)
    Sts,
    /// That it holds the key that the TLSA records name. `names` are the names a usage 2 certificate may bear.
    Dane { records: Vec<Tlsa>, names: Vec<String> },
}

/// Speaks TLS to servers. Cheap to clone; clones share their sessions.
#[derive(Clone)]
pub struct Connector {
    opportunistic: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
    provider: Arc<CryptoProvider>,
}

impl Connector {
    pub fn new(roots: Roots) -> Result<Connector, TlsFault> {
        let provider = provider();
        let opportunistic =
            Arc::new(AnyCertificate { schemes: provider.signature_verification_algorithms.supported_schemes() });
        let verified = WebPkiServerVerifier::builder_with_provider(Arc::new(roots.0), provider.clone())
            .build()
            .map_err(|error| TlsFault::Roots(error.to_string()))?;
        Ok(Connector {
            opportunistic: Arc::new(client_config(&provider, opportunistic)?),
            verified: Arc::new(client_config(&provider, verified)?),
            provider,
        })
    }

    /// The handshake as client with the mail or web host `host`, which `stream` is connected to.
    pub async fn connect<S>(
        &self,
        stream: S,
        host: &str,
        policy: &Policy,
        within: Duration,
    ) -> Result<client::TlsStream<S>, HandshakeFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = server_name(host, policy)?;
        let config = match policy {
            Policy::Opportunistic => self.opportunistic.clone(),
            Policy::Sts => self.verified.clone(),
            Policy::Dane { records, names } => self.dane(records, names)?,
        };
        let handshake = TlsConnector::from(config).connect(name, stream);
        match tokio::time::timeout(within, handshake).await {
            Ok(result) => result.map_err(|error| HandshakeFault::of(&error)),
            Err(_) => Err(HandshakeFault::TimedOut { within }),
        }
    }

    /// A configuration for this one connection: a session resumed later would skip the check against
    /// records that may have changed since.
    fn dane(&self, records: &[Tlsa], names: &[String]) -> Result<Arc<ClientConfig>, HandshakeFault> {
        let verifier =
            Arc::new(NamedByTlsa { records: records.to_vec(), names: names.to_vec(), provider: self.provider.clone() });
        let mut config =
            client_config(&self.provider, verifier).map_err(|fault| HandshakeFault::Broken(fault.to_string()))?;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// The authorities whose word is taken.
#[derive(Clone, Debug)]
pub struct Roots(RootCertStore);

impl Roots {
    /// Those of this machine; when it has none, the bundled list of Mozilla.
    pub fn system() -> Roots {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "cannot read some of this machine's root certificates");
        }
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Roots(store)
    }

    /// None yet; add to it with `and_pem`.
    pub fn none() -> Roots {
        Roots(RootCertStore::empty())
    }

    /// Takes the word of these authorities too.
    pub fn and_pem(mut self, pem: &[u8]) -> Result<Roots, TlsFault> {
        for certificate in certificates(pem)? {
            self.0.add(certificate).map_err(|error| TlsFault::Roots(error.to_string()))?;
        }
        Ok(self)
    }
}

/// Speaks TLS to clients. Cheap to clone; clones share the certificates.
#[derive(Clone)]
pub struct Acceptor {
    certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
}

impl Acceptor {
    /// A certificate chain and its key, both PEM.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Acceptor, TlsFault> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let one = files.read()?;
        Acceptor::new(Source::Files(files), Held { any: Some(one), ..Held::default() })
    }

    /// A folder of certificates, each for the host it is named after: `HOST.pem` with `HOST.key`, or a folder `HOST` with `fullchain.pem` and
    /// `privkey.pem` in it. Who asks for another host is not spoken with.
    pub fn from_folder(folder: &Path) -> Result<Acceptor, TlsFault> {
        let held = Held { by_host: read_folder(folder)?, any: None };
        Acceptor::new(Source::Folder(folder.to_owned()), held)
    }

    /// A certificate of our own making for these names: encrypts, proves nothing.
    pub fn self_signed(names: &[String]) -> Result<Acceptor, TlsFault> {
        let made = rcgen::generate_simple_self_signed(names.to_vec())
            .map_err(|error| TlsFault::SelfSigned(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let one = certified(vec![made.cert.der().clone()], key.into())?;
        Acceptor::new(Source::Made, Held { any: Some(one), ..Held::default() })
    }

    fn new(source: Source, held: Held) -> Result<Acceptor, TlsFault> {
        let certificates = Arc::new(Certificates { source, held: RwLock::new(held) });
        let config = Arc::new(server_config(certificates.clone())?);
        Ok(Acceptor { certificates, config })
    }

    /// Reads the files again; says whether they held other certificates. When they cannot be used, the old ones stay.
    pub fn reload(&self) -> Result<bool, TlsFault> {
        let read = match &self.certificates.source {
            Source::Made => return Ok(false),
            Source::Files(files) => Held { any: Some(files.read()?), ..Held::default() },
            Source::Folder(folder) => Held { by_host: read_folder(folder)?, any: None },
        };
        let mut held = self.certificates.held.write().unwrap_or_else(PoisonError::into_inner);
        let changed = !held.chains().eq(read.chains());
        *held = read;
        Ok(changed)
    }

    /// When the certificate that runs out first does, in seconds since 1970.
    pub fn expires_at(&self) -> Option<i64> {
        let held = self.certificates.held();
        let ends = held.chains().filter_map(|chain| {
            let (_, parsed) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
            Some(parsed.validity().not_after.timestamp())
        });
        ends.min()
    }

    /// The handshake as server.
    pub async fn accept<S>(&self, stream: S, within: Duration) -> Result<server::TlsStream<S>, HandshakeFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(self.config.clone()).accept(stream);
        match tokio::time::timeout(within, handshake).await {
            Ok(result) => result.map_err(|error| HandshakeFault::of(&error)),
            Err(_) => Err(HandshakeFault::TimedOut { within }),
        }
    }
}

/// What both sides agreed on. In words: `TLS 1.3, TLS13_AES_256_GCM_SHA384`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    pub version: String,
    pub cipher: String,
}

impl Negotiated {
    /// Of a finished handshake: `Negotiated::of(stream.get_ref().1)`.
    pub fn of(connection: &CommonState) -> Negotiated {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            Some(other) => format!("{other:?}"),
            None => "TLS".to_owned(),
        };
        let cipher =
            connection.negotiated_cipher_suite().map_or_else(String::new, |suite| format!("{:?}", suite.suite()));
        Negotiated { version, cipher }
    }
}

impl fmt::Display for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.version, self.cipher)
    }
}

/// Why a connection is not encrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFault {
    /// The policy was not met.
    #[error("the certificate was not accepted: {0}")]
    Certificate(String),
    #[error("the TLS handshake failed: {0}")]
    Broken(String),
    #[error("the TLS handshake was not finished within {within:?}")]
    TimedOut { within: Duration },
}

/// What is wrong with our own certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    #[error("cannot read {path}: {detail}")]
    Unreadable { path: PathBuf, detail: String },
    #[error("no usable certificate: {0}")]
    Certificate(String),
    #[error("no usable private key: {0}")]
    Key(String),
    #[error("the root certificates cannot be used: {0}")]
    Roots(String),
    #[error("cannot make a certificate: {0}")]
    SelfSigned(String),
    #[error("the TLS library refuses its configuration: {0}")]
    Library(String),
}

impl HandshakeFault {
    fn of(error: &io::Error) -> HandshakeFault {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(why)) => HandshakeFault::Certificate(in_words(why)),
            Some(rustls::Error::NoCertificatesPresented) => {
                HandshakeFault::Certificate("the server showed none".to_owned())
            }
            _ => HandshakeFault::Broken(error.to_string()),
        }
    }
}

fn in_words(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        CertificateError::UnknownIssuer => "its issuer is not trusted".to_owned(),
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            format!("it is for {}, not for {expected}", presented.join(", "))
        }
        CertificateError::Other(other) => other.to_string(),
        other => other.to_string(),
    }
}

/// Named each time: a process-wide default would depend on which crate set it first.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ClientConfig, TlsFault> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .map_err(|error| TlsFault::Library(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(config)
}

fn server_config(certificates: Arc<Certificates>) -> Result<ServerConfig, TlsFault> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .map_err(|error| TlsFault::Library(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    Ok(config)
}

fn server_name(host: &str, policy: &Policy) -> Result<ServerName<'static>, HandshakeFault> {
    match ServerName::try_from(host.to_owned()) {
        Ok(name) => Ok(name),
        // A name that no certificate can bear need not keep us from encrypting. An address has no SNI.
        Err(_) if *policy == Policy::Opportunistic => Ok(ServerName::from(IpAddr::from([0, 0, 0, 0]))),
        Err(_) => Err(HandshakeFault::Certificate(format!("“{host}” is not a name that a certificate can bear"))),
    }
}

/// Accepts any certificate, and does not even look whether it can be read: the alternative is clear text.
#[derive(Debug)]
struct AnyCertificate {
    schemes: Vec<SignatureScheme>,
}

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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// Accepts what the TLSA records name (RFC 7672).
#[derive(Debug)]
struct NamedByTlsa {
    records: Vec<Tlsa>,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug, thiserror::Error)]
#[error("the host's TLSA records name another")]
struct TlsaMismatch;

impl NamedByTlsa {
    /// Usage 2: signatures and dates up to the anchor, and one of the names.
    fn verify_up_to(
        &self,
        anchor: &CertificateDer<'_>,
        end_entity: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(anchor.clone().into_owned())?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, between, now, algorithms)?;
        let mut outcome = Err(CertificateError::NotValidForName.into());
        for name in &self.names {
            if let Ok(name) = ServerName::try_from(name.as_str()) {
                outcome = verify_server_name(&parsed, &name);
            }
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

impl ServerCertVerifier for NamedByTlsa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown: Vec<&CertificateDer<'_>> = iter::once(end_entity).chain(intermediates).collect();
        let octets: Vec<&[u8]> = shown.iter().map(AsRef::as_ref).collect();
        match dane::decide(&self.records, &octets) {
            Verdict::Authenticated | Verdict::EncryptionOnly => {}
            Verdict::TrustAnchor(place) => {
                // `decide` answers with a place in what it was given.
                let between = intermediates.get(..place.saturating_sub(1)).unwrap_or_default();
                self.verify_up_to(shown[place], end_entity, between, now)?;
            }
            Verdict::Mismatch => {
                let why = CertificateError::Other(OtherError(Arc::new(TlsaMismatch)));
                return Err(why.into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificates in use, which a reload replaces under running listeners.
#[derive(Debug)]
struct Certificates {
    source: Source,
    held: RwLock<Held>,
}

#[derive(Debug)]
enum Source {
    /// By ourselves.
    Made,
    Files(Files),
    Folder(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Held {
    by_host: BTreeMap<String, Arc<CertifiedKey>>,
    /// For whatever host is asked for.
    any: Option<Arc<CertifiedKey>>,
}

impl Held {
    fn chains(&self) -> impl Iterator<Item = &[CertificateDer<'static>]> {
        self.by_host.values().chain(&self.any).map(|one| one.cert.as_slice())
    }
}

impl Certificates {
    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let held = self.held();
        let of_host = hello.server_name().and_then(|host| held.by_host.get(&host.to_ascii_lowercase()));
        of_host.or(held.any.as_ref()).cloned()
    }
}

/// What cannot be used of a folder is told and passed over: one host's certificate is not in the way of another's.
fn read_folder(folder: &Path) -> Result<BTreeMap<String, Arc<CertifiedKey>>, TlsFault> {
    let unreadable = |error: io::Error| TlsFault::Unreadable { path: folder.to_owned(), detail: error.to_string() };
    let mut by_host = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let files = if path.is_dir() {
            Files { certificate: path.join("fullchain.pem"), key: path.join("privkey.pem") }
        } else if path.extension().is_some_and(|extension| extension == "pem") {
            Files { key: path.with_extension("key"), certificate: path.clone() }
        } else {
            continue;
        };
        let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
        let Some(host) = name.and_then(|name| name.to_str()) else { continue };
        match files.read() {
            Ok(one) => drop(by_host.insert(host.to_ascii_lowercase(), one)),
            Err(fault) => tracing::warn!(host, %fault, "a certificate cannot be used"),
        }
    }
    Ok(by_host)
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn read(&self) -> Result<Arc<CertifiedKey>, TlsFault> {
        let chain = certificates(&contents(&self.certificate)?)?;
        let key = PrivateKeyDer::from_pem_slice(&contents(&self.key)?)
            .map_err(|error| TlsFault::Key(format!("{}: {error}", self.key.display())))?;
        certified(chain, key)
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, TlsFault> {
    std::fs::read(path).map_err(|error| TlsFault::Unreadable { path: path.to_owned(), detail: error.to_string() })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| TlsFault::Certificate(error.to_string()))?;
    if found.is_empty() {
        return Err(TlsFault::Certificate("there is none in the file".to_owned()));
    }
    Ok(found)
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>, TlsFault> {
    let certified =
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| TlsFault::Key(error.to_string()))?;
    Ok(Arc::new(certified))
}
