//! Precision and recall of the check. The bar stands in the issue, the figures in `docs/grounding.md`.

use std::collections::BTreeMap;

use understudy_grounding::{Report, Verdict, check};

use crate::support;

const PRECISION_MIN: f64 = 0.95;
const RECALL_MIN: f64 = 0.95;

/// Of "this sentence has something that the sheet does not support".
struct Measured {
    precision: f64,
    recall: f64,
}

fn measure(file: &str) -> Measured {
    let (mut caught, mut missed, mut false_alarms, mut passed) = (0_u32, 0_u32, 0_u32, 0_u32);
    let mut kinds: BTreeMap<(String, bool), (u32, u32)> = BTreeMap::new();
    println!("\n{file}");
    for labelled in support::sentences(file) {
        let report = check(&labelled.sentence, &support::sheet(&labelled.sheet));
        let complains = report.unsupported() > 0;
        let right = complains != labelled.ok;
        match (labelled.ok, complains) {
            (false, true) => caught += 1,
            (false, false) => missed += 1,
            (true, true) => false_alarms += 1,
            (true, false) => passed += 1,
        }
        let kind = kinds.entry((labelled.kind.clone(), labelled.ok)).or_default();
        kind.1 += 1;
        kind.0 += u32::from(right);
        if !right {
            let what = if labelled.ok { "false alarm" } else { "missed" };
            println!(
                "  {what} ({}, {}): {}",
                labelled.kind, labelled.sheet, labelled.sentence
            );
            println!("    {}", told(&report, &labelled.sentence));
        }
    }
    let ratio = |part: u32, rest: u32| f64::from(part) / f64::from((part + rest).max(1));
    let measured = Measured {
        precision: ratio(caught, false_alarms),
        recall: ratio(caught, missed),
    };
    for ((kind, ok), (right, all)) in kinds {
        println!(
            "  {:<4} {kind:<20} {right:>3} of {all:>3}",
            if ok { "ok" } else { "bad" }
        );
    }
    println!("  caught {caught}, missed {missed}, false alarms {false_alarms}, passed {passed}");
    println!("  precision {:.3}, recall {:.3}", measured.precision, measured.recall);
    measured
}

fn told(report: &Report, sentence: &str) -> String {
    let told = report.claims.iter().map(|claim| match &claim.verdict {
        Verdict::Supported { fact } => format!("[{} = {fact}]", &sentence[claim.range.clone()]),
        Verdict::Unsupported { reason, .. } => {
            format!(
                "[{}: {reason}] in «{}»",
                &sentence[claim.range.clone()],
                &sentence[claim.sentence.clone()]
            )
        }
    });
    told.collect::<Vec<_>>().join(" ")
}

fn hold_the_bar(file: &str) {
    let measured = measure(file);
    assert!(measured.precision >= PRECISION_MIN, "precision {}", measured.precision);
    assert!(measured.recall >= RECALL_MIN, "recall {}", measured.recall);
}

#[test]
fn measured_on_the_development_set() {
    hold_the_bar("development.txt");
}

#[test]
fn measured_on_the_fresh_set() {
    hold_the_bar("fresh.txt");
}

#[test]
fn measured_on_the_third_set() {
    hold_the_bar("third.txt");
}

#[test]
fn measured_on_the_fourth_set() {
    hold_the_bar("fourth.txt");
}

#[test]
fn measured_on_the_fifth_set() {
    hold_the_bar("fifth.txt");
}

#[test]
fn measured_on_the_held_out_set() {
    hold_the_bar("held_out.txt");
}
