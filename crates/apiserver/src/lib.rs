//! The declarative API: Kubernetes' REST over any store.
//!
//! ```text
//!   listener ─▶ tls ─▶ pipeline: authenticate ─▶ authorize ─▶ fairness ─▶ deadline ─▶ route
//!                                                                                      │
//!        get, create, update, patch, delete ── registry decides ── commit ─▶ store     │
//!        list, watch ◀── watch cache ◀── one watch per kind ◀──────────────── store    │
//!        log, exec, attach, portforward ──▶ the node's agent ◀─────────────────────────┘
//! ```
//!
//! What a kind means is `registry`'s business, and where objects are kept is the store's: this crate sees
//! [`store_api::Store`] and no backend. It knows nothing of scheduling, controllers or containers.

mod authenticate;
mod authorize;
mod body;
mod bootstrap;
mod cache;
mod call;
mod commit;
mod core;
mod delete;
mod discovery;
mod events;
mod evict;
mod fairness;
mod health;
mod identity;
mod list;
mod listener;
mod local;
mod metrics;
mod negotiate;
mod node_proxy;
mod openapi;
mod options;
mod parsed;
mod pipeline;
mod protobuf;
mod request;
mod respond;
mod reviews;
mod route;
mod server;
mod specs;
mod subresource;
mod tls;
mod token;
mod view;
mod watch;
mod write;

pub use body::{Body, BodyError};
pub use fairness::InFlightLimits;
pub use health::KUBERNETES_VERSION;
pub use identity::{AUTHENTICATED, Identity, MASTERS, NODES};
pub use local::LocalService;
pub use options::{ConnectionLimits, NoNodes, NodeDialer, Options, ServiceAccountOptions, StaticToken, Stream};
pub use server::{ApiServer, Error, Handle};
pub use tls::{TlsError, TlsFiles};
pub use token::{KeyError, generate_signing_key};
