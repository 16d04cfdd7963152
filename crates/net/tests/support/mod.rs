//! How do tests get certificates, good and bad?

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test
#![allow(dead_code)] // each test file uses a part of it

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use net::tls::Acceptor;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A root that issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A chain (the root last) and its key, in PEM.
pub struct Issued {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(parameters, key), pem }
    }

    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    pub fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(&CertificateParams::new(names).unwrap())
    }

    pub fn issue_expired(&self, name: &str) -> Issued {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(2000, 1, 1);
        parameters.not_after = date_time_ymd(2001, 1, 1);
        self.sign(&parameters)
    }

    fn sign(&self, parameters: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Issued { chain: format!("{}{}", certificate.pem(), self.pem), key: key.serialize_pem() }
    }
}

/// A certificate and its key on disk, in a folder of the test's own.
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    pub fn new(label: &str, issued: &Issued) -> Files {
        let folder = folder(label);
        let files = Files { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
        files.write(issued);
        files
    }

    pub fn write(&self, issued: &Issued) {
        std::fs::write(&self.certificate, &issued.chain).unwrap();
        std::fs::write(&self.key, &issued.key).unwrap();
    }

    pub fn acceptor(&self) -> Acceptor {
        Acceptor::from_files(&self.certificate, &self.key).unwrap()
    }
}

/// Of one use's own, and empty: tests run beside each other, in processes and in threads.
pub fn folder(label: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = format!("{label}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(own);
    // What an earlier run left.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

pub fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

/// The first certificate of a chain.
pub fn first(chain: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let (first, _) = chain.split_once(END).unwrap();
    format!("{first}{END}\n")
}
