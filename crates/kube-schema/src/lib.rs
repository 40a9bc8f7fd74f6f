//! What the API knows of each kind, as data: names, scope, verbs, storage prefix, and the shape of every type.
//!
//! ```text
//!   openapi-v1.36.2.json ──(xtask gen-schema)──▶ schema.txt ──(Schema::builtin, once)──▶ Schema ──▶ registry
//!                                                              kinds::KINDS ────────────────────▶
//! ```
//!
//! Refuses to know what is done with it: no defaults are set, nothing is validated, stored or served here. A custom
//! resource's schema is the same [`Schema`], built at run time instead of decoded from the table.

pub mod kinds;
pub mod quantity;
mod schema;
mod table;

pub use schema::{Field, ListKind, Object, ObjectId, PatchStrategy, SCHEMA_TABLE, Schema, Shape};
pub use table::TableError;
