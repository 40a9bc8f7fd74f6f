//! Compiles the demo server to a static program without a C library, so that the built-in image needs nothing else.

fn main() {}
