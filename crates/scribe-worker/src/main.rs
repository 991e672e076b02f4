//! The gRPC worker that writes text.

fn main() {}
