//! `understudy rollout`: changes versions by evidence, and shows and steers it.
//!
//! A plain client of `understudy.v1.Rollouts`: every decision is the routers'. Exit codes of `start --wait`, `wait` and
//! `watch`: 0 promoted, 3 rolled back, 4 paused, 5 if the command ended before the rollout did.

mod follow;
mod forecast;
mod picture;
mod spec;
mod start;
mod steer;
mod watch;
mod words;

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::bail;
use clap::{Args, Subcommand};
use console::truncate_str;
use tonic::Code;
use understudy_protocol::v1::{ListDisagreementsRequest, ListRolloutsRequest, Rollout};

use self::{
    follow::{Follow, Tell, Wait, get},
    picture::View,
    start::StartOptions,
    words::Until,
};
use crate::{
    output::{Output, json_value, moment, printable, time},
    problem::Explain as _,
    publish::checked_name,
    router::{Router, admin},
    table::table,
};

/// For who has never seen one.
pub(crate) const EXAMPLES: &str = "\
Examples:
  understudy rollout start sentiment v2     begin; `start --help` has the strategies, steps and gates
  understudy rollout watch sentiment        see it live: q quits, p pauses, r resumes, a aborts
  understudy rollout abort sentiment        give all traffic back, now
  understudy rollout undo sentiment         the same after the promotion; of blue-green, flips back at once
  understudy rollout wait sentiment         for scripts: exits with 0 promoted, 3 rolled back, 4 paused";

/// Of a reason in a list; `status` has it in full.
const WHY_WIDTH: usize = 100;

const CODES: &str = "\
Exit codes: 0 promoted (for the strategy shadow: ended, and no gate said worse), 3 rolled back, 4 paused, 5 this command
ended before the rollout (q, a signal, --timeout), 1 anything else that went wrong.";

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    Start(Box<StartOptions>),
    /// Shows where a rollout is, what was counted, and what it waits for
    #[command(after_help = "Examples:\n  understudy rollout status\n  understudy rollout status sentiment --json")]
    Status(ModelOption),
    /// Shows it live, with keys to pause, resume and abort; into a pipe, one line for each change
    ///
    /// It ends with the rollout; in a pipe also when the rollout pauses. The rollout goes on if it ends before.
    #[command(after_help = format!(
        "Examples:\n  understudy rollout watch sentiment\n  understudy rollout watch sentiment | tee rollout.log\n\n{CODES}"
    ))]
    Watch {
        #[command(flatten)]
        model: ModelOption,
        /// When to end
        #[arg(long, value_enum, default_value_t)]
        until: Until,
    },
    /// Waits until it has ended or paused
    #[command(after_help = format!(
        "Examples:\n  understudy rollout wait sentiment --until promoted --timeout 1h && ./announce\n\n{CODES}"
    ))]
    Wait {
        #[command(flatten)]
        model: ModelOption,
        /// What to wait for
        #[arg(long, value_enum, default_value_t)]
        until: Until,
        /// How long to wait; the rollout goes on after it [default: as long as it takes]
        #[arg(long, value_parser = time, value_name = "TIME")]
        timeout: Option<Duration>,
    },
    /// Keeps the weights as they are until resumed, and mirrors nothing meanwhile
    Pause {
        #[command(flatten)]
        model: ModelOption,
        /// Why, for the history
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Goes on with a paused rollout
    Resume(ModelOption),
    /// Opens the manual gate that a rollout waits at; with --force gives the candidate everything at once, unproved
    Promote {
        #[command(flatten)]
        model: ModelOption,
        /// Go to 100% at once, whatever the gates say
        #[arg(long)]
        force: bool,
        /// Why, for the history
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Gives all traffic back to the version that served before, and ends the rollout
    ///
    /// At once and at any time until the rollout is done; while the promoted version is watched or the old one on standby, it
    /// does the same as `undo`.
    #[command(after_help = "\
Examples:
  understudy rollout abort sentiment --reason 'angry customers'
  understudy --router http://10.0.0.7:8470 rollout abort sentiment --local    with the registry down")]
    Abort {
        #[command(flatten)]
        model: ModelOption,
        /// Why, for the history
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        /// Only on the router that is asked, which needs no registry for it; do it on each router
        #[arg(long)]
        local: bool,
    },
    /// After a promotion: gives all traffic back, at once if the old version is still loaded
    ///
    /// This also flips a blue-green rollout back. Once the standby time is over, it starts a rollout of the old version.
    Undo {
        #[command(flatten)]
        model: ModelOption,
        /// Why, for the history
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Shows what happened, when, by whom and why
    History(ModelOption),
    /// Shows mirrored requests on which the versions differed
    ///
    /// Of the router that is asked. Texts are there only if the rollout was started with --keep-text.
    Diff {
        #[command(flatten)]
        model: ModelOption,
        /// How many, the newest first
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Lists the latest rollout of every model
    List,
}

#[derive(Debug, Args)]
pub(crate) struct ModelOption {
    /// Model [default: the only one with a rollout, or with a running one]
    #[arg(value_parser = checked_name)]
    model: Option<String>,
}

impl RolloutCommand {
    pub(crate) async fn run(self, router: &Router, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Start(options) => return options.run(router, output).await,
            Self::Watch { model, until } => {
                return watch::run(router, output, &model.find(router).await?, until).await;
            }
            Self::Wait { model, until, timeout } => {
                let model = model.find(router).await?;
                let wait = Wait {
                    until,
                    timeout,
                    tell: Tell::Remark,
                };
                let ended = wait.run(Follow::new(router, &model, 0), None, output).await?;
                return start::finish(output, &ended);
            }
            Self::Status(model) => status(router, output, &model.find(router).await?).await,
            Self::History(model) => history(router, output, &model.find(router).await?).await,
            Self::Diff { model, limit } => diff(router, output, model.find(router).await?, limit).await,
            Self::List => list(router, output).await,
            command => command.steer(router, output).await,
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

impl ModelOption {
    /// The model that is named or that can only be meant.
    async fn find(self, router: &Router) -> anyhow::Result<String> {
        if let Some(model) = self.model {
            return Ok(model);
        }
        let rollouts = all(router).await?;
        let running: Vec<_> = rollouts.iter().filter(|rollout| !rollout.is_over()).collect();
        match (rollouts.as_slice(), running.as_slice()) {
            ([], _) => bail!("there was no rollout yet: start one with `understudy rollout start MODEL VERSION`"),
            ([only], _) => Ok(only.model.clone()),
            (_, [only]) => Ok(only.model.clone()),
            (many, _) => {
                let names: Vec<_> = many.iter().map(|rollout| rollout.model.as_str()).collect();
                bail!("which model is meant? Name one of {}", names.join(", "))
            }
        }
    }
}

async fn all(router: &Router) -> anyhow::Result<Vec<Rollout>> {
    let answer = router
        .rollouts()
        .list_rollouts(admin(ListRolloutsRequest {}))
        .await
        .explain()?;
    Ok(answer.rollouts)
}

/// The rollouts that are not over. Other commands mention them, and do not fail if they cannot be known: of an older
/// router, or with the registry away.
pub(crate) async fn running(router: &Router) -> anyhow::Result<Vec<Rollout>> {
    match router.rollouts().list_rollouts(admin(ListRolloutsRequest {})).await {
        Err(status) if matches!(status.code(), Code::Unimplemented | Code::Unavailable) => Ok(Vec::new()),
        answer => {
            let mut rollouts = answer.explain()?.rollouts;
            rollouts.retain(|rollout| !rollout.is_over());
            Ok(rollouts)
        }
    }
}

/// Two lines for other commands.
pub(crate) fn mention(rollout: &Rollout) -> String {
    let what = if words::waits_for_promote(rollout) {
        "promote"
    } else {
        "watch"
    };
    format!(
        "rollout   {}\n          understudy rollout {what} {}",
        words::sentence(rollout),
        rollout.model
    )
}

async fn status(router: &Router, output: &Output, model: &str) -> anyhow::Result<()> {
    let (rollout, live) = get(router, model).await?;
    if output.is_json() {
        return output.message(&understudy_protocol::v1::GetRolloutResponse {
            rollout: Some(rollout),
            live: Some(live),
        });
    }
    let view = View {
        rollout: &rollout,
        live: &live,
        rates: None,
        since: Duration::ZERO,
        now: SystemTime::now(),
        width: terminal_width(),
    };
    output.raw(view.draw().as_bytes())
}

/// A pipe has no width.
fn terminal_width() -> usize {
    let terminal = console::Term::stdout();
    if terminal.is_term() {
        usize::from(terminal.size().1)
    } else {
        usize::MAX
    }
}

async fn history(router: &Router, output: &Output, model: &str) -> anyhow::Result<()> {
    let (rollout, _) = get(router, model).await?;
    if output.is_json() {
        let history = rollout.history.iter().map(json_value).collect::<Result<Vec<_>, _>>()?;
        return output.value(&history);
    }
    let mut rows = table(["AT", "ROLLOUT", "CHANGE", "BY", "WHY"]);
    for transition in &rollout.history {
        rows.add_row([
            moment(transition.at),
            transition.rollout.to_string(),
            words::change(transition),
            printable(&transition.by),
            printable(&transition.reason),
        ]);
    }
    output.line(rows.trim_fmt())
}

async fn diff(router: &Router, output: &Output, model: String, limit: u32) -> anyhow::Result<()> {
    let request = ListDisagreementsRequest { model, limit };
    let answer = router.rollouts().list_disagreements(admin(request)).await.explain()?;
    if output.is_json() {
        return output.message(&answer);
    }
    if answer.disagreements.is_empty() {
        output.remark("The versions did not differ on any mirrored request that this router keeps.");
        return Ok(());
    }
    let mut rows = table(["AT", "REQUEST", "STABLE", "CANDIDATE", "TEXT"]);
    for disagreement in &answer.disagreements {
        rows.add_row([
            moment(disagreement.at),
            printable(&disagreement.request_id),
            printable(&disagreement.stable),
            printable(&disagreement.candidate),
            printable(&disagreement.text),
        ]);
    }
    output.line(rows.trim_fmt())
}

async fn list(router: &Router, output: &Output) -> anyhow::Result<()> {
    let rollouts = all(router).await?;
    if output.is_json() {
        return output.message(&understudy_protocol::v1::ListRolloutsResponse { rollouts });
    }
    if rollouts.is_empty() {
        output.remark("There was no rollout yet. Start one:\n  understudy rollout start MODEL VERSION");
        return Ok(());
    }
    let mut rows = table(["MODEL", "ROLLOUT", "VERSIONS", "STRATEGY", "STATE", "WEIGHT", "WHY"]);
    for rollout in &rollouts {
        let spec = words::spec(rollout);
        let why = printable(rollout.status.as_ref().map_or("", |status| &status.reason));
        rows.add_row([
            rollout.model.clone(),
            rollout.number.to_string(),
            format!("{} → {}", spec.stable, spec.candidate),
            words::strategy(&spec).to_owned(),
            words::state(rollout),
            words::ppm(words::wanted_ppm(rollout)),
            truncate_str(&why, WHY_WIDTH, "…").into_owned(),
        ]);
    }
    output.line(rows.trim_fmt())
}
