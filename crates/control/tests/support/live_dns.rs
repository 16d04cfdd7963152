//! A DNS that is asked anew every time: what a test publishes is there at once.

use mail::address::Domain;
use net::clock::Clock;
use net::dns::authority::{Authority, Trouble, Zone};
use net::dns::{
    AddressAnswer, Asked, CnameAnswer, Dns, Families, MxAnswer, PtrAnswer, Resolver, ResolverSettings, Servers,
    TlsaAnswer, TxtAnswer,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

/// Asks the server it was pointed at last.
#[derive(Default)]
pub struct LiveDns(Mutex<Option<SocketAddr>>);

/// What is published: lines of a zone file, and names that answer with a failure.
#[derive(Clone, Default)]
pub struct Published {
    lines: Vec<String>,
    failing: Vec<String>,
}

impl LiveDns {
    /// A server that publishes nothing yet.
    pub async fn serve(&self) -> Authority {
        let server = Authority::start("127.0.0.1:0".parse().unwrap(), Zone::default()).await.unwrap();
        *self.0.lock().unwrap() = Some(server.address());
        server
    }

    fn resolver(&self) -> Resolver {
        let server = self.0.lock().unwrap().expect("serve() comes first");
        let settings = ResolverSettings {
            servers: Servers::These(vec![server]),
            timeout: Duration::from_secs(5),
            tries: 1,
            validator: None,
        };
        Resolver::new(&settings, Clock::system()).unwrap().only_fresh()
    }
}

impl Published {
    pub fn with(mut self, line: &str) -> Published {
        self.lines.push(line.to_owned());
        self
    }

    pub fn txt(self, name: &str, text: &str) -> Published {
        let strings: Vec<String> =
            text.as_bytes().chunks(255).map(|part| format!("\"{}\"", String::from_utf8_lossy(part))).collect();
        self.with(&format!("{name} TXT {}", strings.join(" ")))
    }

    pub fn failing(mut self, name: &str) -> Published {
        self.failing.push(name.to_owned());
        self
    }

    pub fn at(self, server: &Authority) {
        let mut zone = Zone::parse(&self.lines.join("\n")).unwrap();
        for name in &self.failing {
            zone = zone.trouble(name, Trouble::Fails).unwrap();
        }
        server.replace(zone);
    }
}

impl Dns for LiveDns {
    fn outdate(&self, domain: &Domain) {
        self.resolver().outdate(domain);
    }

    fn mx<'a>(&'a self, domain: &'a Domain) -> Asked<'a, MxAnswer> {
        Box::pin(async move { self.resolver().mx(domain).await })
    }

    fn addresses<'a>(&'a self, host: &'a str, families: Families) -> Asked<'a, AddressAnswer> {
        Box::pin(async move { self.resolver().addresses(host, families).await })
    }

    fn txt<'a>(&'a self, name: &'a str) -> Asked<'a, TxtAnswer> {
        Box::pin(async move { self.resolver().txt(name).await })
    }

    fn tlsa<'a>(&'a self, name: &'a str) -> Asked<'a, TlsaAnswer> {
        Box::pin(async move { self.resolver().tlsa(name).await })
    }

    fn ptr<'a>(&'a self, address: IpAddr) -> Asked<'a, PtrAnswer> {
        Box::pin(async move { self.resolver().ptr(address).await })
    }

    fn cname<'a>(&'a self, name: &'a str) -> Asked<'a, CnameAnswer> {
        Box::pin(async move { self.resolver().cname(name).await })
    }
}
