//! `runs`: lists, shows and compares tracked runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure};
use comfy_table::{Table, presets};
use prost_types::Timestamp;

use super::record::{self, Run, Status};
use crate::files;
use crate::report::plot::{Lines, Series};
use crate::report::{Page, Section};

/// What `runs` is told.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the tracked runs, the latest first
    List(ListOptions),
    /// Show one run: parameters, data, versions, metrics
    Show(ShowOptions),
    /// Put runs side by side: the parameters that differ, and every metric
    Compare(CompareOptions),
}

/// Options of `runs list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    place: Place,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Options of `runs show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowOptions {
    /// The run: its id or the beginning of it, its name (the latest of that name), or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    run: String,
    #[command(flatten)]
    place: Place,
    /// Print JSON, with every value of every metric
    #[arg(long)]
    json: bool,
}

/// Options of `runs compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareOptions {
    /// Two or more runs: their ids or the beginnings of them, or names
    #[arg(value_name = "RUN", num_args = 2.., required = true)]
    wanted: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Write an HTML report with the curves of every metric
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Folder in which runs are tracked
    #[arg(long, env = "UNDERSTUDY_RUNS", default_value = "runs", value_name = "FOLDER")]
    runs: PathBuf,
}

/// Runs the command and returns what it prints.
pub(crate) fn run(command: &Command) -> anyhow::Result<String> {
    match command {
        Command::List(options) => list(options),
        Command::Show(options) => {
            let run = find(&options.place.runs, &options.run)?;
            if options.json {
                Ok(serde_json::to_string_pretty(&run)?)
            } else {
                Ok(show(&run))
            }
        }
        Command::Compare(options) => compare(options),
    }
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let (found, unreadable) = record::all(&options.place.runs)?;
    for reason in unreadable {
        eprintln!("warning: {reason}");
    }
    if options.json {
        let records: Vec<_> = found
            .iter()
            .map(|run| serde_json::json!({ "run": run.record, "died": run.died, "last": last_values(run) }))
            .collect();
        return Ok(serde_json::to_string_pretty(&records)?);
    }
    if found.is_empty() {
        return Ok(format!("no runs in {}", options.place.runs.display()));
    }
    let mut table = new_table(["run", "command", "status", "steps", "took", "last values"]);
    for run in &found {
        let values: Vec<String> = last_values(run)
            .iter()
            .filter(|(name, _)| HEADLINES.contains(&name.as_str()))
            .map(|(name, value)| format!("{name} {}", number(*value)))
            .collect();
        table.add_row([
            run.record.id.clone(),
            run.record.command.clone(),
            run.status().to_owned(),
            steps(run).to_string(),
            took(run),
            values.join("\n"),
        ]);
    }
    Ok(table.to_string())
}

/// Metrics worth a place in the list.
const HEADLINES: [&str; 4] = ["train/loss", "validation/accuracy", "validation/f1", "validation/loss"];

fn find(runs: &Path, wanted: &str) -> anyhow::Result<Run> {
    let (mut found, _) = record::all(runs)?;
    ensure!(
        !found.is_empty(),
        "no runs in {}: name their folder with --runs",
        runs.display()
    );
    let exact = |run: &Run| run.record.id == wanted || run.record.name == wanted || wanted == "last";
    if let Some(at) = found.iter().position(exact) {
        return Ok(found.swap_remove(at));
    }
    let mut begun: Vec<Run> = found
        .into_iter()
        .filter(|run| run.record.id.starts_with(wanted))
        .collect();
    match (begun.pop(), begun.len()) {
        (None, _) => bail!(
            "no run {wanted:?} in {}: see `understudy-trainer runs list`",
            runs.display()
        ),
        (Some(run), 0) => Ok(run),
        (Some(_), others) => bail!("{} runs begin with {wanted:?}: say more of the id", others + 1),
    }
}

fn show(run: &Run) -> String {
    let record = &run.record;
    let mut text = String::new();
    let _ = writeln!(text, "{}: {}, {}", record.id, record.command, run.status());
    let mut facts = new_table(["", ""]);
    facts.set_header(Vec::<String>::new());
    let ended = record.ended.as_deref().unwrap_or("–");
    facts.add_row(["started", &record.started]);
    facts.add_row(["ended", ended]);
    facts.add_row(["took", &took(run)]);
    facts.add_row(["output", &record.output.display().to_string()]);
    facts.add_row(["software", &record.software]);
    if let Some(code) = &record.code {
        facts.add_row(["code", code]);
    }
    if let Some(id) = &record.mlflow_run {
        facts.add_row(["MLflow run", id]);
    }
    if let Some(error) = &record.error {
        facts.add_row(["error", error]);
    }
    for (file, sha256) in &record.data_sha256 {
        facts.add_row([
            format!("data {file}"),
            format!("sha256 {}…", sha256.get(..16).unwrap_or(sha256)),
        ]);
    }
    let _ = writeln!(text, "{facts}");
    if !record.parameters.is_empty() {
        let mut parameters = new_table(["parameter", "value"]);
        for (name, value) in &record.parameters {
            parameters.add_row([name, value]);
        }
        let _ = writeln!(text, "{parameters}");
    }
    let mut metrics = new_table([
        "metric", "values", "first", "last", "lowest", "at step", "highest", "at step",
    ]);
    for (name, series) in &run.series {
        let Some(summary) = Extremes::of(series) else { continue };
        metrics.add_row([
            name.clone(),
            series.len().to_string(),
            number(summary.first),
            number(summary.last),
            number(summary.lowest.1),
            summary.lowest.0.to_string(),
            number(summary.highest.1),
            summary.highest.0.to_string(),
        ]);
    }
    let _ = write!(text, "{metrics}");
    text
}

struct Extremes {
    first: f64,
    last: f64,
    lowest: (u64, f64),
    highest: (u64, f64),
}

impl Extremes {
    fn of(series: &[(u64, f64)]) -> Option<Self> {
        let pick = |sign: f64| {
            series
                .iter()
                .copied()
                .min_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)))
        };
        Some(Self {
            first: series.first()?.1,
            last: series.last()?.1,
            lowest: pick(1.0)?,
            highest: pick(-1.0)?,
        })
    }
}

/// Parameters that differ, by name: one value for each run.
fn differing(runs: &[Run]) -> Vec<(String, Vec<String>)> {
    let values: Vec<BTreeMap<String, String>> = runs
        .iter()
        .map(|run| {
            let record = &run.record;
            let mut all = record.parameters.clone();
            all.insert("command".to_owned(), record.command.clone());
            all.insert("software".to_owned(), record.software.clone());
            all.insert("code".to_owned(), record.code.clone().unwrap_or_default());
            for (file, sha256) in &record.data_sha256 {
                all.insert(format!("data {file}"), sha256.get(..12).unwrap_or(sha256).to_owned());
            }
            all
        })
        .collect();
    let names: BTreeSet<&String> = values.iter().flat_map(BTreeMap::keys).collect();
    names
        .into_iter()
        .map(|name| {
            let row: Vec<String> = values
                .iter()
                .map(|values| values.get(name).cloned().unwrap_or_else(|| "–".to_owned()))
                .collect();
            (name.clone(), row)
        })
        .filter(|(_, row)| row.windows(2).any(|pair| pair[0] != pair[1]))
        .collect()
}

/// Metrics by name: the last value of each run, and the best one by step.
fn metrics(runs: &[Run]) -> Vec<(String, Vec<Option<Extremes>>)> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.series.keys()).collect();
    names
        .into_iter()
        .map(|name| {
            let row = runs
                .iter()
                .map(|run| run.series.get(name).and_then(|series| Extremes::of(series)));
            (name.clone(), row.collect())
        })
        .collect()
}

fn compare(options: &CompareOptions) -> anyhow::Result<String> {
    let runs: Vec<Run> = options
        .wanted
        .iter()
        .map(|wanted| find(&options.place.runs, wanted))
        .collect::<anyhow::Result<_>>()?;
    let (differing, metrics) = (differing(&runs), metrics(&runs));
    let headers: Vec<String> = runs.iter().map(|run| run.record.id.clone()).collect();
    let parameter_rows: Vec<Vec<String>> = differing
        .iter()
        .map(|(name, row)| std::iter::once(name.clone()).chain(row.iter().cloned()).collect())
        .collect();
    let metric_rows: Vec<Vec<String>> = metrics
        .iter()
        .map(|(name, row)| {
            let cells = row.iter().map(|extremes| match extremes {
                None => "–".to_owned(),
                Some(Extremes {
                    last, lowest, highest, ..
                }) => format!("{} ({} to {})", number(*last), number(lowest.1), number(highest.1)),
            });
            std::iter::once(name.clone()).chain(cells).collect()
        })
        .collect();
    if let Some(path) = &options.report {
        let page = page(&runs, &headers, &parameter_rows, &metric_rows)?;
        files::write_whole(path, page.as_bytes())?;
        eprintln!("wrote {}", path.display());
    }
    if options.json {
        let value = serde_json::json!({
            "runs": runs,
            "differing": differing.into_iter().collect::<BTreeMap<_, _>>(),
        });
        return Ok(serde_json::to_string_pretty(&value)?);
    }
    let with = |first: &str| {
        std::iter::once(first.to_owned())
            .chain(headers.iter().cloned())
            .collect::<Vec<_>>()
    };
    let mut text = String::new();
    if parameter_rows.is_empty() {
        text.push_str("the runs have the same parameters, data and code\n");
    } else {
        let mut table = new_table(with("differs"));
        table.add_rows(parameter_rows);
        let _ = writeln!(text, "{table}");
    }
    let mut table = new_table(with("last (lowest to highest)"));
    table.add_rows(metric_rows);
    let _ = write!(text, "{table}");
    Ok(text)
}

fn page(
    runs: &[Run],
    headers: &[String],
    parameters: &[Vec<String>],
    metrics: &[Vec<String>],
) -> anyhow::Result<String> {
    let titled = |first: &str| {
        std::iter::once(first)
            .chain(headers.iter().map(String::as_str))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut page = Page::new("Runs", "Comparison of training runs", &headers.join(" · "));
    let mut section = Section::new("Parameters that differ");
    if parameters.is_empty() {
        section.text("The runs have the same parameters, data and code.");
    } else {
        section.table(&titled("parameter"), parameters);
    }
    page.section(section);
    let mut section = Section::new("Metrics");
    section.text("The last value, with the lowest and the highest in brackets.");
    section.table(&titled("metric"), metrics);
    page.section(section);
    let mut section = Section::new("Curves");
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.series.keys()).collect();
    for name in names {
        let series: Vec<Series> = runs
            .iter()
            .filter_map(|run| {
                let points = run.series.get(name)?.iter();
                Some(Series {
                    name: run.record.id.clone(),
                    points: points.map(|&(step, value)| (step as f64, value)).collect(),
                })
            })
            .collect();
        // One point is a number, which the table has.
        if series.iter().any(|series| series.points.len() > 1) {
            section.figure(
                name,
                Lines {
                    x: "step",
                    y: name,
                    series: &series,
                    ..Lines::default()
                }
                .svg()?,
            );
        }
    }
    page.section(section);
    Ok(page.html())
}

fn last_values(run: &Run) -> BTreeMap<String, f64> {
    let last = |(name, series): (&String, &Vec<(u64, f64)>)| Some((name.clone(), series.last()?.1));
    run.series.iter().filter_map(last).collect()
}

fn steps(run: &Run) -> u64 {
    let last = run.series.values().filter_map(|series| series.last());
    last.map(|&(step, _)| step).max().unwrap_or(0)
}

/// From the start to the end, to now, or to the last sign of life.
fn took(run: &Run) -> String {
    let parse = |text: &str| {
        text.parse::<Timestamp>()
            .ok()
            .and_then(|at| SystemTime::try_from(at).ok())
    };
    let end = match (&run.record.ended, run.record.status, run.died) {
        (Some(ended), ..) => parse(ended),
        (None, Status::Running, false) => Some(SystemTime::now()),
        (None, ..) => run.measured_last.map(|at| UNIX_EPOCH + Duration::from_millis(at)),
    };
    let took = parse(&run.record.started).and_then(|start| end?.duration_since(start).ok());
    took.map_or("–".to_owned(), |took| {
        indicatif::FormattedDuration(Duration::from_secs(took.as_secs())).to_string()
    })
}

/// Four significant digits, without an exponent where it reads well without.
fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-3..1e5).contains(&size) {
        let decimals = if size >= 100.0 { 1 } else { 4 };
        format!("{value:.decimals$}")
    } else {
        format!("{value:.3e}")
    }
}

fn new_table<H: Into<String>>(header: impl IntoIterator<Item = H>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header.into_iter().map(Into::into).collect::<Vec<String>>());
    table
}
