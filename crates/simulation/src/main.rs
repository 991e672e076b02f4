//! `make simulate`: thousands of rollouts over scenarios, decided by the code that runs in production and by the rules in use
//! elsewhere. Writes `docs/simulation.md` and its plots; exits with 1 if a promised error rate is not held.

mod report;
mod rules;
mod scenario;
mod world;

use std::{path::PathBuf, process::ExitCode, thread};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    report::{Cell, Report},
    rules::{Decision, Maker},
    scenario::Scenario,
    world::World,
};

/// Simulates rollouts and writes what came out
#[derive(Debug, Parser)]
struct Options {
    /// Rollouts for each scenario and rule
    #[arg(long, default_value_t = 1_000)]
    runs: u64,
    /// Only scenarios whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// Folder for the report
    #[arg(long, default_value = "docs")]
    out: PathBuf,
}

/// How one run ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// `None`: no decision within the scenario's requests.
    pub(crate) decision: Option<Decision>,
    /// Requests that the candidate had answered.
    pub(crate) candidate_requests: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let mut scenarios = scenario::all();
    if let Some(part) = &options.only {
        scenarios.retain(|scenario| scenario.name.contains(part.as_str()));
    }
    let bar = ProgressBar::new(scenarios.len() as u64 * rules::ALL.len() as u64 * options.runs).with_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} rollouts, {eta} left")?,
    );
    let mut cells = Vec::new();
    for scenario in &scenarios {
        for &rule in rules::ALL {
            let runs = simulate(scenario, rule, options.runs, &bar)?;
            cells.push(Cell {
                scenario: scenario.clone(),
                rule: rule.0,
                runs,
            });
        }
    }
    bar.finish_and_clear();
    let report = Report { cells };
    report.write(&options.out)?;
    let broken = report.broken_promises();
    for promise in &broken {
        eprintln!("not held: {promise}");
    }
    Ok(if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All runs of one scenario under one rule, on all cores. The seed of a run is its number, for every rule.
fn simulate(scenario: &Scenario, rule: Maker, runs: u64, bar: &ProgressBar) -> anyhow::Result<Vec<Run>> {
    let threads = thread::available_parallelism()?.get() as u64;
    thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || -> anyhow::Result<Vec<Run>> {
                    let seeds = (0..runs).filter(|seed| seed % threads == part);
                    seeds
                        .map(|seed| {
                            bar.inc(1);
                            run(scenario, rule, seed)
                        })
                        .collect()
                })
            })
            .collect();
        let mut all = Vec::new();
        for part in parts {
            match part.join() {
                Ok(runs) => all.extend(runs?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}

fn run(scenario: &Scenario, (_, make): Maker, seed: u64) -> anyhow::Result<Run> {
    let mut world = World::new(scenario, seed);
    let mut rule = make(scenario);
    let mut candidate_requests = 0;
    while world.sent() < scenario.requests_max {
        let second = world.second(rule.candidate_ppm(), rule.mirrored())?;
        candidate_requests += second.candidate.requests;
        if let Some(decision) = rule.see(&second) {
            return Ok(Run {
                decision: Some(decision),
                candidate_requests,
            });
        }
    }
    Ok(Run {
        decision: rule.end(),
        candidate_requests,
    })
}
