//! Prints the statistics of a file of labelled reviews, how long they took and how much memory:
//! `cargo run --release -p understudy-corpus --example statistics -- reviews.csv [--test]`, where `--test` leaves out all
//! but the split for tests. The labels stand in for a classifier's answers; how confident it is, the number of the row
//! says.
#![allow(clippy::print_stdout, reason = "a tool for developers")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use understudy_corpus::statistics::{Classified, Exemplar, Statistics};
use understudy_corpus::{Labels, Reader, Split};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("name a file of labelled reviews")?);
    let only = arguments.next().map(|_| Split::Test);
    let labels = Labels::infer(["positive", "negative"])?;
    let mut statistics = Statistics::new(labels.names().to_vec());
    let mut adding = Duration::ZERO;
    for (row, record) in (0_u32..).zip(Reader::open_labelled(&path)?) {
        let record = record?;
        if only.is_some() && record.split != only {
            continue;
        }
        let label = record.label.as_deref().and_then(|label| labels.index(label));
        let begin = Instant::now();
        statistics.add(&Classified {
            text: &record.text,
            label: label.ok_or("a label that is neither positive nor negative")?,
            confidence: 1.0 - 0.5 * (f64::from(row % 1000) / 1000.0).powi(6),
        })?;
        adding += begin.elapsed();
    }
    let begin = Instant::now();
    let summary = statistics.summary();
    let summing = begin.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or("VmHWM: unknown");
    for class in &summary.classes {
        println!("{}: {} texts, share {:.4}", class.label, class.texts, class.share);
        println!("  {:.4} to {:.4}", class.interval.low, class.interval.high);
        println!("  {}", class.distinctive.join(", "));
        class.exemplars.iter().for_each(print);
    }
    println!("uncertain:");
    summary.uncertain.iter().for_each(print);
    println!("{:?}", summary.lengths);
    println!("{:?}", summary.confidence);
    println!(
        "vocabulary {}, type-token ratio {:?}",
        summary.vocabulary, summary.type_token_ratio
    );
    let begin = Instant::now();
    let file = serde_json::to_vec(&statistics)?;
    let (writing, begin) = (begin.elapsed(), Instant::now());
    let read: Statistics = serde_json::from_slice(&file)?;
    let (reading, begin) = (begin.elapsed(), Instant::now());
    statistics.merge(read)?;
    println!("add {adding:?}, summary {summing:?}, merge {:?}", begin.elapsed());
    println!("peak memory before the file is made: {memory}");
    println!(
        "as a file {} bytes, written in {writing:?}, read in {reading:?}",
        file.len()
    );
    Ok(())
}

fn print(exemplar: &Exemplar) {
    println!("  {:.3} {:?}", exemplar.confidence, exemplar.quotation);
}
