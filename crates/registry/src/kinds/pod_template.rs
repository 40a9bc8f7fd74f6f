//! Pod templates.
