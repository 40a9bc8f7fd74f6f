//! Who may do what with which keys: etcd's (v3.5) users, roles and permissions, as a deterministic state machine.
//!
//! ```text
//!   Command ──apply──▶ Auth ──▶ Applied { response, tokens } ──follow──▶ Tokens  (this member's own, with their times)
//!                        │
//!                        └─ permit(caller) ─▶ put · range · delete · txn · lease …  ─▶ allowed, or an AuthError
//! ```
//!
//! The same commands in the same order give the same [`Auth`], byte for byte. Knows no password (a hash is what it is
//! told), no key's value, no clock, socket or chance: time and random letters come as arguments.

mod buckets;
mod command;
mod permit;
mod ranges;
mod records;
mod state;
mod tokens;
mod wire;

pub use buckets::{Bucket, Entry};
pub use command::{Action, Command};
pub use permit::Permit;
pub use state::{Applied, Auth, FIRST_REVISION, Response};
pub use tokens::{MAX_TOKENS, TOKEN_TTL, TokenEvent, Tokens, token_index};
pub use wire::DecodeError;
