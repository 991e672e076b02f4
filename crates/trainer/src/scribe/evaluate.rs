//! Measures a served scribe: does it write what the sheet says, on sheets that it has not seen?
//!
//! Each sheet is asked for once, without a second try. The scribe's own report is not asked: the texts are checked here.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail, ensure};
use comfy_table::{Table, presets};
use tonic::transport::Channel;
use understudy_grounding::{ClaimKind, FactSheet, Unit, Value, check};
use understudy_protocol::metadata;
use understudy_protocol::v1::scribe_client::ScribeClient;
use understudy_protocol::v1::{self, write_critique_response::Event};

use super::DataOptions;
use super::grammar::{Material, example};

/// Paragraphs that the grammar's critiques have.
const PARAGRAPHS: usize = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct EvaluateOptions {
    #[command(flatten)]
    data: DataOptions,
    /// A router
    #[arg(
        long,
        env = "UNDERSTUDY_ROUTER",
        default_value = "http://127.0.0.1:8470",
        value_name = "URL"
    )]
    router: String,
    /// Bearer token that the router asks for
    #[arg(long, env = "UNDERSTUDY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Model
    #[arg(long, default_value = "critic")]
    model: String,
    /// Fact sheets
    #[arg(long, default_value_t = 100)]
    sheets: u64,
    /// Which ones; training has seen none of them, whatever this is
    #[arg(long, default_value_t = 4711)]
    seed: u64,
    /// Sampling temperature; 0 takes the likeliest token [default: the service's]
    #[arg(long)]
    temperature: Option<f32>,
    /// Texts to print
    #[arg(long, default_value_t = 0)]
    show: u64,
    /// Share of figures that must be supported
    #[arg(long, default_value_t = 0.95, value_name = "SHARE")]
    at_least: f64,
}

/// Claims of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    supported: usize,
    all: usize,
}

impl Count {
    fn share(self) -> f64 {
        self.supported as f64 / self.all.max(1) as f64
    }
}

#[derive(Debug, Default)]
struct Tally {
    /// Numbers, rankings, quotations.
    counts: [Count; 3],
    texts: usize,
    without_fault: usize,
    whole: usize,
    tokens: u64,
    seconds: f64,
}

/// Measures, prints, and fails if too few figures are supported.
pub(crate) fn evaluate(options: &EvaluateOptions) -> anyhow::Result<ExitCode> {
    ensure!(options.sheets > 0, "--sheets must be at least 1");
    let material = Material::from_reviews(&super::Reviews::load(&options.data.data)?.test)?;
    let tally = tokio::runtime::Runtime::new()?.block_on(ask_all(options, &material))?;
    println!("{}", tally.table());
    let [numbers, ..] = tally.counts;
    let enough = numbers.all > 0 && numbers.share() >= options.at_least;
    if !enough {
        eprintln!("under {:.1}% of the figures are supported", 100.0 * options.at_least);
    }
    Ok(if enough { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask_all(options: &EvaluateOptions, material: &Material) -> anyhow::Result<Tally> {
    let router = &options.router;
    let channel = tonic::transport::Endpoint::from_shared(router.clone())?
        .connect()
        .await
        .with_context(|| format!("cannot reach a router at {router}: is the platform up (`understudy up`)?"))?;
    let mut client = ScribeClient::new(channel);
    let mut tally = Tally::default();
    let bar = indicatif::ProgressBar::new(options.sheets);
    for index in 0..options.sheets {
        let sheet = example(material, &mut super::random(options.seed, index))?.sheet;
        let finish = ask(options, &mut client, &sheet).await?;
        let faults = tally.add(&finish, &sheet);
        if index < options.show {
            bar.suspend(|| println!("{sheet}\n{}\n{faults}", finish.text));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(tally)
}

async fn ask(
    options: &EvaluateOptions,
    client: &mut ScribeClient<Channel>,
    sheet: &FactSheet,
) -> anyhow::Result<v1::CritiqueFinish> {
    let mut request = tonic::Request::new(v1::WriteCritiqueRequest {
        sheet: Some(proto(sheet)),
        sampling: Some(v1::Sampling {
            temperature: options.temperature,
            seed: Some(1),
            ..v1::Sampling::default()
        }),
        attempts_max: Some(1),
        unsupported: v1::UnsupportedPolicy::Mark.into(),
    });
    let model = options
        .model
        .parse()
        .context("--model has characters that no header takes")?;
    request.metadata_mut().insert(metadata::MODEL, model);
    if let Some(token) = &options.token {
        let bearer = format!("Bearer {token}")
            .parse()
            .context("--token has characters that no header takes")?;
        request.metadata_mut().insert("authorization", bearer);
    }
    let told = |status: tonic::Status| anyhow!("the scribe refused ({:?}): {}", status.code(), status.message());
    let mut stream = client.write_critique(request).await.map_err(told)?.into_inner();
    let mut written = String::new();
    while let Some(message) = stream.message().await.map_err(told)? {
        match message.event {
            Some(Event::Text(text)) => written.push_str(&text),
            // Before the policy: a mark is no part of what the model wrote.
            Some(Event::Finish(finish)) => {
                return Ok(v1::CritiqueFinish {
                    text: written,
                    ..finish
                });
            }
            Some(Event::Attempt(_)) | None => {}
        }
    }
    bail!("the stream ended before the critique did")
}

impl Tally {
    /// Counts a text and returns its faults, one a line.
    fn add(&mut self, finish: &v1::CritiqueFinish, sheet: &FactSheet) -> String {
        let report = check(&finish.text, sheet);
        for claim in &report.claims {
            let count = &mut self.counts[match claim.kind {
                ClaimKind::Number => 0,
                ClaimKind::Ranking => 1,
                ClaimKind::Quotation => 2,
            }];
            count.all += 1;
            count.supported += usize::from(claim.is_supported());
        }
        self.texts += 1;
        self.without_fault += usize::from(report.unsupported() == 0);
        self.whole += usize::from(finish.text.split("\n\n").count() == PARAGRAPHS);
        self.tokens += finish.usage.map_or(0, |usage| u64::from(usage.completion_tokens));
        self.seconds += finish.timings.map_or(0.0, |timings| timings.decode_seconds);
        report
            .complaints()
            .iter()
            .map(|complaint| format!("! {complaint}\n"))
            .collect()
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["claims", "supported", "of", "share"]);
        for (name, count) in ["figures", "rankings", "quotations"].into_iter().zip(self.counts) {
            let Count { supported, all } = count;
            table.add_row([
                name.to_owned(),
                supported.to_string(),
                all.to_string(),
                format!("{:.2}%", 100.0 * count.share()),
            ]);
        }
        let Self {
            texts,
            without_fault,
            whole,
            tokens,
            seconds,
            ..
        } = self;
        format!(
            "{table}\n{texts} texts at the first try: {without_fault} without a fault, {whole} with all {PARAGRAPHS} paragraphs; {:.0} \
             tokens each, {:.0} tokens/s",
            *tokens as f64 / *texts as f64,
            *tokens as f64 / seconds.max(1e-9)
        )
    }
}

/// The sheet as the service takes it.
fn proto(sheet: &FactSheet) -> v1::FactSheet {
    let facts = sheet.facts.iter().map(|fact| v1::Fact {
        name: fact.name.clone(),
        subject: fact.subject.clone().unwrap_or_default(),
        value: Some(value(&fact.value)),
    });
    let quotations = sheet.quotations.iter().map(|quotation| v1::Quotation {
        text: quotation.text.clone(),
        subject: quotation.subject.clone().unwrap_or_default(),
        confidence: quotation.confidence,
    });
    v1::FactSheet {
        title: sheet.title.clone(),
        items: sheet.items.clone(),
        facts: facts.collect(),
        quotations: quotations.collect(),
    }
}

fn value(value: &Value) -> v1::fact::Value {
    let digits = |decimals: usize| u32::try_from(decimals).unwrap_or(u32::MAX);
    match value {
        &Value::Number {
            value,
            unit: of,
            decimals,
        } => v1::fact::Value::Number(v1::Number {
            value,
            unit: unit(of).into(),
            decimals: digits(decimals),
        }),
        &Value::Range {
            low,
            high,
            unit: of,
            decimals,
        } => v1::fact::Value::Range(v1::Range {
            low,
            high,
            unit: unit(of).into(),
            decimals: digits(decimals),
        }),
        Value::Text(text) => v1::fact::Value::Text(text.clone()),
        Value::Words(words) => v1::fact::Value::Words(v1::Words { words: words.clone() }),
    }
}

fn unit(unit: Unit) -> v1::Unit {
    match unit {
        Unit::None => v1::Unit::Unspecified,
        Unit::Percent => v1::Unit::Percent,
        Unit::PercentagePoints => v1::Unit::PercentagePoints,
        Unit::Items => v1::Unit::Items,
        Unit::Words => v1::Unit::Words,
    }
}
