//! GGUF model files: reading, checking and writing (pure).
