//! A draft as a spec file: every key with its value and its meaning, also those that nobody set.

use std::{fmt::Write as _, time::Duration};

use super::{Draft, StrategyChoice};
use crate::{route::arms::ALL_PPM, table::percent};

/// Column of the comments.
const COMMENT: usize = 34;

/// Lines of YAML.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    /// `  hold: 60s      # at least`
    fn line(&mut self, depth: usize, text: &str, meaning: &str) {
        let line = format!("{}{text}", "  ".repeat(depth));
        let line = match meaning {
            "" => line,
            meaning => format!("{line:<COMMENT$}  # {meaning}"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{}", line.trim_end());
    }

    /// A gate, or that it is off.
    fn gate(&mut self, name: &str, meaning: &str, lines: Option<&[(String, &str)]>) {
        match lines {
            None => self.line(1, &format!("{name}: off"), meaning),
            Some(lines) => {
                self.line(1, &format!("{name}:"), &format!("{meaning}; `off` leaves it out"));
                for (text, meaning) in lines {
                    self.line(2, text, meaning);
                }
            }
        }
    }
}

impl Draft {
    /// YAML that `--spec` reads as the same.
    pub(crate) fn written(&self, model: &str) -> String {
        let spec = &self.spec;
        let mut page = Page::default();
        page.line(0, &format!("model: {model}"), "");
        page.line(
            0,
            &format!("candidate: {}", spec.candidate),
            &format!("the version to bring in, beside {}", spec.stable),
        );
        page.line(
            0,
            &format!("strategy: {}", StrategyChoice::of(spec.strategy)),
            "canary, blue-green, shadow or ab",
        );
        match &spec.shadow {
            None => page.line(0, "shadow: off", "copies of requests, whose answers are compared first"),
            Some(shadow) => {
                page.line(
                    0,
                    "shadow:",
                    "compares answers to copies of requests; `off` leaves it out",
                );
                page.line(
                    1,
                    &format!("sample: {}", share(shadow.sample_ppm)),
                    "of the requests are copied",
                );
                page.line(
                    1,
                    &format!("noise: {}", share(shadow.noise_ppm)),
                    "of those the stable version answers twice: its own noise",
                );
                page.line(1, &format!("hold: {}", time(shadow.hold)), "shortest time");
                page.line(1, &format!("pairs_min: {}", shadow.pairs_min), "fewest compared pairs");
            }
        }
        if !spec.steps.is_empty() {
            page.line(
                0,
                "steps:",
                "the candidate's shares of the traffic; 100% follows by itself",
            );
        }
        for (index, step) in spec.steps.iter().enumerate() {
            let meaning = |meaning: &'static str| if index == 0 { meaning } else { "" };
            page.line(1, &format!("- weight: {}", share(step.weight_ppm)), "");
            page.line(2, &format!("hold: {}", time(step.hold)), meaning("shortest time"));
            page.line(
                2,
                &format!("requests_min: {}", step.requests_min),
                meaning("fewest requests of the candidate"),
            );
            page.line(
                2,
                &format!("manual: {}", step.manual),
                meaning("true: goes on only after `understudy rollout promote`"),
            );
        }
        self.gates(&mut page);
        page.line(
            0,
            &format!("progress_deadline: {}", time(spec.progress_deadline)),
            "without progress for this long it pauses",
        );
        page.line(
            0,
            &format!("watch: {}", time(spec.watch)),
            "how long the promoted version is watched",
        );
        page.line(
            0,
            &format!("standby: {}", time(spec.standby)),
            "how long the old version stays loaded after that",
        );
        page.line(
            0,
            &format!("keep_text: {}", self.keep_text),
            "whether `rollout diff` may show texts",
        );
        if self.webhooks.is_empty() {
            page.line(
                0,
                "webhooks: []",
                "{url: …, secret_env: VARIABLE}: calls at each transition",
            );
        } else {
            page.line(0, "webhooks:", "calls at each transition, signed with the secret");
        }
        for webhook in &self.webhooks {
            page.line(1, &format!("- url: {}", quoted(&webhook.url)), "");
            page.line(2, &format!("secret_env: {}", quoted(&webhook.secret_env)), "");
        }
        page.0
    }

    fn gates(&self, page: &mut Page) {
        let gates = &self.spec.gates;
        page.line(0, "gates:", "when the candidate is worse, and when good enough");
        page.line(
            1,
            &format!("alpha: {}", gates.alpha),
            "greatest chance of rolling back one that is no worse",
        );
        page.line(
            1,
            &format!("beta: {}", gates.beta),
            "greatest chance of promoting one that is worse",
        );
        page.line(
            1,
            &format!("proof: {}", gates.proof),
            "false: promote unless a gate says worse",
        );
        let errors = gates.errors.map(|gate| {
            [
                (
                    format!("ratio_max: {}", gate.ratio_max),
                    "times the stable version's errors: never promoted",
                ),
                (
                    format!("negligible: {}", gate.negligible),
                    "share of errors below which it is good enough",
                ),
            ]
        });
        page.gate("errors", "server faults", errors.as_ref().map(<[_; 2]>::as_slice));
        let latency = gates.latency.as_ref().map(|gate| {
            let quantiles: Vec<_> = gate.quantiles.iter().map(f64::to_string).collect();
            [
                (format!("quantiles: [{}]", quantiles.join(", ")), ""),
                (
                    format!("increase_min: {}", gate.increase_min),
                    "proved to be longer by more than this part: rolled back",
                ),
                (
                    format!("increase_max: {}", gate.increase_max),
                    "proved to be longer by less than this part: good",
                ),
            ]
        });
        page.gate("latency", "time to answer", latency.as_ref().map(<[_; 3]>::as_slice));
        let agreement = gates.agreement.map(|gate| {
            [
                (
                    format!("agreement_min: {}", gate.agreement_min),
                    "least share of equal labels",
                ),
                (
                    format!("class_agreement_min: {}", gate.class_agreement_min),
                    "the same within each class",
                ),
            ]
        });
        page.gate(
            "agreement",
            "labels of mirrored requests",
            agreement.as_ref().map(<[_; 2]>::as_slice),
        );
        let confidence = gates.confidence.map(|gate| {
            [(
                format!("drop_max: {}", gate.drop_max),
                "greatest fall of the mean confidence",
            )]
        });
        page.gate(
            "confidence",
            "of classifications",
            confidence.as_ref().map(<[_; 1]>::as_slice),
        );
        let text = gates.text.map(|gate| {
            [
                (
                    format!("length_change_max: {}", gate.length_change_max),
                    "greatest change of the mean length, as a part",
                ),
                (
                    format!("grounding_drop_max: {}", gate.grounding_drop_max),
                    "greatest fall of the share of supported claims",
                ),
            ]
        });
        page.gate("text", "generated texts", text.as_ref().map(<[_; 2]>::as_slice));
        let labels = gates.labels.map(|gate| {
            [(
                format!("labels_min: {}", gate.labels_min),
                "labels that a promotion needs",
            )]
        });
        page.gate(
            "labels",
            "labels that come later",
            labels.as_ref().map(<[_; 1]>::as_slice),
        );
    }
}

/// `5%`, `0.25%`
fn share(ppm: u32) -> String {
    percent(f64::from(ppm) / f64::from(ALL_PPM))
}

/// `90s`, `10m`, `2h`, `0.5s`
fn time(time: Duration) -> String {
    match (time.as_secs(), time.subsec_nanos()) {
        (seconds @ 3600.., 0) if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        (seconds @ 120.., 0) if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{}s", time.as_secs_f64()),
    }
}

/// As JSON, which YAML holds.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
