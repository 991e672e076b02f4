//! Names and shapes of a checkpoint's tensors, as Hugging Face writes them.

use crate::config::Config;

/// What the names of the backbone's tensors begin with in a classifier's checkpoint. A bare backbone's names lack it.
pub(crate) const BACKBONE: &str = "distilbert.";

/// A tensor that a checkpoint must hold.
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

/// Every tensor of the network, in the order of computation.
pub(crate) fn tensors(config: &Config) -> Vec<Expected> {
    let (dim, hidden) = (config.dim, config.hidden_dim);
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        all.push(Expected {
            name,
            shape: shape.to_vec(),
        })
    };
    let embeddings = format!("{BACKBONE}embeddings");
    add(
        format!("{embeddings}.word_embeddings.weight"),
        &[config.vocab_size, dim],
    );
    add(
        format!("{embeddings}.position_embeddings.weight"),
        &[config.max_position_embeddings, dim],
    );
    add(format!("{embeddings}.LayerNorm.weight"), &[dim]);
    add(format!("{embeddings}.LayerNorm.bias"), &[dim]);
    for i in 0..config.n_layers {
        let layer = format!("{BACKBONE}transformer.layer.{i}");
        for part in ["q_lin", "k_lin", "v_lin", "out_lin"] {
            add(format!("{layer}.attention.{part}.weight"), &[dim, dim]);
            add(format!("{layer}.attention.{part}.bias"), &[dim]);
        }
        add(format!("{layer}.sa_layer_norm.weight"), &[dim]);
        add(format!("{layer}.sa_layer_norm.bias"), &[dim]);
        add(format!("{layer}.ffn.lin1.weight"), &[hidden, dim]);
        add(format!("{layer}.ffn.lin1.bias"), &[hidden]);
        add(format!("{layer}.ffn.lin2.weight"), &[dim, hidden]);
        add(format!("{layer}.ffn.lin2.bias"), &[dim]);
        add(format!("{layer}.output_layer_norm.weight"), &[dim]);
        add(format!("{layer}.output_layer_norm.bias"), &[dim]);
    }
    add("pre_classifier.weight".to_owned(), &[dim, dim]);
    add("pre_classifier.bias".to_owned(), &[dim]);
    add("classifier.weight".to_owned(), &[config.labels.len(), dim]);
    add("classifier.bias".to_owned(), &[config.labels.len()]);
    all
}

/// The tensors of the head of masked-language modelling, but its projection's matrix: that is the word embedding.
pub(crate) fn masked_head(config: &Config) -> Vec<Expected> {
    let dim = config.dim;
    let shapes: [(&str, &[usize]); 5] = [
        ("vocab_transform.weight", &[dim, dim]),
        ("vocab_transform.bias", &[dim]),
        ("vocab_layer_norm.weight", &[dim]),
        ("vocab_layer_norm.bias", &[dim]),
        ("vocab_projector.bias", &[config.vocab_size]),
    ];
    let expected = |(name, shape): (&str, &[usize])| Expected {
        name: name.to_owned(),
        shape: shape.to_vec(),
    };
    shapes.map(expected).into()
}

/// Whether a tensor belongs to the classifier rather than to the backbone.
pub(crate) fn is_head(name: &str) -> bool {
    !name.starts_with(BACKBONE)
}
