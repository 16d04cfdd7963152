//! How do the rooms come together? The only place that knows all of them.

use crate::judge::{Control, House};
use crate::rounds::{self, ControlFault, Opened, Rounds};
use crate::{config, machine, traces};
use api::caller::{Desk, DeskInner, Followers};
use api::payments::Payments;
use api::rate::{self, Buckets};
use api::trace::{Exporter, Tracer};
use control::Office;
use mta::deliver::Means;
use mta::guarded::Guarded;
use mta::links;
use mta::listener::{self, Door, DoorTls, Doorkeeper};
use mta::{Plant, StartFault, intake};
use net::clock::Clock;
use net::dns::{Dns, FixedDns, Resolver, ResolverSettings, Servers};
use net::sts::{Sts, StsSettings};
use net::tls::{Acceptor, Connector, Roots, TlsFault};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// More than this on its way in at one time makes nothing faster.
const RECEIVING_BYTES_MAX: u64 = 256 << 20;

/// Why the house cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFault {
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: std::io::Error },
    #[error("the data folder {}: {cause}", .data.display())]
    Data { data: PathBuf, cause: std::io::Error },
    #[error("DNS: {0}")]
    Dns(String),
    #[error("TLS: {0}")]
    Tls(#[from] TlsFault),
    #[error(transparent)]
    Control(#[from] ControlFault),
    #[error(transparent)]
    Start(#[from] StartFault),
}

/// The running house.
pub struct Running {
    pub plant: Plant,
    /// Where mail is taken, in the order of the file.
    pub smtp: Vec<SocketAddr>,
    pub http: Option<SocketAddr>,
    /// Where links lead.
    pub tracking: Option<SocketAddr>,
    /// Where what comes back is taken.
    pub returns: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    doors: JoinSet<()>,
    stop_wait: Duration,
    acceptors: Vec<Acceptor>,
    /// None: accounts, IPs and pools stand in the file.
    pub office: Option<Office>,
    rounds: Option<Rounds>,
    followers: Followers,
}

/// Who is told of what happens by HTTP: targets of webhooks, and the program that takes the money.
fn by_http(
    opened: &Opened,
    control: &Control,
    plant: &Plant,
    clock: &Clock,
    (dns, connector): (&Arc<dyn Dns>, &Connector),
) -> (api::post::Means, Option<Payments>) {
    let webhooks = api::post::Means {
        office: opened.office.clone(),
        intake: plant.intake.clone(),
        dns: dns.clone(),
        connector: connector.clone(),
        clock: clock.clone(),
        name: opened.source.name.clone(),
        allow_private: control.webhooks_allow_private.clone(),
    };
    let payments = control.payments.clone().map(|settings| Payments {
        office: opened.office.clone(),
        dns: dns.clone(),
        connector: connector.clone(),
        metrics: plant.metrics.clone(),
        settings,
    });
    (webhooks, payments)
}

/// Opens the house on a data folder.
pub async fn open(house: House, data: &Path, clock: Clock) -> Result<Running, OpenFault> {
    let dns = dns(&house, &clock)?;
    let mut roots = Roots::system();
    if let Some(pem) = &house.extra_roots {
        roots = roots.and_pem(pem)?;
    }
    let connector = Connector::new(roots)?;
    let acceptor = match &house.tls_files {
        Some((certificate, key)) => Acceptor::from_files(certificate, key)?,
        None => Acceptor::self_signed(&[house.host.to_string()])?,
    };
    // Doors first: a port that is taken is told before the spool is touched.
    let mut sockets = Vec::new();
    for (address, door) in &house.doors {
        sockets.push((listen(*address).await?, door.clone()));
    }
    let http = match &house.http {
        Some(address) => Some(listen(*address).await?),
        None => None,
    };
    let tracking = match &house.tracking {
        Some(door) => {
            let certificates = door.certificates.as_deref().map(Acceptor::from_folder).transpose()?;
            Some((listen(door.address).await?, certificates))
        }
        None => None,
    };

    let returns = match &house.returns {
        Some(door) => Some((listen(door.address).await?, door.limits.clone())),
        None => None,
    };

    std::fs::create_dir_all(data).map_err(|cause| OpenFault::Data { data: data.to_owned(), cause })?;
    let opened = match &house.control {
        Some(control) => {
            let (office, sealer) = rounds::office(&house, control, data, &clock, dns.clone())?;
            Some(rounds::open(office, sealer, &house.snapshot, data).await?)
        }
        None => None,
    };
    let snapshot = opened.as_ref().map_or_else(|| house.snapshot.clone(), |opened| opened.snapshot.clone());
    let delivery = &house.written.delivery;
    let sts = delivery.mta_sts.then(|| {
        let settings = StsSettings { allow_private: house.allow_private.clone(), ..StsSettings::default() };
        Sts::new(dns.clone(), connector.clone(), clock.clone(), settings)
    });
    let (hosts, targets) = (dns.clone(), connector.clone());
    let means = {
        let (clock, dane, port, chunking) = (clock.clone(), delivery.dane, *delivery.port.get_ref(), delivery.chunking);
        let patience = house.patience;
        move |spool| Means { clock, spool, dns, connector, sts, dane, port, chunking, patience }
    };
    let limits = &house.written.limits;
    let plant = Plant::start(
        mta::Settings {
            host: house.host.clone(),
            data: data.to_owned(),
            disk: Arc::new(spool::RealDisk),
            spool: house.spool.clone(),
            limits: intake::Limits {
                recipients_max: *limits.recipients_max.get_ref() as usize,
                message_bytes_max: *limits.message_bytes_max.get_ref(),
                queue_messages_max: *limits.queue_messages_max.get_ref(),
                receiving_bytes_max: receiving_bytes_max(limits),
            },
            link_origin: house.tracking.as_ref().map_or(links::ORIGIN, |door| &door.origin).to_owned(),
            returns: house.returns.as_ref().map(|door| door.settings.clone()),
            engine: engine::Limits {
                queue_messages_max: *limits.queue_messages_max.get_ref(),
                ..engine::Limits::default()
            },
            snapshot,
            allow_private: house.allow_private.clone(),
            seed: clock.now().unsigned_abs(),
        },
        means,
    )?;

    let (stop, stopped) = watch::channel(false);
    let office = opened.as_ref().map(|opened| opened.office.clone());
    let (at_smtp, at_http) = (Arc::new(Guarded::default()), Arc::new(Guarded::default()));
    let guarded = vec![at_smtp.clone(), at_http.clone()];
    let told = opened.as_ref().zip(house.control.as_ref());
    let told = told.map(|(opened, control)| by_http(opened, control, &plant, &clock, (&hosts, &targets)));
    let rounds = opened.map(|opened| {
        let letters = house.control.as_ref().and_then(|control| control.letters.clone());
        Rounds::begin(opened, house.snapshot.clone(), &plant, guarded, clock.clone(), letters, stopped.clone())
    });
    let mut doors = JoinSet::new();
    if let Some((webhooks, payments)) = told {
        doors.spawn(api::post::run(webhooks, stopped.clone()));
        if let Some(payments) = payments {
            doors.spawn(api::payments::run(payments, stopped.clone()));
        }
    }
    let tracer = house.traces.clone().map(|settings| Arc::new(Tracer::new(settings, plant.metrics.clone())));
    if let Some(tracer) = &tracer {
        let exporter = Exporter::new(tracer.clone(), hosts, targets);
        doors.spawn(traces::tell(tracer.clone(), exporter, plant.spool.events(), stopped.clone()));
    }
    let keeper = Arc::new(Doorkeeper::new(at_smtp.clone()));
    let mut smtp = Vec::new();
    for (socket, door) in sockets {
        smtp.push(socket.local_addr().map_err(|cause| OpenFault::Listen { address: ([0, 0, 0, 0], 0).into(), cause })?);
        doors.spawn(listener::serve(
            listener::Host::Intake(plant.intake.clone()),
            door,
            house.listener_limits(),
            acceptor.clone(),
            socket,
            keeper.clone(),
            stopped.clone(),
        ));
    }
    let returns = match returns {
        Some((socket, limits)) => {
            let address =
                socket.local_addr().map_err(|cause| OpenFault::Listen { address: ([0, 0, 0, 0], 0).into(), cause })?;
            let door = Door { tls: DoorTls::StartTls, trusted: Vec::new(), account: None };
            // A keeper of its own: whoever floods this door takes nothing from those who submit.
            doors.spawn(listener::serve(
                listener::Host::Returns(plant.returns.clone()),
                door,
                limits,
                acceptor.clone(),
                socket,
                Arc::new(Doorkeeper::new(at_smtp)),
                stopped.clone(),
            ));
            Some(address)
        }
        None => None,
    };
    let followers = Followers::default();
    let http = match http {
        Some(socket) => {
            let address =
                socket.local_addr().map_err(|cause| OpenFault::Listen { address: ([0, 0, 0, 0], 0).into(), cause })?;
            let calls = house.written.http.as_ref().and_then(|http| http.calls_per_second.as_ref());
            let calls = calls.map_or_else(rate::Limits::default, |calls| rate::Limits::per_second(*calls.get_ref()));
            let desk = Desk(Arc::new(DeskInner {
                intake: plant.intake.clone(),
                driver: plant.driver.clone(),
                stories: plant.stories(),
                unmatched: plant.returns.shelf().clone(),
                office: office.clone(),
                message_bytes_max: *limits.message_bytes_max.get_ref(),
                guarded: at_http,
                calls: Mutex::new(Buckets::new(calls)),
                followers: followers.clone(),
                tracer,
            }));
            let metrics = plant.metrics.clone();
            doors.spawn(api::server::serve(socket, None, api::server::router(desk), metrics, stopped.clone()));
            Some(address)
        }
        None => None,
    };
    let (tracking, link_certificates) = match tracking {
        Some((socket, certificates)) => {
            let address =
                socket.local_addr().map_err(|cause| OpenFault::Listen { address: ([0, 0, 0, 0], 0).into(), cause })?;
            let (router, metrics) =
                (api::tracking::router(plant.tracking.clone(), plant.returns.clone()), plant.metrics.clone());
            doors.spawn(api::server::serve(socket, certificates.clone(), router, metrics, stopped));
            (Some(address), certificates)
        }
        None => (None, None),
    };
    let stop_wait = Duration::from_secs(*limits.stop_s.get_ref());
    let acceptors = std::iter::once(acceptor).chain(link_certificates).collect();
    Ok(Running { plant, smtp, http, tracking, returns, stop, doors, acceptors, stop_wait, office, rounds, followers })
}

impl Running {
    /// Takes a new file's accounts, domains, IPs, pools and rules into use; nothing that is queued is dropped.
    pub fn change(&self, house: &House) {
        match &self.rounds {
            Some(rounds) => rounds.rebase(house.snapshot.clone()),
            None => {
                self.plant.driver.change_snapshot(house.snapshot.clone());
                self.plant.intake.change_snapshot(house.snapshot.clone());
            }
        }
        for acceptor in &self.acceptors {
            if let Err(fault) = acceptor.reload() {
                tracing::error!(%fault, "a TLS certificate is not changed");
            }
        }
    }

    /// No new mail; what is in flight is finished; the rest stays in the spool.
    pub async fn stop(mut self) {
        // Nobody listens where no door was opened.
        let _ = self.stop.send(true);
        self.followers.close();
        let until = tokio::time::Instant::now() + self.stop_wait;
        let doors = async { while self.doors.join_next().await.is_some() {} };
        if tokio::time::timeout(self.stop_wait / 2, doors).await.is_err() {
            tracing::warn!("some submitters did not finish in time");
            self.doors.shutdown().await;
        }
        if let Some(rounds) = self.rounds {
            rounds.end().await;
        }
        self.plant.stop(until - tokio::time::Instant::now()).await;
        if let Some(office) = self.office {
            office.close().await;
        }
    }
}

/// On its way in a message is held up to three times at one moment: as it came, as it is made fit to leave, and as it waits for the
/// disk. An eighth of the memory leaves the rest to what is queued.
fn receiving_bytes_max(limits: &config::Limits) -> u64 {
    if let Some(given) = &limits.receiving_bytes_max {
        return *given.get_ref();
    }
    let share = machine::memory_bytes().map_or(RECEIVING_BYTES_MAX, |memory| memory / 8);
    // One message of the largest size must get in.
    share.min(RECEIVING_BYTES_MAX).max(*limits.message_bytes_max.get_ref())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, OpenFault> {
    let fault = |cause| OpenFault::Listen { address, cause };
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() };
    let socket = socket.map_err(fault)?;
    socket.set_reuseaddr(true).map_err(fault)?;
    socket.bind(address).map_err(fault)?;
    socket.listen(1_024).map_err(fault)
}

fn dns(house: &House, clock: &Clock) -> Result<Arc<dyn Dns>, OpenFault> {
    let section = &house.written.dns;
    let servers: Vec<SocketAddr> = section.servers.iter().map(|server| *server.get_ref()).collect();
    let resolver: Option<Arc<dyn Dns>> = if section.only_answers {
        None
    } else {
        let settings = ResolverSettings {
            servers: if servers.is_empty() { Servers::System } else { Servers::These(servers) },
            validator: section.validator.as_ref().map(|validator| *validator.get_ref()),
            ..ResolverSettings::default()
        };
        Some(Arc::new(Resolver::new(&settings, clock.clone()).map_err(|fault| OpenFault::Dns(fault.to_string()))?))
    };
    Ok(match (house.fixed.rules.is_empty(), resolver) {
        (true, Some(resolver)) => resolver,
        (_, next) => Arc::new(FixedDns::new(house.fixed.clone(), next)),
    })
}
