//! What a rollout shall do: defaults, over them the file, over it the flags.
//!
//! The file's keys are the message's, but units are in the values: `weight: 5%` is `weight_ppm: 50000`. Everything is
//! filled in and checked here with the rules that the router has, so that a mistake is found before any call and is told
//! with the line that it is on; the same for what only the router can find.

mod field;
mod message;
mod node;
mod toml;
mod written;
mod yaml;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::{Args, ValueEnum};
use tonic::Status;
use tonic_types::StatusExt as _;
use understudy_protocol::v1::Webhook;
use understudy_rollout::spec::{Gates, ShadowStage, Spec, Step, Strategy};

use self::{
    field::{Field, Table, count, flag, number, part, quantile, share, text, time_or_none},
    node::{Document, Fault, file_key},
};
use crate::{problem::sentence, publish::checked_name, route::arms::weight_ppm};

/// What a rollout does. Flags override the file, the file the defaults.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What the rollout does")]
pub(crate) struct SpecOptions {
    /// File that says it, in YAML or TOML; flags override it
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// How the candidate is tried [default: canary]
    #[arg(long, value_enum)]
    strategy: Option<StrategyChoice>,
    /// Its shares of the traffic in percent, one after the other [default: 1,5,25,50]
    #[arg(long, value_delimiter = ',', value_parser = weight_ppm, value_name = "PERCENT,…")]
    steps: Vec<u32>,
    /// Shortest time of each step, and of the shadow stage [default: 60s]
    #[arg(long, value_parser = time_or_none, value_name = "TIME")]
    hold: Option<Duration>,
    /// Fewest requests of the candidate at each step [default: 100]
    #[arg(long, value_name = "N")]
    requests_min: Option<u64>,
    /// Share of the requests that are mirrored to the candidate before it answers any [default: 10%]
    #[arg(long, value_parser = weight_ppm, value_name = "PERCENT", conflicts_with = "no_shadow")]
    shadow: Option<u32>,
    /// Mirror nothing: begin with the first step
    #[arg(long)]
    no_shadow: bool,
    /// Fewest compared pairs of the shadow stage [default: 200]
    #[arg(long, value_name = "N", conflicts_with = "no_shadow")]
    pairs_min: Option<u64>,
    /// Greatest chance of rolling back a candidate that is no worse [default: 0.05]
    #[arg(long, value_parser = part, value_name = "PART")]
    alpha: Option<f64>,
    /// Greatest chance of promoting a candidate that is worse [default: 0.05]
    #[arg(long, value_parser = part, value_name = "PART")]
    beta: Option<f64>,
    /// Share of mirrored requests on which both versions must say the same [default: 75%]
    #[arg(long, value_parser = part, value_name = "PART")]
    agreement_min: Option<f64>,
    /// Promote if no gate says "worse", without proof that the candidate is good enough
    #[arg(long)]
    no_proof: bool,
    /// How long the promoted candidate is watched, and rolled back if it fails [default: 10m]
    #[arg(long, value_parser = time_or_none, value_name = "TIME")]
    watch: Option<Duration>,
    /// How long the old version stays loaded after that [default: 10m]
    #[arg(long, value_parser = time_or_none, value_name = "TIME")]
    standby: Option<Duration>,
    /// Keep the text of requests on which the versions differ, for `rollout diff`
    #[arg(long)]
    keep_text: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StrategyChoice {
    /// Steps of weight, each judged
    Canary,
    /// Both loaded, then all traffic at once
    BlueGreen,
    /// Compares mirrored requests only
    Shadow,
    /// A fixed split, judged by labels that come later
    Ab,
}

/// The flags with their file.
#[derive(Debug)]
pub(crate) struct Plan {
    options: SpecOptions,
    document: Option<Document>,
    /// Of the file.
    model: Option<String>,
    /// Of the file.
    candidate: Option<String>,
}

/// A complete spec with what the state machine does not need to know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    spec: Spec,
    webhooks: Vec<Webhook>,
    keep_text: bool,
}

const ROOT_KEYS: &[&str] = &[
    "model",
    "candidate",
    "strategy",
    "shadow",
    "steps",
    "gates",
    "progress_deadline",
    "watch",
    "standby",
    "webhooks",
    "keep_text",
];

impl SpecOptions {
    /// Reads the file, if there is one.
    pub(crate) fn open(self) -> anyhow::Result<Plan> {
        let document = self.spec.as_deref().map(Document::open).transpose()?;
        Plan::new(self, document)
    }
}

impl Plan {
    fn new(options: SpecOptions, document: Option<Document>) -> anyhow::Result<Self> {
        let mut plan = Self {
            options,
            document,
            model: None,
            candidate: None,
        };
        if let Some(document) = &plan.document {
            let names = |key| -> Result<Option<String>, Fault> {
                let root = Field::root(&document.root).table(ROOT_KEYS)?;
                root.get(key).map(|name| name.parse(checked_name)).transpose()
            };
            let model = names("model").map_err(|fault| document.explain(&fault))?;
            let candidate = names("candidate").map_err(|fault| document.explain(&fault))?;
            (plan.model, plan.candidate) = (model, candidate);
        }
        Ok(plan)
    }

    /// The model that the file names.
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The version that the file names.
    pub(crate) fn candidate(&self) -> Option<&str> {
        self.candidate.as_deref()
    }

    /// Fills in and checks everything.
    pub(crate) fn draft(&self, stable: &str, candidate: &str) -> anyhow::Result<Draft> {
        let draft = match &self.document {
            Some(document) => self
                .fill(stable, candidate, Some(document))
                .map_err(|fault| document.explain(&fault))?,
            // Without a file there is nothing that could be misread.
            None => self
                .fill(stable, candidate, None)
                .map_err(|fault| anyhow::anyhow!(fault.problem))?,
        };
        self.options.check_use(&draft.spec)?;
        match draft.spec.check() {
            Ok(()) => Ok(draft),
            Err(invalid) => Err(anyhow::anyhow!(self.say(&invalid.field, &invalid.problem))),
        }
    }

    fn fill(&self, stable: &str, candidate: &str, document: Option<&Document>) -> Result<Draft, Fault> {
        let root = match document {
            Some(document) => Some(Field::root(&document.root).table(ROOT_KEYS)?),
            None => None,
        };
        let mut strategy = Strategy::Canary;
        if let Some(root) = &root {
            root.set("strategy", &mut strategy, strategy_of)?;
        }
        if let Some(choice) = self.options.strategy {
            strategy = choice.into();
        }
        let mut draft = Draft {
            spec: Spec::new(stable, candidate, strategy),
            webhooks: Vec::new(),
            keep_text: false,
        };
        if let Some(root) = &root {
            draft.read(root)?;
        }
        self.options.apply(&mut draft);
        Ok(draft)
    }

    /// Tells what is wrong with a field by the flag or the line that set it.
    fn say(&self, field: &str, problem: &str) -> String {
        let field = field.strip_prefix("spec.").unwrap_or(field);
        let shown = field.split('.').map(file_key).collect::<Vec<_>>().join(".");
        let said = format!("{shown}: {problem}");
        if let Some(flag) = self.options.flag_of(field) {
            return format!("{flag}: {said}");
        }
        match &self.document {
            Some(document) => match document.place_of(field) {
                Some(place) => format!("{:#}", document.explain(&Fault::new(place, said))),
                None => said,
            },
            None => said,
        }
    }

    /// What the router found wrong, with the lines that say it.
    pub(crate) fn explain(&self, status: &Status) -> anyhow::Error {
        let details = status.get_details_bad_request();
        let violations = details.map(|bad| bad.field_violations).unwrap_or_default();
        if violations.is_empty() {
            return anyhow::anyhow!(sentence(status));
        }
        let said: Vec<_> = violations
            .iter()
            .map(|violation| self.say(&violation.field, &violation.description))
            .collect();
        anyhow::anyhow!(said.join("\n"))
    }
}

impl SpecOptions {
    fn apply(&self, draft: &mut Draft) {
        let spec = &mut draft.spec;
        if !self.steps.is_empty() {
            spec.steps = self.steps.iter().copied().map(Step::new).collect();
        }
        if self.no_shadow {
            spec.shadow = None;
        }
        if self.shadow.is_some() {
            spec.shadow.get_or_insert_default();
        }
        if let Some(shadow) = &mut spec.shadow {
            put(self.shadow, &mut shadow.sample_ppm);
            put(self.hold, &mut shadow.hold);
            put(self.pairs_min, &mut shadow.pairs_min);
        }
        for step in &mut spec.steps {
            put(self.hold, &mut step.hold);
            put(self.requests_min, &mut step.requests_min);
        }
        put(self.alpha, &mut spec.gates.alpha);
        put(self.beta, &mut spec.gates.beta);
        if let Some(share) = self.agreement_min {
            spec.gates.agreement.get_or_insert_default().agreement_min = share;
        }
        spec.gates.proof &= !self.no_proof;
        put(self.watch, &mut spec.watch);
        put(self.standby, &mut spec.standby);
        draft.keep_text |= self.keep_text;
    }

    /// Flags that would do nothing.
    fn check_use(&self, spec: &Spec) -> anyhow::Result<()> {
        let strategy = StrategyChoice::of(spec.strategy);
        ensure!(
            self.hold.is_none() || spec.shadow.is_some() || !spec.steps.is_empty(),
            "--hold: a rollout of strategy {strategy} without a shadow stage has nothing to hold: leave it out, or add --shadow 10"
        );
        ensure!(
            self.requests_min.is_none() || !spec.steps.is_empty(),
            "--requests-min: a rollout of strategy {strategy} has no steps that count requests: leave it out"
        );
        ensure!(
            self.pairs_min.is_none() || spec.shadow.is_some(),
            "--pairs-min: this rollout has no shadow stage: add --shadow 10, or leave it out"
        );
        Ok(())
    }

    /// The flag that set this field of the message.
    fn flag_of(&self, field: &str) -> Option<&'static str> {
        let in_steps = field.starts_with("steps");
        let flags = [
            (self.hold.is_some(), field.ends_with("hold"), "--hold"),
            (
                self.requests_min.is_some(),
                field.ends_with("requests_min"),
                "--requests-min",
            ),
            (!self.steps.is_empty(), in_steps, "--steps"),
            (self.no_shadow, field == "shadow", "--no-shadow"),
            (self.shadow.is_some(), field == "shadow.sample_ppm", "--shadow"),
            (self.pairs_min.is_some(), field == "shadow.pairs_min", "--pairs-min"),
            (self.strategy.is_some(), field == "strategy", "--strategy"),
            (self.alpha.is_some(), field == "gates.alpha", "--alpha"),
            (self.beta.is_some(), field == "gates.beta", "--beta"),
            (
                self.agreement_min.is_some(),
                field == "gates.agreement.agreement_min",
                "--agreement-min",
            ),
            (self.watch.is_some(), field == "watch", "--watch"),
            (self.standby.is_some(), field == "standby", "--standby"),
        ];
        flags
            .into_iter()
            .find_map(|(given, is_it, flag)| (given && is_it).then_some(flag))
    }
}

fn put<T>(given: Option<T>, slot: &mut T) {
    if let Some(given) = given {
        *slot = given;
    }
}

impl Draft {
    fn read(&mut self, root: &Table<'_>) -> Result<(), Fault> {
        let spec = &mut self.spec;
        if let Some(shadow) = root.get("shadow") {
            optional(&shadow, &mut spec.shadow, read_shadow)?;
        }
        if let Some(steps) = root.get("steps") {
            spec.steps = steps.list()?.iter().map(read_step).collect::<Result<_, _>>()?;
        }
        if let Some(gates) = root.get("gates") {
            read_gates(&gates, &mut spec.gates)?;
        }
        root.set("progress_deadline", &mut spec.progress_deadline, time_or_none)?;
        root.set("watch", &mut spec.watch, time_or_none)?;
        root.set("standby", &mut spec.standby, time_or_none)?;
        root.set("keep_text", &mut self.keep_text, flag)?;
        if let Some(webhooks) = root.get("webhooks") {
            self.webhooks = webhooks.list()?.iter().map(read_webhook).collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

/// A part that `off` leaves out.
fn optional<T: Default>(
    field: &Field<'_>,
    slot: &mut Option<T>,
    read: impl FnOnce(&Field<'_>, &mut T) -> Result<(), Fault>,
) -> Result<(), Fault> {
    if field.is_off() {
        *slot = None;
        return Ok(());
    }
    read(field, slot.get_or_insert_default())
}

fn read_shadow(field: &Field<'_>, shadow: &mut ShadowStage) -> Result<(), Fault> {
    if field.is_scalar() {
        shadow.sample_ppm = field.parse(share)?;
        return Ok(());
    }
    let table = field.table(&["sample", "noise", "hold", "pairs_min"])?;
    table.set("sample", &mut shadow.sample_ppm, share)?;
    table.set("noise", &mut shadow.noise_ppm, share)?;
    table.set("hold", &mut shadow.hold, time_or_none)?;
    table.set("pairs_min", &mut shadow.pairs_min, count)
}

fn read_step(field: &Field<'_>) -> Result<Step, Fault> {
    if field.is_scalar() {
        return field.parse(share).map(Step::new);
    }
    let table = field.table(&["weight", "hold", "requests_min", "manual"])?;
    let weight = table
        .get("weight")
        .ok_or_else(|| field.fault("needs a weight, e.g. `weight: 5%`"))?;
    let mut step = Step::new(weight.parse(share)?);
    table.set("hold", &mut step.hold, time_or_none)?;
    table.set("requests_min", &mut step.requests_min, count)?;
    table.set("manual", &mut step.manual, flag)?;
    Ok(step)
}

fn read_gates(field: &Field<'_>, gates: &mut Gates) -> Result<(), Fault> {
    let table = field.table(&[
        "alpha",
        "beta",
        "proof",
        "errors",
        "latency",
        "agreement",
        "confidence",
        "text",
        "labels",
    ])?;
    table.set("alpha", &mut gates.alpha, part)?;
    table.set("beta", &mut gates.beta, part)?;
    table.set("proof", &mut gates.proof, flag)?;
    if let Some(errors) = table.get("errors") {
        optional(&errors, &mut gates.errors, |field, gate| {
            let table = field.table(&["ratio_max", "negligible"])?;
            table.set("ratio_max", &mut gate.ratio_max, number)?;
            table.set("negligible", &mut gate.negligible, part)
        })?;
    }
    if let Some(latency) = table.get("latency") {
        optional(&latency, &mut gates.latency, |field, gate| {
            let table = field.table(&["quantiles", "increase_min", "increase_max"])?;
            if let Some(quantiles) = table.get("quantiles") {
                let quantiles = quantiles.list()?;
                gate.quantiles = quantiles.iter().map(|q| q.parse(quantile)).collect::<Result<_, _>>()?;
            }
            table.set("increase_min", &mut gate.increase_min, part)?;
            table.set("increase_max", &mut gate.increase_max, part)
        })?;
    }
    if let Some(agreement) = table.get("agreement") {
        optional(&agreement, &mut gates.agreement, |field, gate| {
            let table = field.table(&["agreement_min", "class_agreement_min"])?;
            table.set("agreement_min", &mut gate.agreement_min, part)?;
            table.set("class_agreement_min", &mut gate.class_agreement_min, part)
        })?;
    }
    if let Some(confidence) = table.get("confidence") {
        optional(&confidence, &mut gates.confidence, |field, gate| {
            field.table(&["drop_max"])?.set("drop_max", &mut gate.drop_max, part)
        })?;
    }
    if let Some(texts) = table.get("text") {
        optional(&texts, &mut gates.text, |field, gate| {
            let table = field.table(&["length_change_max", "grounding_drop_max"])?;
            table.set("length_change_max", &mut gate.length_change_max, part)?;
            table.set("grounding_drop_max", &mut gate.grounding_drop_max, part)
        })?;
    }
    if let Some(labels) = table.get("labels") {
        optional(&labels, &mut gates.labels, |field, gate| {
            field
                .table(&["labels_min"])?
                .set("labels_min", &mut gate.labels_min, count)
        })?;
    }
    Ok(())
}

fn read_webhook(field: &Field<'_>) -> Result<Webhook, Fault> {
    let table = field.table(&["url", "secret_env"])?;
    let mut webhook = Webhook::default();
    let url = table
        .get("url")
        .ok_or_else(|| field.fault("needs a url, e.g. `url: https://example.org/hook`"))?;
    webhook.url = url.parse(text)?;
    let secret = table.get("secret_env").ok_or_else(|| {
        field.fault("needs a secret_env: the environment variable of the routers that holds the secret to sign with, e.g. `secret_env: HOOK_SECRET`")
    })?;
    webhook.secret_env = secret.parse(text)?;
    Ok(webhook)
}

fn strategy_of(text: &str) -> Result<Strategy, String> {
    StrategyChoice::from_str(text, false).map(Into::into).map_err(|_| {
        let names = StrategyChoice::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value);
        let names: Vec<_> = names.map(|value| value.get_name().to_owned()).collect();
        format!("{text:?} is no strategy: choose from {}", names.join(", "))
    })
}

impl StrategyChoice {
    fn of(strategy: Strategy) -> &'static str {
        match strategy {
            Strategy::Canary => "canary",
            Strategy::BlueGreen => "blue-green",
            Strategy::Shadow => "shadow",
            Strategy::Ab => "ab",
        }
    }
}

impl From<StrategyChoice> for Strategy {
    fn from(choice: StrategyChoice) -> Self {
        match choice {
            StrategyChoice::Canary => Self::Canary,
            StrategyChoice::BlueGreen => Self::BlueGreen,
            StrategyChoice::Shadow => Self::Shadow,
            StrategyChoice::Ab => Self::Ab,
        }
    }
}
