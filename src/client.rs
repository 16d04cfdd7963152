//! How does the command line speak to a running service? Over its HTTP surface, like everybody else.

use crate::commands::Failure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Where the service is, and who asks.
#[derive(clap::Args, Clone, Debug)]
pub struct Target {
    /// Where the service takes HTTP calls
    #[arg(long, env = "WEIR_URL", default_value = "http://127.0.0.1:8025")]
    url: String,
    /// An account's key, or the operator's
    #[arg(long, env = "WEIR_KEY", hide_env_values = true)]
    key: String,
}

impl Target {
    /// One call; a problem that the service answers with becomes the failure's words.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let authority = self
            .url
            .trim_end_matches('/')
            .strip_prefix("http://")
            .ok_or_else(|| Failure(format!("{} is not an address such as http://127.0.0.1:8025", self.url)))?;
        let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let stream = TcpStream::connect(&address)
            .await
            .map_err(|fault| Failure(format!("no service answers at {}: {fault}. Is weir serve running?", self.url)))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let octets = body.map(ToString::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(octets)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let octets = response.into_body().collect().await?.to_bytes();
        let value: Value = serde_json::from_slice(&octets).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(value);
        }
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let field = text("field");
        let place = if field.is_empty() { String::new() } else { format!(" ({field})") };
        Err(Failure(format!("{status}: {}{place} {}", text("detail"), text("mend")).trim_end().to_owned()))
    }
}

/// A value for the query of an address.
#[must_use]
pub fn escaped(text: &str) -> String {
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~".contains(octet);
    text.bytes()
        .map(|octet| if plain(&octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}
