//! Who is told of what happens to acme's mail? A program of acme's own: the smallest that a webhook can be sent to.

use crate::commands::Failure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longer than any request to it.
const BODY_MAX: usize = 1 << 20;

/// Listens until it is dropped.
pub struct Target {
    pub address: SocketAddr,
    heard: Arc<Mutex<BTreeMap<String, u64>>>,
    _door: JoinSet<()>,
}

impl Target {
    pub async fn open() -> Result<Target, Failure> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, heard) = (socket.local_addr()?, Arc::new(Mutex::new(BTreeMap::new())));
        let mut door = JoinSet::new();
        let own = heard.clone();
        door.spawn(async move {
            let mut conversations = JoinSet::new();
            while let Ok((stream, _)) = socket.accept().await {
                let heard = own.clone();
                conversations.spawn(async move { converse(stream, &heard).await.is_ok() });
                while conversations.try_join_next().is_some() {}
            }
        });
        Ok(Target { address, heard, _door: door })
    }

    /// How many events of each kind it has heard of.
    pub fn heard(&self) -> BTreeMap<String, u64> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One request after another, each answered with 204.
async fn converse(stream: TcpStream, heard: &Mutex<BTreeMap<String, u64>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap_or(0);
                }
                None if line.trim().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; std::cmp::min(length, BODY_MAX)];
        stream.read_exact(&mut body).await?;
        let told: Value = serde_json::from_slice(&body)?;
        for event in told["data"]["events"].as_array().into_iter().flatten() {
            let kind = event["kind"].as_str().unwrap_or_default().to_owned();
            *heard.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
}
