//! Figures of a run.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Serialize;
use tonic::Code;

use super::{phases::Outcome, sender::Record, split::Split};
use crate::{
    output::{Output, thousands},
    table::{percent, table},
};

#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) total: Figures,
    /// Before, during and after the command; empty without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    phases: Vec<Figures>,
    /// What each arm should have got and did get; absent if the route changed meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) split: Option<Split>,
}

/// Of all requests that began in one phase.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    phase: &'static str,
    seconds: f64,
    pub(super) requests: u64,
    pub(super) failures: u64,
    requests_per_second: f64,
    /// Of the answered ones, in milliseconds.
    latency_ms: Latency,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    failures_by_code: BTreeMap<String, u64>,
    versions: BTreeMap<String, Version>,
    pub(super) arms: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Default, Serialize)]
struct Version {
    requests: u64,
    /// Answers that had a right one to be compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<f64>,
    #[serde(skip)]
    judged: u64,
    #[serde(skip)]
    correct: u64,
}

impl Report {
    /// The records are sorted by their start.
    pub(super) fn new(records: &[Record], outcome: &Outcome) -> Self {
        let total = Figures::new("all", records, outcome.end);
        let mut phases = Vec::new();
        if outcome.phases.len() > 1 {
            for (index, &(name, start)) in outcome.phases.iter().enumerate() {
                let end = outcome.phases.get(index + 1).map_or(outcome.end, |next| next.1);
                let from = records.partition_point(|record| record.start < start);
                let to = match outcome.phases.get(index + 1) {
                    Some(_) => records.partition_point(|record| record.start < end),
                    None => records.len(),
                };
                phases.push(Figures::new(name, &records[from..to], end - start));
            }
        }
        Self {
            total,
            phases,
            split: None,
        }
    }

    pub(super) fn tell(&self, output: &Output) -> anyhow::Result<()> {
        if output.is_json() {
            return output.value(self);
        }
        let mut rows = table([
            "PHASE",
            "REQUESTS",
            "FAILED",
            "PER SECOND",
            "P50",
            "P90",
            "P99",
            "MAX",
            "ANSWERED BY",
        ]);
        for figures in self.phases.iter().chain([&self.total]) {
            let Latency { p50, p90, p99, max } = figures.latency_ms;
            let by = figures
                .versions
                .iter()
                .map(|(name, version)| format!("{name} {}", thousands(version.requests)));
            let milliseconds = |value: f64| format!("{value:.1} ms");
            rows.add_row([
                figures.phase.to_owned(),
                thousands(figures.requests),
                thousands(figures.failures),
                format!("{:.1}", figures.requests_per_second),
                milliseconds(p50),
                milliseconds(p90),
                milliseconds(p99),
                milliseconds(max),
                by.collect::<Vec<_>>().join(", "),
            ]);
        }
        output.line(rows.trim_fmt())?;
        for (code, failures) in &self.total.failures_by_code {
            output.line(format_args!("failed with {code}: {}", thousands(*failures)))?;
        }
        for (name, version) in self.total.versions.iter().filter(|(_, version)| version.judged > 0) {
            let share = version.correct as f64 / version.judged as f64 * 100.0;
            output.line(format_args!(
                "accuracy of {name}: {share:.1}% of {} answers",
                thousands(version.judged)
            ))?;
        }
        if let Some(split) = &self.split {
            for arm in &split.arms {
                let weight = percent(f64::from(arm.weight_ppm) / 1e6);
                let expected = format!("{:.1}", arm.expected);
                let (got, of) = (thousands(arm.got), thousands(split.requests));
                output.line(format_args!(
                    "split: {} wants {weight} of {of} = {expected}, got {got} ({:+.1})",
                    arm.arm, arm.off
                ))?;
            }
        }
        Ok(())
    }
}

impl Figures {
    fn new(phase: &'static str, records: &[Record], time: Duration) -> Self {
        let mut figures = Self {
            phase,
            seconds: time.as_secs_f64(),
            ..Self::default()
        };
        let mut latencies = Vec::with_capacity(records.len());
        for record in records {
            figures.requests += 1;
            if let Some(arm) = &record.arm {
                *figures.arms.entry(arm.to_string()).or_default() += 1;
            }
            if record.code != Code::Ok {
                figures.failures += 1;
                *figures.failures_by_code.entry(code_name(record.code)).or_default() += 1;
                continue;
            }
            latencies.push(record.latency);
            let name = record.version.as_deref().unwrap_or("unknown");
            let version = figures.versions.entry(name.to_owned()).or_default();
            version.requests += 1;
            version.judged += u64::from(record.correct.is_some());
            version.correct += u64::from(record.correct == Some(true));
        }
        for version in figures.versions.values_mut() {
            version.accuracy = (version.judged > 0).then(|| version.correct as f64 / version.judged as f64);
        }
        latencies.sort_unstable();
        figures.latency_ms = Latency {
            p50: quantile(&latencies, 50),
            p90: quantile(&latencies, 90),
            p99: quantile(&latencies, 99),
            max: quantile(&latencies, 100),
        };
        if figures.seconds > 0.0 {
            figures.requests_per_second = figures.requests as f64 / figures.seconds;
        }
        figures
    }
}

/// Nearest rank, in milliseconds; 0 of nothing.
fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted
        .get(rank - 1)
        .map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
}

/// `DEADLINE_EXCEEDED`
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for (index, letter) in format!("{code:?}").char_indices() {
        if index > 0 && letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// One line for each request, in the order of their start.
pub(super) fn write_timeline(path: &Path, records: &[Record]) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(["start_us", "latency_us", "code", "version", "arm"])?;
    for record in records {
        writer.write_record([
            record.start.as_micros().to_string().as_str(),
            record.latency.as_micros().to_string().as_str(),
            code_name(record.code).as_str(),
            record.version.as_deref().unwrap_or_default(),
            record.arm.as_deref().unwrap_or_default(),
        ])?;
    }
    Ok(writer.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(start: u64, latency: u64, code: Code, version: &str) -> Record {
        Record {
            start: Duration::from_millis(start),
            latency: Duration::from_millis(latency),
            code,
            version: Some(version.into()),
            arm: Some("stable".into()),
            correct: Some(latency < 50),
        }
    }

    #[test]
    fn requests_belong_to_the_phase_they_began_in() {
        let records = [
            record(0, 10, Code::Ok, "v1"),
            record(99, 20, Code::Ok, "v1"),
            record(100, 90, Code::Ok, "v1"),
            record(150, 30, Code::DeadlineExceeded, "v2"),
            record(200, 40, Code::Ok, "v2"),
            record(400, 40, Code::Ok, "v2"),
        ];
        let at = Duration::from_millis;
        let phases = vec![("before", at(0)), ("during", at(100)), ("after", at(200))];
        let report = Report::new(
            &records,
            &Outcome {
                phases,
                end: at(300),
                command_succeeded: true,
            },
        );
        let counts: Vec<_> = report
            .phases
            .iter()
            .map(|phase| (phase.phase, phase.requests, phase.failures))
            .collect();
        assert_eq!(counts, [("before", 2, 0), ("during", 2, 1), ("after", 2, 0)]);
        assert_eq!(report.total.failures_by_code["DEADLINE_EXCEEDED"], 1);
        assert_eq!(report.total.versions["v1"].accuracy, Some(2.0 / 3.0));
        assert_eq!(report.phases[0].latency_ms.p50, 10.0);
        assert_eq!(report.phases[1].latency_ms.p99, 90.0);
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let sorted: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(
            [50, 90, 99, 100].map(|percent| quantile(&sorted, percent)),
            [100.0, 180.0, 198.0, 200.0]
        );
        assert_eq!(quantile(&sorted[..1], 99), 1.0);
        assert_eq!(quantile(&[], 99), 0.0);
    }
}
