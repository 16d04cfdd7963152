//! How does a name server answer from a fixed zone?
//!
//! A small authoritative server on UDP and TCP, for a world of our own: the demo and the tests resolve names without the
//! Internet, through the same code as in production. One zone holds all names; aliases are followed inside it; names can
//! be given troubles. It knows no zone cuts, no transfers and no DNSSEC signatures, and should not face strangers.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::txt::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const TTL_DEFAULT_S: u32 = 300;
/// RFC 1035 4.2.1: what fits into UDP when the asker does not say more.
const UDP_PAYLOAD_MIN: u16 = 512;
const UDP_PAYLOAD_MAX: u16 = 4_096;
const CONNECTIONS_MAX: usize = 256;
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(10);
const ALIASES_MAX: usize = 16;

/// All names and what is said about them.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    records: HashMap<Name, Vec<Record>>,
    /// Every name that exists: those with records, and those above them.
    nodes: HashSet<Name>,
    troubles: HashMap<Name, Trouble>,
    validated: bool,
}

/// What goes wrong when a name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// SERVFAIL.
    Fails,
    /// No answer at all.
    Silent,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the zone cannot be read: {0}")]
pub struct ZoneError(String);

impl Zone {
    /// In the form of a zone file (RFC 1035 5.1), every name absolute, `*` as usual:
    /// `gmail.test MX 10 mx.gmail.test`. Without a TTL a record is good for five minutes.
    pub fn parse(text: &str) -> Result<Zone, ZoneError> {
        let text = format!("$TTL {TTL_DEFAULT_S}\n{text}\n");
        let (_, sets) =
            Parser::new(text, None, Some(Name::root())).parse().map_err(|error| ZoneError(error.to_string()))?;
        let mut zone = Zone::default();
        for set in sets.values() {
            for record in set.records_without_rrsigs() {
                zone.add(record.clone());
            }
        }
        Ok(zone)
    }

    /// Gives a name a trouble, whatever kind of record is asked for.
    pub fn trouble(mut self, name: &str, trouble: Trouble) -> Result<Zone, ZoneError> {
        let mut name = Name::from_ascii(name).map_err(|error| ZoneError(error.to_string()))?;
        name.set_fqdn(true);
        self.troubles.insert(name.to_lowercase(), trouble);
        Ok(self)
    }

    /// Answers as a server that has validated everything: AD, to those who ask with the DNSSEC OK bit.
    pub fn validated(mut self) -> Zone {
        self.validated = true;
        self
    }

    fn add(&mut self, record: Record) {
        let name = record.name.to_lowercase();
        let mut above = name.clone();
        while !above.is_root() {
            self.nodes.insert(above.clone());
            above = above.base_name();
        }
        self.records.entry(name).or_default().push(record);
    }

    /// The records at a name, or those of the `*` that stands for it (RFC 4592); `None` when it does not exist.
    fn at(&self, name: &Name) -> Option<Vec<Record>> {
        if self.nodes.contains(name) {
            return Some(self.records.get(name).cloned().unwrap_or_default());
        }
        let mut encloser = name.base_name();
        while !encloser.is_root() && !self.nodes.contains(&encloser) {
            encloser = encloser.base_name();
        }
        let wildcard = encloser.prepend_label("*").ok()?;
        let mut records = self.records.get(&wildcard)?.clone();
        for record in &mut records {
            record.name = name.clone();
        }
        Some(records)
    }
}

/// A server at work; it stops when this is dropped.
#[derive(Debug)]
pub struct Authority {
    address: SocketAddr,
    world: Arc<World>,
    // Aborted on drop.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct World {
    zone: RwLock<Zone>,
    questions: AtomicU64,
}

impl Authority {
    /// Listens on UDP and TCP at one address; port 0 lets the kernel choose.
    pub async fn start(at: SocketAddr, zone: Zone) -> io::Result<Authority> {
        let (udp, tcp) = sockets(at).await?;
        let address = udp.local_addr()?;
        let world = Arc::new(World { zone: RwLock::new(zone), questions: AtomicU64::new(0) });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, world.clone()));
        tasks.spawn(serve_tcp(tcp, world.clone()));
        Ok(Authority { address, world, _tasks: tasks })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says something else from now on.
    pub fn replace(&self, zone: Zone) {
        *self.world.zone.write().unwrap_or_else(PoisonError::into_inner) = zone;
    }

    /// How many questions have come so far.
    pub fn questions(&self) -> u64 {
        self.world.questions.load(Ordering::Relaxed)
    }
}

/// Both on the same port; when the kernel chose one for UDP that TCP cannot have, another is tried.
async fn sockets(at: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    const TRIES: usize = 16;
    let mut tries = 0;
    loop {
        let udp = UdpSocket::bind(at).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if at.port() != 0 || tries == TRIES => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

async fn serve_udp(socket: UdpSocket, world: Arc<World>) {
    let mut buffer = [0; UDP_PAYLOAD_MAX as usize];
    loop {
        // An error here is an ICMP message about an answer sent earlier: the asker is gone.
        let Ok((length, asker)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Some((answer, payload_max)) = world.answer(&buffer[..length]) else {
            continue;
        };
        let octets = match answer.to_vec() {
            Ok(octets) if octets.len() <= usize::from(payload_max) => Ok(octets),
            _ => answer.truncate().to_vec(),
        };
        if let Ok(octets) = octets {
            let _ = socket.send_to(&octets, asker).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, world: Arc<World>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut conversations = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let world = world.clone();
        conversations.spawn(async move {
            // Whoever breaks off has no use for a reason.
            let _ = converse(stream, &world).await;
            drop(place);
        });
        while conversations.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, world: &World) -> io::Result<()> {
    loop {
        let question = async {
            let length = stream.read_u16().await?;
            let mut octets = vec![0; length.into()];
            stream.read_exact(&mut octets).await?;
            Ok::<_, io::Error>(octets)
        };
        let octets = tokio::time::timeout(CONNECTION_IDLE_MAX, question).await??;
        let Some((answer, _)) = world.answer(&octets) else {
            continue;
        };
        let octets = answer.to_vec().map_err(io::Error::other)?;
        let length = u16::try_from(octets.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), &octets[..]].concat()).await?;
    }
}

impl World {
    /// The answer, and how much of it the asker takes over UDP; `None` when nothing is to be said.
    fn answer(&self, octets: &[u8]) -> Option<(Message, u16)> {
        let question = Message::from_vec(octets).ok()?;
        if question.metadata.message_type != MessageType::Query {
            return None;
        }
        self.questions.fetch_add(1, Ordering::Relaxed);
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = true;
        answer.add_queries(question.queries.iter().cloned());
        let payload_max = match &question.edns {
            Some(edns) => {
                let mut own = Edns::new();
                own.set_max_payload(UDP_PAYLOAD_MAX);
                answer.set_edns(own);
                edns.max_payload().clamp(UDP_PAYLOAD_MIN, UDP_PAYLOAD_MAX)
            }
            None => UDP_PAYLOAD_MIN,
        };
        match (question.metadata.op_code, &question.queries[..]) {
            (OpCode::Query, [query]) => zone.fill(&mut answer, &query.name, query.query_type)?,
            (OpCode::Query, _) => answer.metadata.response_code = ResponseCode::FormErr,
            _ => answer.metadata.response_code = ResponseCode::NotImp,
        }
        let understands = question.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        answer.metadata.authentic_data =
            zone.validated && understands && answer.metadata.response_code != ResponseCode::ServFail;
        Some((answer, payload_max))
    }
}

impl Zone {
    /// `None` is silence.
    fn fill(&self, answer: &mut Message, asked: &Name, kind: RecordType) -> Option<()> {
        let mut name = asked.to_lowercase();
        for _ in 0..ALIASES_MAX {
            match self.troubles.get(&name) {
                Some(Trouble::Silent) => return None,
                Some(Trouble::Fails) => {
                    answer.metadata.response_code = ResponseCode::ServFail;
                    answer.answers.clear();
                    return Some(());
                }
                None => {}
            }
            let Some(records) = self.at(&name) else {
                answer.metadata.response_code = ResponseCode::NXDomain;
                break;
            };
            let wanted = records.iter().filter(|record| record.record_type() == kind);
            answer.add_answers(wanted.cloned());
            let alias = records
                .into_iter()
                .find(|record| kind != RecordType::CNAME && record.record_type() == RecordType::CNAME);
            let Some(alias) = alias else { break };
            let RData::CNAME(target) = &alias.data else {
                break;
            };
            name = target.to_lowercase();
            let seen = answer.answers.contains(&alias);
            answer.add_answer(alias);
            if seen {
                break;
            }
        }
        if !answer.answers.iter().any(|record| record.record_type() == kind) {
            answer.add_authority(start_of_authority());
        }
        Some(())
    }
}

/// Says for how long a “no” is good (RFC 2308).
fn start_of_authority() -> Record {
    let root = Name::root;
    let soa = SOA::new(root(), root(), 1, 3_600, 600, 86_400, TTL_DEFAULT_S);
    Record::from_rdata(root(), TTL_DEFAULT_S, RData::SOA(soa))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;
    use hickory_proto::op::Query;

    const ZONE: &str = "\
        a.test        A     192.0.2.1\n\
        x.y.test 60   TXT   \"one\" \" two\"\n\
        *.w.test      A     192.0.2.2\n\
        alias.test    CNAME a.test\n\
        round.test    CNAME about.test\n\
        about.test    CNAME round.test\n\
        lost.test     CNAME nowhere.test\n";

    fn ask(zone: Zone, name: &str, kind: RecordType) -> Option<Message> {
        let world = World { zone: RwLock::new(zone), questions: AtomicU64::new(0) };
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true);
        question.set_edns(edns);
        world.answer(&question.to_vec().unwrap()).map(|(answer, _)| answer)
    }

    fn check(name: &str, kind: RecordType, code: ResponseCode, expected: &[&str]) {
        let answer = ask(Zone::parse(ZONE).unwrap(), name, kind).unwrap();
        assert_eq!(answer.metadata.response_code, code, "{name}");
        let found: Vec<String> =
            answer.answers.iter().map(|record| format!("{} {}", record.name, record.data)).collect();
        assert_eq!(found, expected, "{name}");
        // A “no” says for how long it is good.
        let negative = !answer.answers.iter().any(|record| record.record_type() == kind);
        assert_eq!(answer.authorities.len(), usize::from(negative), "{name}");
    }

    #[test]
    fn names_are_found_where_the_zone_has_them() {
        use ResponseCode::{NXDomain, NoError};
        check("A.TEST.", RecordType::A, NoError, &["a.test. 192.0.2.1"]);
        check("a.test.", RecordType::MX, NoError, &[]);
        check("y.test.", RecordType::TXT, NoError, &[]);
        check("z.test.", RecordType::A, NXDomain, &[]);
        check("q.w.test.", RecordType::A, NoError, &["q.w.test. 192.0.2.2"]);
        check("w.test.", RecordType::A, NoError, &[]);
    }

    #[test]
    fn aliases_are_followed_and_end() {
        use ResponseCode::{NXDomain, NoError};
        let both = ["alias.test. a.test.", "a.test. 192.0.2.1"];
        check("alias.test.", RecordType::A, NoError, &both);
        check("alias.test.", RecordType::CNAME, NoError, &both[..1]);
        check("lost.test.", RecordType::A, NXDomain, &["lost.test. nowhere.test."]);
        let answer = ask(Zone::parse(ZONE).unwrap(), "round.test.", RecordType::A).unwrap();
        assert_eq!(answer.answers.len(), 3);
    }

    #[test]
    fn troubles_and_validation_show() {
        let zone = || Zone::parse(ZONE).unwrap();
        let failing = zone().trouble("a.test", Trouble::Fails).unwrap();
        let answer = ask(failing, "alias.test.", RecordType::A).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        assert!(answer.answers.is_empty());
        let silent = zone().trouble("a.test", Trouble::Silent).unwrap();
        assert_eq!(ask(silent, "a.test.", RecordType::A), None);
        let answer = ask(zone().validated(), "a.test.", RecordType::A).unwrap();
        assert!(answer.metadata.authentic_data);
    }

    #[test]
    fn nonsense_is_refused_or_passed_over() {
        assert!(Zone::parse("a.test A not-an-address").is_err());
        let world = World { zone: RwLock::new(Zone::default()), questions: AtomicU64::new(0) };
        assert_eq!(world.answer(b"nonsense"), None);
        assert_eq!(world.answer(&Message::response(1, OpCode::Query).to_vec().unwrap()), None);
    }
}
