//! How does the command line speak to a running service? Over its HTTP surface, like everybody else.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fmt::{self, Display};
use std::time::Duration;
use tokio::net::TcpStream;

/// Where all of Weir's own calls begin.
pub const BASE: &str = "/api/v1";
/// Before a stream that has ended is asked for again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How much of an answer that is none of ours is shown.
const STRANGE_LETTERS_MAX: usize = 200;

/// Where the service is, and who asks.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Service")]
pub struct Target {
    /// Where the service takes HTTP calls
    #[arg(long, env = "WEIR_URL", default_value = "http://127.0.0.1:8025")]
    url: String,
    /// An account's key, or the operator's
    #[arg(long, env = "WEIR_KEY", hide_env_values = true)]
    key: Option<String>,
}

/// What the service answered.
#[derive(Debug)]
pub struct Answer {
    text: String,
    pub value: Value,
}

impl Answer {
    /// What several answers come to.
    #[must_use]
    pub fn summed(value: Value) -> Answer {
        Answer { text: value.to_string(), value }
    }
}

/// As the service wrote it.
impl Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{}", told(*status, problem, text))]
    Refused { status: StatusCode, problem: Value, text: String },
    #[error("no key is given: say --key KEY or set WEIR_KEY. `weir init` prints the operator's first one.")]
    NoKey,
    #[error("{0} is not an address such as http://127.0.0.1:8025")]
    Address(String),
    #[error("no service answers at {url}: {fault}. Is weir serve running?")]
    Silent { url: String, fault: std::io::Error },
    #[error("the connection to the service failed: {0}")]
    Broken(#[from] hyper::Error),
    #[error("this cannot be asked: {0}")]
    Unaskable(#[from] hyper::http::Error),
    /// Of what was typed, before anything was asked.
    #[error("{0}")]
    Line(String),
}

/// Sentence, field and mend of a problem (RFC 9457).
fn told(status: StatusCode, problem: &Value, text: &str) -> String {
    let part = |name: &str| problem.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(detail) = part("detail") else {
        let strange: String = text.chars().take(STRANGE_LETTERS_MAX).collect();
        return format!("{status}, in words that are not Weir's: {strange}").trim_end().to_owned();
    };
    let mut words = detail.to_owned();
    for (name, value) in [("field", part("field")), ("mend", part("mend"))] {
        if let Some(value) = value {
            words.push_str(&format!("\n  {name:<6} {value}"));
        }
    }
    words
}

impl Target {
    pub fn new(url: String, key: String) -> Target {
        Target { url, key: Some(key) }
    }

    pub fn must_have_key(&self) -> Result<(), Fault> {
        if self.key.is_some() { Ok(()) } else { Err(Fault::NoKey) }
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Fault> {
        self.must_have_key()?;
        self.ask(method, path, body, &[]).await
    }

    /// The id of an account that is called by name or id. A house that is run from its file knows ids alone.
    pub async fn account_id(&self, called: &str) -> Result<String, Fault> {
        match self.call(Method::GET, &format!("{BASE}/accounts/{}", escaped(called)), None).await {
            Ok(answer) => Ok(answer.value["id"].as_str().unwrap_or(called).to_owned()),
            Err(Fault::Refused { problem, .. }) if problem["code"] == "no_control_plane" => Ok(called.to_owned()),
            Err(fault) => Err(fault),
        }
    }

    /// Server-sent events, until the service refuses to go on. A stream that ends is taken up again where it was.
    pub async fn follow(&self, path: &str, heard: &mut dyn FnMut(&Value)) -> Result<Answer, Fault> {
        let mut last: Option<String> = None;
        loop {
            let headers: Vec<_> = last.iter().map(|last| ("last-event-id", last.clone())).collect();
            let response = self.response(Method::GET, path, None, &headers).await?;
            if !response.status().is_success() {
                return read(response).await;
            }
            let mut body = response.into_body();
            let mut told = Lines::default();
            while let Some(Ok(frame)) = body.frame().await {
                for line in told.take(frame.data_ref().map_or(&[][..], |octets| octets)) {
                    match line.split_once(": ") {
                        Some(("id", id)) => last = Some(id.to_owned()),
                        Some(("data", text)) => {
                            if let Ok(value) = serde_json::from_str(text) {
                                heard(&value);
                            }
                        }
                        _ => {}
                    }
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// With a key where there is one, and these headers.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, String)],
    ) -> Result<Answer, Fault> {
        read(self.response(method, path, body, headers).await?).await
    }

    async fn response(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, String)],
    ) -> Result<Response<Incoming>, Fault> {
        let authority = self.url.trim_end_matches('/').strip_prefix("http://");
        let authority = authority.ok_or_else(|| Fault::Address(self.url.clone()))?;
        let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let stream = TcpStream::connect(&address);
        let stream = stream.await.map_err(|fault| Fault::Silent { url: self.url.clone(), fault })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let octets = body.map(ToString::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        Ok(sender.send_request(request.body(Full::new(Bytes::from(octets)))?).await?)
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, Fault> {
    let status = response.status();
    let text = String::from_utf8_lossy(&response.into_body().collect().await?.to_bytes()).into_owned();
    let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if status.is_success() { Ok(Answer { text, value }) } else { Err(Fault::Refused { status, problem: value, text }) }
}

/// What came, as lines; the last one may not be whole yet.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn take(&mut self, octets: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(octets);
        let end = self.rest.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

/// A value for the path or query of an address.
#[must_use]
pub fn escaped(text: &str) -> String {
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~".contains(octet);
    text.bytes()
        .map(|octet| if plain(&octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}
