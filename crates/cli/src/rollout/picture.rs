//! A rollout as a page of text: what `status` prints once and `watch` draws again and again.
//!
//! A pure function of what the router says and the terminal's width, so that its tests are pictures too.

mod facts;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use console::{Alignment, StyledObject, measure_text_width, pad_str, style, truncate_str};
use understudy_protocol::v1::{
    ArmCard, ClassPairs, GateReport, Live, Moments, Phase, Rollout, ShadowCard, Sketch, Transition, Verdict,
};
use understudy_rollout::{gates, scorecard, sketch};

use super::words::{self, ppm};
use crate::{
    output::{counted, printable, thousands},
    table::percent,
};

/// Cells of a bar of evidence.
const BAR: usize = 8;
/// Narrower terminals have no place for bars.
const BARS_WIDTH: usize = 100;
/// Columns of a fact's name.
const FACT: usize = 11;
/// Transitions that are shown.
const LATEST: usize = 5;
/// Classes that are told to have flipped.
const FLIPS: usize = 3;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) rollout: &'a Rollout,
    pub(crate) live: &'a Live,
    /// Requests per second of the stable arm and of the candidate.
    pub(crate) rates: Option<(f64, f64)>,
    /// How long ago the rollout was told as it is: its own clock is written every few seconds only.
    pub(crate) since: Duration,
    pub(crate) now: SystemTime,
    /// Columns; longer lines are cut.
    pub(crate) width: usize,
}

impl View<'_> {
    /// Lines, each with its end.
    pub(crate) fn draw(&self) -> String {
        let mut page = Vec::new();
        page.push(style(words::title(self.rollout)).bold().to_string());
        page.push(course(self.rollout));
        page.push(String::new());
        for (name, text) in self.facts() {
            page.extend(fact(name, &text, self.width));
        }
        let sections = [self.arms(), self.gates(), self.mirrored(), self.labels(), self.latest()];
        for section in sections.into_iter().filter(|section| !section.is_empty()) {
            page.push(String::new());
            page.extend(section);
        }
        let mut text = String::new();
        for line in page {
            text.push_str(truncate_str(line.trim_end(), self.width, "…").as_ref());
            text.push('\n');
        }
        text
    }

    fn arms(&self) -> Vec<String> {
        let slice = self.live.slice.clone().unwrap_or_default();
        let spec = words::spec(self.rollout);
        let (stable, candidate) = (slice.stable.unwrap_or_default(), slice.candidate.unwrap_or_default());
        if stable.requests + candidate.requests == 0 {
            return Vec::new();
        }
        let row = |arm: &str, version: &str, card: &ArmCard, rate: Option<f64>, ready: u32| {
            let latency = read(card.latency.as_ref());
            vec![
                arm.to_owned(),
                version.to_owned(),
                thousands(card.requests),
                rate.map(|rate| format!("{rate:.1}/s")).unwrap_or_default(),
                errors(card),
                quantile(&latency, 0.5),
                quantile(&latency, 0.95),
                ready.to_string(),
            ]
        };
        let header = ["ARM", "VERSION", "REQUESTS", "RATE", "ERRORS", "P50", "P95", "READY"];
        let rates = (self.rates.map(|rates| rates.0), self.rates.map(|rates| rates.1));
        columns(
            &header,
            vec![
                row("stable", &spec.stable, &stable, rates.0, self.live.stable_ready),
                row(
                    "candidate",
                    &spec.candidate,
                    &candidate,
                    rates.1,
                    self.live.candidate_ready,
                ),
            ],
        )
    }

    fn gates(&self) -> Vec<String> {
        let bars = self.width >= BARS_WIDTH;
        let row = |report: &GateReport| {
            let worse = report.verdict() == Verdict::Worse;
            vec![
                printable(&report.gate),
                verdict(report.verdict()).to_string(),
                evidence(report.e_worse, report.e_worse_threshold, bars),
                // Its limit may be a laxer one than the other's, so both can be reached; then "worse" decides.
                if worse {
                    "-".to_owned()
                } else {
                    evidence(report.e_good, report.e_good_threshold, bars)
                },
                printable(&report.detail),
            ]
        };
        if self.live.gates.is_empty() {
            return Vec::new();
        }
        let mut lines = columns(
            &["GATE", "VERDICT", "WORSE", "GOOD", "SEEN"],
            self.live.gates.iter().map(row).collect(),
        );
        let legend = "WORSE, GOOD: evidence in % of what rolls it back, or lets it be promoted";
        lines.push(style(legend).dim().to_string());
        lines
    }

    /// What mirrored requests say.
    fn mirrored(&self) -> Vec<String> {
        let settled = self
            .rollout
            .status
            .as_ref()
            .and_then(|status| status.settled_shadow.as_ref());
        let live = self.live.shadow.as_ref().filter(|card| card.chosen > 0);
        let Some(card) = live.or(settled) else {
            return Vec::new();
        };
        let mut lines = fact("mirrored", &mirrored(card), self.width);
        if let Some(classes) = &card.classes {
            let text = agreement(classes, &self.rollout.labels);
            lines.extend(text.into_iter().flat_map(|text| fact("agreement", &text, self.width)));
        }
        if let Some(texts) = &card.texts {
            let length = mean(texts.log_length_ratio.as_ref()).map(f64::exp);
            let grounding = mean(texts.grounding_difference.as_ref());
            let mut said = Vec::new();
            said.extend(length.map(|ratio| format!("{ratio:.2} times as long")));
            said.extend(grounding.map(|less| format!("{:+.1} points of supported claims", less * 100.0)));
            if !said.is_empty() {
                lines.extend(fact("texts", &said.join(", "), self.width));
            }
        }
        lines
    }

    fn labels(&self) -> Vec<String> {
        let Some(card) = &self.live.labels else {
            return Vec::new();
        };
        let share = |right: u64, wrong: u64| match right + wrong {
            0 => "none".to_owned(),
            all => format!("{} of {}", percent_short(right, all), thousands(all)),
        };
        let stable = share(
            card.stable_right + card.both_right + card.only_stable_right,
            card.stable_wrong + card.both_wrong + card.only_candidate_right,
        );
        let candidate = share(
            card.candidate_right + card.both_right + card.only_candidate_right,
            card.candidate_wrong + card.both_wrong + card.only_stable_right,
        );
        if (stable.as_str(), candidate.as_str()) == ("none", "none") {
            return Vec::new();
        }
        fact(
            "labels",
            &format!("right: stable {stable}, candidate {candidate}"),
            self.width,
        )
    }

    fn latest(&self) -> Vec<String> {
        let of_this = |transition: &&Transition| transition.rollout == self.rollout.number;
        let mut latest: Vec<_> = self.rollout.history.iter().rev().filter(of_this).take(LATEST).collect();
        latest.reverse();
        if latest.is_empty() {
            return Vec::new();
        }
        let row = |transition: &Transition| {
            vec![
                clock(transition),
                words::change(transition),
                printable(&transition.by),
                printable(&transition.reason),
            ]
        };
        columns(&["UTC", "CHANGE", "BY", "WHY"], latest.into_iter().map(row).collect())
    }
}

/// A name and a text, which is wrapped at words.
fn fact(name: &str, text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |line| measure_text_width(line));
        let wide = FACT + line + 1 + measure_text_width(word);
        match lines.last_mut() {
            Some(last) if line == 0 => last.push_str(word),
            Some(last) if wide <= width => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names
        .zip(lines)
        .map(|(name, line)| format!("{}{line}", style(format!("{name:<FACT$}")).dim()))
        .collect()
}

/// `load ● shadow ● 1% ● 5% ◐ 25% ○ 50% ○ 100% ○ watch ○ standby ○`
fn course(rollout: &Rollout) -> String {
    let spec = words::spec(rollout);
    let mut stages = vec![("load".to_owned(), Stage::Load)];
    stages.extend(spec.shadow.map(|_| ("shadow".to_owned(), Stage::Shadow)));
    let steps = spec.steps.iter().enumerate();
    stages.extend(steps.map(|(index, step)| (ppm(step.weight_ppm), Stage::Step(index))));
    if spec.strategy() != understudy_protocol::v1::Strategy::Shadow {
        stages.push(("100%".to_owned(), Stage::All));
        stages.push(("watch".to_owned(), Stage::Watch));
        stages.push(("standby".to_owned(), Stage::Standby));
    }
    let phase = rollout.phase();
    let here = stage(rollout);
    let shown = stages.iter().map(|(label, stage)| {
        let (mark, label) = if phase == Phase::Done || *stage < here {
            (style("●").green(), style(label.as_str()))
        } else if *stage > here {
            (style("○").dim(), style(label.as_str()).dim())
        } else {
            let mark = match phase {
                Phase::Paused => style("‖").yellow(),
                Phase::RollingBack | Phase::RolledBack | Phase::Superseded => style("✗").red(),
                _ => style("◐").cyan(),
            };
            (mark.bold(), style(label.as_str()).bold())
        };
        format!("{label} {mark}")
    });
    shown.collect::<Vec<_>>().join("  ")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Load,
    Shadow,
    Step(usize),
    All,
    Watch,
    Standby,
}

/// Where it is, or where it was left.
fn stage(rollout: &Rollout) -> Stage {
    let Some(status) = &rollout.status else {
        return Stage::Load;
    };
    let left = |phase: Phase| matches!(phase, Phase::RollingBack | Phase::RolledBack | Phase::Superseded);
    let (phase, step) = match status.phase() {
        Phase::Paused => (status.paused_phase(), status.step),
        phase if left(phase) => {
            let before = rollout
                .history
                .iter()
                .rev()
                .filter(|transition| transition.rollout == rollout.number)
                .find(|transition| transition.to() != Phase::Paused && !left(transition.to()));
            before.map_or((Phase::Loading, 0), |before| (before.to(), before.step))
        }
        phase => (phase, status.step),
    };
    match phase {
        Phase::Shadow => Stage::Shadow,
        Phase::Promoting => Stage::All,
        Phase::Watching => Stage::Watch,
        Phase::Standby | Phase::Done => Stage::Standby,
        phase if words::is_of_step(phase) => Stage::Step(usize::try_from(step).unwrap_or(usize::MAX)),
        _ => Stage::Load,
    }
}

pub(crate) fn verdict(verdict: Verdict) -> StyledObject<&'static str> {
    match verdict {
        Verdict::Good => style("good").green(),
        Verdict::Worse => style("worse").red().bold(),
        Verdict::Undecided | Verdict::Unspecified => style("undecided").dim(),
    }
}

/// `███░░░░░  38%`: how much of the evidence that decides is there. What is almost enough is not enough.
fn evidence(value: f64, threshold: f64, bars: bool) -> String {
    let part = gates::reached(value, threshold);
    let percent = format!("{:>3.0}%", (part * 100.0).floor());
    if !bars {
        return percent;
    }
    let filled = (1..=BAR).take_while(|&cells| cells as f64 <= part * BAR as f64).count();
    format!("{}{} {percent}", "█".repeat(filled), "░".repeat(BAR - filled))
}

/// Server faults, with the callers that met any.
fn errors(card: &ArmCard) -> String {
    let callers = card
        .erring_keys
        .as_ref()
        .map_or(0, |keys| scorecard_distinct(&keys.smallest_hashes));
    let mut text = percent_short(card.errors, card.requests);
    if callers > 0 {
        text += &format!(" + {}", counted(callers, "caller"));
    }
    text
}

fn scorecard_distinct(hashes: &[u64]) -> u64 {
    understudy_rollout::distinct::Distinct::from_hashes(hashes.to_vec()).estimate()
}

fn read(sketch: Option<&Sketch>) -> sketch::Sketch {
    let Some(sketch) = sketch else {
        return sketch::Sketch::default();
    };
    let buckets = sketch.buckets.iter().copied().zip(sketch.counts.iter().copied());
    sketch::Sketch::from_parts(sketch.zeros, buckets)
}

fn quantile(sketch: &sketch::Sketch, q: f64) -> String {
    match sketch.quantile(q) {
        None => String::new(),
        Some(seconds) if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1} s"),
    }
}

fn mirrored(card: &ShadowCard) -> String {
    let mut said = vec![format!("{} compared", counted(card.pairs, "pair"))];
    let mut add = |count: u64, what: &str| {
        if count > 0 {
            said.push(format!("{} {what}", thousands(count)));
        }
    };
    add(card.candidate_errors, "failed by the candidate");
    add(card.busy, "not taken as the candidate was busy");
    add(card.too_large, "too large");
    add(card.no_place, "without a place");
    let (stable, candidate) = (
        read(card.stable_latency.as_ref()),
        read(card.candidate_latency.as_ref()),
    );
    if stable.count() > 0 && candidate.count() > 0 {
        said.push(format!(
            "p95 {} against {}",
            quantile(&candidate, 0.95),
            quantile(&stable, 0.95)
        ));
    }
    said.join(", ")
}

fn agreement(classes: &ClassPairs, names: &[String]) -> Option<String> {
    let pairs = scorecard::ClassPairs {
        confusion: classes.confusion.clone(),
        ..scorecard::ClassPairs::default()
    };
    let total = pairs.pairs();
    if total == 0 {
        return None;
    }
    let mut said = vec![format!("{} the same", percent_short(pairs.agreements(), total))];
    said.extend(pairs.kappa().map(|kappa| format!("kappa {kappa:.2}")));
    said.extend(mean(classes.probability_difference.as_ref()).map(|mean| format!("mean |Δp| {mean:.3}")));
    let distance = pairs.jensen_shannon_distance();
    said.extend(distance.map(|distance| format!("Jensen-Shannon {distance:.3}")));
    if classes.noise_triples > 0 {
        let noise = percent_short(classes.only_noise, classes.noise_triples);
        said.push(format!("the stable version differs from itself in {noise}"));
    }
    let mut flips = pairs.flips();
    flips.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let flips: Vec<_> = flips
        .iter()
        .take(FLIPS)
        .map(|((from, to), count)| {
            let [from, to] = [from, to].map(|&class| {
                names
                    .get(class)
                    .map_or_else(|| format!("class {class}"), |name| printable(name))
            });
            format!("{from} → {to} {}", thousands(*count))
        })
        .collect();
    if !flips.is_empty() {
        said.push(format!("flips {}", flips.join(", ")));
    }
    Some(said.join(", "))
}

fn mean(moments: Option<&Moments>) -> Option<f64> {
    moments
        .filter(|moments| moments.count > 0)
        .map(|moments| moments.sum / moments.count as f64)
}

/// Two digits are enough to see.
fn percent_short(part: u64, all: u64) -> String {
    if all == 0 {
        return "0%".into();
    }
    percent((part as f64 / all as f64 * 1e4).round() / 1e4)
}

/// `14:03:12`
pub(crate) fn clock(transition: &Transition) -> String {
    let time = transition.at.map(|at| at.to_string()).unwrap_or_default();
    time.get(11..19).unwrap_or_default().to_owned()
}

/// Aligned by hand: the last column is as long as it is, and the page is cut, not wrapped. A column without any value is
/// left out.
fn columns(header: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| measure_text_width(cell)).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<String>| {
        let cells = cells
            .iter()
            .zip(&widths)
            .zip(header)
            .filter(|((_, width), _)| **width > 0);
        cells
            .map(|((cell, &width), name)| {
                pad_str(cell, width.max(measure_text_width(name)), Alignment::Left, None).into_owned()
            })
            .collect::<Vec<_>>()
            .join("  ")
    };
    let bold = header.iter().map(|name| style(*name).bold().to_string()).collect();
    std::iter::once(line(bold))
        .chain(rows.iter().cloned().map(line))
        .collect()
}
