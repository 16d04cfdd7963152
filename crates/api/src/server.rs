//! Who listens, and how does it end?

use crate::asked::BODY_OCTETS_MAX;
use crate::caller::{Desk, Peer};
use crate::doors;
use crate::problem::Problem;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use mta::metrics::{Metrics, What};
use net::tls::Acceptor;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// For the headers of one request.
const HEADER_WAIT: Duration = Duration::from_secs(30);
/// For one request, its body included.
const REQUEST_WAIT: Duration = Duration::from_secs(120);
/// Connections open at one time; more wait in the kernel.
const CONNECTIONS_MAX: usize = 1_024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// How long a graceful stop waits for requests under way.
const STOP_WAIT: Duration = Duration::from_secs(10);

pub fn router(desk: Desk) -> Router {
    doors::router(&desk)
        .fallback(|| async { Problem::not_found("This address") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This address does not take this method.",
                "See the documentation of this call.",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_OCTETS_MAX))
        .layer(middleware::from_fn(bounded))
        .with_state(desk)
}

/// A request that takes too long ends with an answer instead of a silence.
async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_WAIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            "The request was not finished in time.",
            "Send it again, faster.",
        )
        .into_response(),
    }
}

/// The router, with each request of a connection told where it comes from.
fn from(
    peer: Peer,
    router: Router,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> {
    let service = TowerToHyperService::new(router);
    service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        service.call(request)
    })
}

/// One connection to its end; an early one with what ended it, in words and for the metrics.
async fn converse<S, V>(stream: S, service: V, watcher: Watcher) -> Result<(), (String, &'static str)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .serve_connection(TokioIo::new(stream), service);
    watcher.watch(connection).await.map_err(|fault| (fault.to_string(), broken_by(&fault)))
}

/// For the metrics.
fn broken_by(fault: &hyper::Error) -> &'static str {
    match fault {
        fault if fault.is_parse() => "not_http",
        fault if fault.is_timeout() => "too_slow",
        _ => "closed",
    }
}

/// Serves until told to stop; requests under way are finished. With an acceptor, only over TLS.
pub async fn serve(
    socket: TcpListener,
    tls: Option<Acceptor>,
    router: Router,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
            socket.accept().await.map(|(stream, peer)| (stream, peer.ip(), place))
        };
        let taken = tokio::select! {
            taken = next => taken,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer, place) = match taken {
            Ok(taken) => taken,
            Err(fault) => {
                tracing::warn!(%fault, "cannot accept HTTP connections for a moment");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (service, watcher) = (from(Peer(peer), router.clone()), graceful.watcher());
        let (tls, metrics) = (tls.clone(), metrics.clone());
        tokio::spawn(async move {
            let broken = match tls {
                None => converse(stream, service, watcher).await,
                Some(acceptor) => match acceptor.accept(stream, HEADER_WAIT).await {
                    Ok(stream) => converse(stream, service, watcher).await,
                    Err(fault) => Err((fault.to_string(), "no_tls")),
                },
            };
            if let Err((fault, what)) = broken {
                tracing::debug!(fault, "an HTTP connection ended early");
                metrics.http_broken.get_or_create(&What { what }).inc();
            }
            drop(place);
        });
    }
    drop(socket);
    if tokio::time::timeout(STOP_WAIT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some HTTP requests did not end in time");
    }
}
