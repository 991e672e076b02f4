//! The gRPC worker that writes text.
