//! What a classified corpus looks like, in numbers: how often each class occurs, how sure the classifier was, how long
//! and how varied the texts are, which words tell the classes apart, and which texts show it.

mod summary;

pub use summary::{
    CONFIDENCE_BINS, CONFIDENT, ClassSummary, Confidence, Exemplar, Interval, Lengths, Summary, UNCERTAIN,
};
