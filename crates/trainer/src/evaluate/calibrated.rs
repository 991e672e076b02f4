//! A checkpoint whose probabilities are calibrated: logits divided by T are those of a last layer divided by T.

use std::path::Path;

use anyhow::{Context, ensure};
use tch::{Device, no_grad};
use understudy_corpus::{Metrics, Temperature};
use understudy_distilbert::{Checkpoint, network};

use super::answers::{self, Parts};
use super::renew;
use crate::card::{self, Answers};
use crate::model::Model;

/// The tensors that make logits of what the network knows.
const LAST_LAYER: [&str; 2] = ["classifier.weight", "classifier.bias"];

/// Writes the checkpoint of `folder`, calibrated, with its card measured anew.
pub(super) fn write(
    folder: &Path,
    output: &Path,
    temperature: &Temperature,
    parts: &Parts,
    threads: usize,
) -> anyhow::Result<()> {
    ensure!(
        !output.join("config.json").exists(),
        "{} holds a checkpoint already: choose another folder",
        output.display()
    );
    let model = Model::load(&Checkpoint::open(folder)?, |_| {}, Device::Cpu)?;
    let mut variables = model.store.variables();
    for name in LAST_LAYER {
        let tensor = variables.get_mut(name);
        let tensor = tensor.with_context(|| format!("the network has no tensor {name}"))?;
        let divided = no_grad(|| tensor.f_div_scalar(temperature.temperature))?;
        no_grad(|| tensor.f_copy_(&divided))?;
    }
    let tokenizer = model.tokenizer.to_json()?;
    network::save_checkpoint(output, model.network.config(), &model.store, &tokenizer)?;

    // Opened again: what is told is what was written.
    let model = Model::load(&Checkpoint::open(output)?, |_| {}, Device::Cpu)?;
    let answered = answers::ask(&model, &parts.measured, threads)?;
    let metrics = Metrics::measure(parts.labels.names(), &parts.truth(), &answered.probabilities)?;
    let mut card = renew(card::read(folder)?, &model)?;
    let answers = Answers {
        probabilities: answered.probabilities,
        tokens: answered.lengths,
    };
    card::measured(&mut card, &metrics, &answers);
    card::write(output, &card)?;
    eprintln!(
        "wrote {}: log loss {:.4} on the measured examples",
        output.display(),
        metrics.log_loss
    );
    Ok(())
}
