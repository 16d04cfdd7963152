//! How do octets go in and out of a connection that may turn from clear to TLS?

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

const READ_OCTETS: usize = 64 << 10;

thread_local! {
    // One buffer a thread instead of one a connection: thousands of idle connections cost no memory for reading.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_OCTETS]);
}

/// A connection in clear, under TLS, or on its way from one to the other.
pub(crate) enum Connection<T> {
    Clear(TcpStream),
    Tls(Box<T>),
    /// Between `take_clear` and `secured`, or after a handshake that failed.
    Gone,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Waits for octets and hands them over; 0 means that the peer closed.
    pub async fn receive(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut filled = ReadBuf::new(buffer);
                ready!(self.poll_read(context, &mut filled))?;
                take(filled.filled());
                Poll::Ready(Ok(filled.filled().len()))
            })
        })
        .await
    }

    fn poll_read(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Connection::Clear(stream) => Pin::new(stream).poll_read(context, into),
            Connection::Tls(stream) => Pin::new(stream).poll_read(context, into),
            Connection::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    pub async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Connection::Clear(stream) => stream.write_all(octets).await,
            Connection::Tls(stream) => {
                stream.write_all(octets).await?;
                stream.flush().await
            }
            Connection::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sends pieces as one, without joining them first where the connection can.
    pub async fn send_pieces(&mut self, pieces: &[impl std::ops::Deref<Target = [u8]>]) -> io::Result<()> {
        let mut slices: Vec<io::IoSlice<'_>> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
        let mut rest: &mut [io::IoSlice<'_>] = &mut slices;
        io::IoSlice::advance_slices(&mut rest, 0);
        match self {
            Connection::Clear(stream) => {
                while !rest.is_empty() {
                    let written = stream.write_vectored(rest).await?;
                    if written == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    io::IoSlice::advance_slices(&mut rest, written);
                }
                Ok(())
            }
            Connection::Tls(stream) => {
                for piece in pieces {
                    stream.write_all(piece).await?;
                }
                stream.flush().await
            }
            Connection::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Takes the clear stream out for a handshake.
    pub fn take_clear(&mut self) -> Option<TcpStream> {
        match std::mem::replace(self, Connection::Gone) {
            Connection::Clear(stream) => Some(stream),
            other => {
                *self = other;
                None
            }
        }
    }

    pub fn secured(&mut self, stream: T) {
        *self = Connection::Tls(Box::new(stream));
    }

    pub async fn close(&mut self) {
        // The peer may be gone already; there is nobody to tell.
        let _ = match self {
            Connection::Clear(stream) => stream.shutdown().await,
            Connection::Tls(stream) => stream.shutdown().await,
            Connection::Gone => Ok(()),
        };
    }
}
