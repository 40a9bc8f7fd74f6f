//! A gRPC server over HTTP/2 for many small calls and for streams that fan out: own framing, own header compression, one
//! task per connection.
//!
//! ```text
//!   bytes ─▶ connection ─▶ engine: frames ─▶ streams ─▶ handlers ─┐   registered methods: a path, a message, an answer
//!   bytes ◀─ one write  ◀─ rope  ◀─ windows ◀─ answers ◀─ wakes ──┘   all else: any tower service (HTTP/1 too)
//! ```
//!
//! A call costs one boxed future and no task; its handler runs inside the connection's task, so that all answers that
//! are ready go out in one write, and many wake-ups are one. Large bodies go out as references.
//!
//! Knows HTTP/2 (RFC 9113), HPACK (RFC 7541) and gRPC's framing. Knows no message, no service, no certificate and no
//! socket: it runs over whatever can be read and written.

mod answer;
mod call;
mod connection;
mod engine;
mod fallback;
mod frame;
mod head;
mod hpack;
mod http1;
mod message;
mod pipe;
mod ready;
mod rope;
mod server;
mod status;

pub use call::{Call, Requests, Sender};
pub use connection::Error;
pub use fallback::Body;
pub use message::{Encode, Keep};
pub use pipe::Closed;
pub use rope::Rope;
pub use server::{Builder, KeepAlive, Methods, Observer, Server, Streaming, Unary};
pub use status::{Code, Status};
