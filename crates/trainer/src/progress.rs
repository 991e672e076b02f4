//! Progress of a run: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(15);
/// How fast the shown loss forgets.
const SMOOTHING: f64 = 0.98;

/// What one step did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepReport {
    pub(crate) step: u64,
    pub(crate) loss: f64,
    pub(crate) learning_rate: f64,
    pub(crate) texts: usize,
    pub(crate) tokens: usize,
}

/// Shows steps and messages on standard error.
pub(crate) struct Progress {
    shown: bool,
    bar: Option<ProgressBar>,
    total: u64,
    loss: Option<f64>,
    texts: usize,
    tokens: usize,
    steps: u64,
    busy: Duration,
    since_line: Instant,
}

impl Progress {
    /// Of several processes one shows it.
    pub(crate) fn new(shown: bool, total: u64, done: u64) -> Self {
        let bar = (shown && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total).with_position(done);
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let (texts, tokens, steps) = (0, 0, 0);
        Self {
            shown,
            bar,
            total,
            loss: None,
            texts,
            tokens,
            steps,
            busy: Duration::ZERO,
            since_line: Instant::now(),
        }
    }

    /// Counts a step that took `duration`.
    pub(crate) fn step(&mut self, report: StepReport, duration: Duration) {
        let mean = self
            .loss
            .map_or(report.loss, |mean| SMOOTHING * mean + (1.0 - SMOOTHING) * report.loss);
        self.loss = Some(mean);
        self.texts += report.texts;
        self.tokens += report.tokens;
        self.steps += 1;
        self.busy += duration;
        let due = self.since_line.elapsed() >= LINE_EVERY;
        if !self.shown || (self.bar.is_none() && !due) {
            return;
        }
        let (texts, tokens, left, steps) = (
            self.texts as f64,
            self.tokens as f64,
            (self.total - report.step) as f64,
            self.steps as f64,
        );
        let seconds = self.busy.as_secs_f64().max(1e-9);
        let eta = Duration::from_secs_f64(left * seconds / steps);
        let message = format!(
            "loss {mean:.4}  rate {:.1e}  {:.1} texts/s  {:.0} tokens/s  {} left",
            report.learning_rate,
            texts / seconds,
            tokens / seconds,
            indicatif::HumanDuration(eta)
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(report.step);
                bar.set_message(message);
            }
            None => {
                eprintln!("step {}/{}  {message}", report.step, self.total);
                self.since_line = Instant::now();
            }
        }
    }

    /// A line above the bar.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None if self.shown => eprintln!("{line}"),
            None => {}
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
