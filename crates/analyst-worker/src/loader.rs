//! From a version's files to a checked, warm [`Loaded`].
//!
//! A version is ready only if its labels are the manifest's, its output is made of numbers, and it answers the publisher's
//! golden examples here, on this machine, in the precision that was chosen.

use std::path::Path;

use anyhow::Context as _;
use understudy_distilbert::{
    Checkpoint, Classifier, Device, Precision, choose_precision, init_engine_thread, trim_memory,
};
use understudy_protocol::v1::Kind;
use understudy_worker::{LoadError, Manifest};

use crate::{
    golden,
    model::{Info, Model, Tokens, probabilities},
};

/// Lengths in tokens that a version computes before it is ready, alone and then together, so that no caller waits for
/// first-time set-up.
const WARM_UP_TOKENS: [usize; 4] = [4, 32, 128, 512];

/// Loads versions for one device.
#[derive(Debug, Clone)]
pub struct AnalystLoader {
    /// Where to compute.
    pub device: Device,
    /// What to compute in, unless the machine and the golden examples decide.
    pub precision: Option<Precision>,
    /// Engines that share a version, for the worker's record.
    pub engines: usize,
}

/// A version that is ready to answer.
#[derive(Debug)]
pub struct Loaded {
    info: Info,
    checkpoint: Checkpoint,
    classifier: Classifier,
}

impl Model for Loaded {
    fn info(&self) -> &Info {
        &self.info
    }

    fn encode(&self, text: &str) -> Result<Tokens, String> {
        let encoding = self
            .checkpoint
            .tokenizer()
            .encode(text)
            .map_err(|error| error.to_string())?;
        Ok(Tokens {
            ids: encoding.ids,
            truncated: encoding.truncated,
        })
    }

    fn logits(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, String> {
        self.classifier.logits(batch).map_err(|error| error.to_string())
    }

    fn computed_tokens(&self, batch: &[&[u32]]) -> usize {
        let lengths = batch.iter().map(|ids| ids.len());
        if pads(self.classifier.device()) {
            batch.len() * lengths.max().unwrap_or(0)
        } else {
            lengths.sum()
        }
    }
}

/// Whether the classifier computes padding on this device.
#[must_use]
pub fn pads(device: Device) -> bool {
    match device {
        Device::Cpu => false,
        Device::Cuda(_) => true,
    }
}

impl understudy_worker::Loader for AnalystLoader {
    type Loaded = Loaded;
    const KIND: Kind = Kind::Analyst;

    fn description(&self) -> String {
        format!(
            "{}, {} engine{}",
            self.device,
            self.engines,
            if self.engines == 1 { "" } else { "s" }
        )
    }

    fn load(&self, manifest: &Manifest, folder: &Path) -> Result<Loaded, LoadError> {
        // The whole chain in one line: it goes into the worker's record.
        self.load_checked(manifest, folder)
            .map_err(|error| format!("{error:#}").into())
    }

    fn freed(&self) {
        trim_memory();
    }
}

impl AnalystLoader {
    fn load_checked(&self, manifest: &Manifest, folder: &Path) -> anyhow::Result<Loaded> {
        init_engine_thread(1);
        let checkpoint = Checkpoint::open(folder)?;
        golden::check_labels(&manifest.labels, checkpoint.labels())?;
        let texts: Vec<_> = manifest.golden_examples.iter().map(|example| &*example.text).collect();
        let choice = choose_precision(&checkpoint, self.device, self.precision, &texts)?;
        let precision = choice.classifier.precision();
        let info = Info {
            labels: checkpoint.labels().to_vec(),
            tokens_max: checkpoint.tokenizer().max_tokens(),
            precision: precision.to_string(),
            device: self.device.to_string(),
        };
        let loaded = Loaded {
            info,
            checkpoint,
            classifier: choice.classifier,
        };
        loaded.warm_up().context("while warming up")?;
        golden::check(&manifest.golden_examples, precision, |text| {
            let ids = loaded.encode(text).map_err(anyhow::Error::msg)?.ids;
            Ok(loaded.answers(&[&ids])?.swap_remove(0))
        })?;
        let (model, version) = (&manifest.model, &manifest.version);
        tracing::info!(
            model,
            version,
            device = loaded.info.device,
            precision = choice.reason,
            "loaded and checked"
        );
        Ok(loaded)
    }
}

impl Loaded {
    fn answers(&self, batch: &[&[u32]]) -> anyhow::Result<Vec<Vec<f32>>> {
        let rows = self.logits(batch).map_err(anyhow::Error::msg)?;
        anyhow::ensure!(
            rows.len() == batch.len(),
            "the network gave {} answers for {} texts",
            rows.len(),
            batch.len()
        );
        rows.iter()
            .map(|row| {
                probabilities(row).context(
                    "the network's output is not a finite number: its weights are damaged; publish the version again \
                     from a good checkpoint",
                )
            })
            .collect()
    }

    fn warm_up(&self) -> anyhow::Result<()> {
        let longest = self
            .encode(&"good ".repeat(self.info.tokens_max))
            .map_err(anyhow::Error::msg)?
            .ids;
        let texts: Vec<&[u32]> = WARM_UP_TOKENS
            .iter()
            .map(|tokens| &longest[..longest.len().min(*tokens)])
            .collect();
        for text in &texts {
            self.answers(&[text])?;
        }
        self.answers(&texts)?;
        Ok(())
    }
}
