/// What a checked file says about its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// As its author named it.
    pub name: Option<String>,
    /// One of [`crate::ARCHITECTURES`].
    pub architecture: String,
    /// Tokens that it was trained to attend to.
    pub context_length: u32,
    /// Width.
    pub embedding_length: u32,
    /// Width within the feed-forward layers.
    pub feed_forward_length: u32,
    /// Transformer blocks.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Heads of keys and values.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Tokens.
    pub vocabulary: u32,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub weights_bytes: u64,
    /// E.g. `Q4_K_M`; where the file does not say, the type that most of its weights have.
    pub quantization: String,
    /// A Jinja template that turns messages into a prompt.
    pub chat_template: Option<String>,
    /// Begins every text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn.
    pub eot: Option<u32>,
    /// True if a text is to begin with [`Self::bos`].
    pub add_bos: bool,
}

impl Model {
    /// Bytes that keys and values of one token take in f16.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> u64 {
        // Keys and values, two bytes each. A checked file's sizes are far from overflowing.
        4 * u64::from(self.layers) * u64::from(self.head_dim) * u64::from(self.kv_heads)
    }
}
