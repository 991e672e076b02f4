//! Reviews: reading, cleaning, duplicates and splits, the baselines, the figures of a classifier.
//!
//! Everything here is a function of its arguments. Files are read where a path is given; there is no clock, no logging and no
//! randomness but from a seed. What was left out of a data set, and why, is counted and returned, never passed over.
//!
//! ```text
//! file ──read──▶ records ──clean──▶ examples ──split──▶ train, validation, test ──▶ Baseline ──▶ Metrics
//! ```

mod baseline;
mod boosting;
mod clean;
mod dataset;
mod error;
mod hybrid;
mod labels;
mod latent;
mod logistic;
mod metrics;
mod phrases;
mod read;
mod split;
pub mod statistics;
mod tfidf;

pub use baseline::{Baseline, BaselineOptions};
pub use clean::{CleanCounts, Limits, Unfit, clean, fingerprint};
pub use dataset::{
    Example, LabelledSet, UnlabelledSet, load_labelled, load_labelled_columns, load_unlabelled, load_unlabelled_columns,
};
pub use error::Error;
pub use hybrid::{Entry, Hybrid};
pub use labels::Labels;
pub use logistic::LogisticOptions;
pub use metrics::{
    Averages, Bootstrap, CALIBRATION_BINS, Calibration, CalibrationBin, ClassMetrics, Clusters, Curves, Discordant,
    Figures, Metrics, Scored, Temperature, holm, percentile_interval,
};
pub use phrases::phrases;
pub use read::{Columns, Reader, Record, Split};
pub use split::{Fractions, SplitCounts, Splits, sample, split};
pub use tfidf::{TfIdf, TfIdfOptions};
