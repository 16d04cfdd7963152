//! A name server with a fixed zone, on UDP and TCP.
