//! The engine of the API's kinds: what becomes of an object when it is created, changed, patched or deleted, and how it
//! is shown.
//!
//! ```text
//!   body ─▶ decode ─▶ admission ─▶ create/update ─▶ allocate ─▶ encode ─▶ bytes for the store
//!           (schema)  (neighbours) (default, prepare, (Service   (canonical, without
//!                                   validate)          IPs)       resourceVersion)
//! ```
//!
//! Everything here is a function of its arguments, on JSON values. It knows no socket, no store, no clock and no
//! entropy: time and fresh identifiers come in a [`Context`], an object's neighbours come as arguments. What one kind
//! needs stands in `kinds/<kind>.rs`; its names and types stand in `kube-schema`.

pub mod admission;
pub mod allocate;
mod context;
mod convert;
pub mod decode;
mod delete;
mod encode;
pub mod eviction;
pub mod field;
mod kinds;
mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
mod raw;
mod resource;
mod scalar;
pub mod selector;
mod status;
mod stored;
pub mod table;
mod value;

pub use context::{Context, format_time, name_suffix, uid_from};
pub use decode::{Decoded, FieldValidation};
pub use delete::{DeleteOptions, DeleteOutcome, Preconditions, Propagation};
pub use encode::{decode_stored, encode, set_resource_version, splice_point, splice_resource_version};
pub use kinds::{PlainBinding, PodBody, RememberedSpec};
pub use raw::metadata as stored_metadata;
pub use resource::{Existing, Outcome, Registry, Resource, Target};
pub use selector::{Attributes, FieldSelector, LabelSelector, Selection};
pub use status::{Cause, Details, Status};
pub use stored::{Reading, StoredObject};
