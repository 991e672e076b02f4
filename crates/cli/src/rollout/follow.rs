//! Follows a rollout until it ends, over broken connections, and tells changes.

use std::time::{Duration, Instant, SystemTime};

use anyhow::bail;
use tonic::{Code, Status, Streaming};
use understudy_protocol::v1::{
    GateReport, Live, Rollout, Strategy, Transition, Verdict, WatchRolloutRequest, WatchRolloutResponse,
};

use super::{
    picture::{clock, verdict},
    words::{self, Outcome, Until},
};
use crate::{
    output::{Output, duration, json_value, printable},
    problem::{Explain as _, sentence},
    router::Router,
};

/// How long a router may be away, which restarts.
const AWAY_MAX: Duration = Duration::from_secs(60);
const BACKOFF: Duration = Duration::from_millis(500);

/// A model's rollout as a router tells it, newer and newer.
pub(super) struct Follow<'a> {
    router: &'a Router,
    model: String,
    /// Older ones are not told: a router may not know yet of the one that was just started.
    number: u64,
    stream: Option<Streaming<WatchRolloutResponse>>,
    told_at: Instant,
    /// What was told last cannot change any more.
    is_over: bool,
}

impl<'a> Follow<'a> {
    pub(super) fn new(router: &'a Router, model: &str, number: u64) -> Self {
        Self {
            router,
            model: model.to_owned(),
            number,
            stream: None,
            told_at: Instant::now(),
            is_over: false,
        }
    }

    /// The next picture; `None` once there are no more.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<(Rollout, Live)>> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    let request = WatchRolloutRequest {
                        model: self.model.clone(),
                    };
                    match self.router.rollouts().watch_rollout(request).await {
                        Ok(answer) => self.stream.insert(answer.into_inner()),
                        Err(status) => {
                            self.wait(&status).await?;
                            continue;
                        }
                    }
                }
            };
            match stream.message().await {
                Ok(Some(WatchRolloutResponse {
                    rollout: Some(rollout),
                    live,
                })) if rollout.number >= self.number => {
                    self.told_at = Instant::now();
                    self.is_over = rollout.is_over();
                    return Ok(Some((rollout, live.unwrap_or_default())));
                }
                Ok(Some(_)) => {}
                Ok(None) if self.is_over => return Ok(None),
                // A router that shuts down ends its streams well.
                Ok(None) => {
                    self.stream = None;
                    self.wait(&Status::unavailable("the router ended the watch")).await?;
                }
                Err(status) => {
                    self.stream = None;
                    self.wait(&status).await?;
                }
            }
        }
    }

    /// Waits for the next attempt.
    async fn wait(&self, status: &Status) -> anyhow::Result<()> {
        let passes = matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::ResourceExhausted
        );
        if !passes || self.told_at.elapsed() > AWAY_MAX {
            bail!(sentence(status));
        }
        tokio::time::sleep(BACKOFF).await;
        Ok(())
    }
}

/// What is new since the last picture.
#[derive(Debug, Default)]
pub(super) struct Changes {
    last: Option<Transition>,
    verdicts: Vec<(String, Verdict)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Transition(Transition),
    Verdict(GateReport),
}

impl Changes {
    /// What this rollout did until now is not new.
    pub(super) fn since(rollout: &Rollout) -> Self {
        Self {
            last: rollout.history.last().cloned(),
            verdicts: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, rollout: &Rollout, live: &Live) -> Vec<Change> {
        let known = rollout
            .history
            .iter()
            .rposition(|told| Some(told) == self.last.as_ref());
        let new = known.map_or(0, |known| known + 1);
        let mut changes: Vec<_> = rollout.history[new..].iter().cloned().map(Change::Transition).collect();
        if let Some(last) = rollout.history.last() {
            self.last = Some(last.clone());
        }
        for report in &live.gates {
            let verdict = report.verdict();
            let is_new = match self.verdicts.iter_mut().find(|(gate, _)| *gate == report.gate) {
                // A verdict near its limit comes and goes: that "good" is open again is no news, and not that it came back.
                Some((_, Verdict::Good)) if verdict != Verdict::Worse => false,
                Some((_, told)) => std::mem::replace(told, verdict) != verdict,
                None => {
                    self.verdicts.push((report.gate.clone(), verdict));
                    // That nothing is known yet is no news.
                    !matches!(verdict, Verdict::Undecided | Verdict::Unspecified)
                }
            };
            if is_new {
                changes.push(Change::Verdict(report.clone()));
            }
        }
        changes
    }
}

impl Change {
    /// `14:03:12  baking → judging at 5%: held long enough (controller r1)`
    pub(super) fn line(&self, now: SystemTime) -> String {
        match self {
            Self::Transition(transition) => {
                let mut line = format!("{}  {}", clock(transition), words::change(transition));
                if !transition.reason.is_empty() {
                    line += &format!(": {}", printable(&transition.reason));
                }
                format!("{line} ({})", printable(&transition.by))
            }
            Self::Verdict(report) => {
                let now = Transition {
                    at: Some(now.into()),
                    ..Transition::default()
                };
                format!(
                    "{}  {}: {}: {}",
                    clock(&now),
                    printable(&report.gate),
                    verdict(report.verdict()),
                    printable(&report.detail)
                )
            }
        }
    }

    fn value(&self) -> anyhow::Result<serde_json::Value> {
        Ok(match self {
            Self::Transition(transition) => serde_json::json!({ "transition": json_value(transition)? }),
            Self::Verdict(report) => serde_json::json!({ "gate": json_value(report)? }),
        })
    }
}

/// Where a follower tells changes: `watch` in a pipe on standard output, `--wait` on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    Answer,
    Remark,
}

/// How a wait ended.
pub(super) struct Ended {
    /// `None`: the time was over before.
    pub(super) outcome: Option<Outcome>,
    pub(super) rollout: Rollout,
    pub(super) live: Live,
}

impl Ended {
    pub(super) fn exit_code(&self) -> u8 {
        self.outcome.map_or(words::ENDED_BEFORE, Outcome::exit_code)
    }

    /// What the gates said, if nothing was promoted by it.
    pub(super) fn verdicts(&self) -> Option<String> {
        let is_shadow = words::spec(&self.rollout).strategy() == Strategy::Shadow;
        if !is_shadow || self.outcome != Some(Outcome::Promoted) || self.live.gates.is_empty() {
            return None;
        }
        let said = |report: &GateReport| {
            let (gate, detail) = (printable(&report.gate), printable(&report.detail));
            format!("{gate}: {} ({detail})", verdict(report.verdict()))
        };
        let reports: Vec<_> = self.live.gates.iter().map(said).collect();
        Some(format!(
            "Compared only, nothing was promoted. The gates said\n  {}",
            reports.join("\n  ")
        ))
    }
}

/// Waits for a rollout's outcome.
pub(super) struct Wait {
    pub(super) until: Until,
    pub(super) timeout: Option<Duration>,
    pub(super) tell: Tell,
}

impl Wait {
    /// # Errors
    /// If the router is away for too long.
    pub(super) async fn run(
        &self,
        mut follow: Follow<'_>,
        mut changes: Option<Changes>,
        output: &Output,
    ) -> anyhow::Result<Ended> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let spinner = (self.tell == Tell::Remark).then(|| output.spinner("waiting for the rollout"));
        let mut told: Option<(Rollout, Live)> = None;
        let result = loop {
            let next = match deadline {
                Some(deadline) => match tokio::time::timeout_at(deadline.into(), follow.next()).await {
                    Ok(next) => next,
                    Err(_) => break self.too_late(&follow.model, told, output),
                },
                None => follow.next().await,
            };
            let (rollout, live) = match next {
                Ok(Some(next)) => next,
                Ok(None) => break Err(anyhow::anyhow!("the rollout has ended, but its end was not told")),
                Err(error) => break Err(error),
            };
            if told.is_none() && (self.tell, output.is_json()) == (Tell::Answer, false) {
                output.line(words::sentence(&rollout))?;
            }
            let changes = changes.get_or_insert_with(|| Changes::since(&rollout));
            for change in changes.take(&rollout, &live) {
                match (self.tell, output.is_json()) {
                    (Tell::Answer, true) => output.compact(&change.value()?)?,
                    (Tell::Answer, false) => output.line(change.line(SystemTime::now()))?,
                    (Tell::Remark, true) => {}
                    (Tell::Remark, false) => output.remark(change.line(SystemTime::now())),
                }
            }
            if let Some(spinner) = &spinner {
                spinner.set_message(format!(
                    "{}, waits for {}",
                    words::state(&rollout),
                    printable(&live.waiting_for)
                ));
            }
            let outcome = if rollout.number > follow.number && follow.number > 0 {
                Some(Outcome::Superseded)
            } else {
                Outcome::of(&rollout, self.until)
            };
            if outcome.is_some() {
                break Ok(Ended { outcome, rollout, live });
            }
            told = Some((rollout, live));
        };
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        result
    }

    /// # Errors
    /// If nothing was told until then.
    fn too_late(&self, model: &str, told: Option<(Rollout, Live)>, output: &Output) -> anyhow::Result<Ended> {
        let waited = duration(self.timeout.unwrap_or_default());
        let said = format!(
            "after {waited} the rollout has not ended; it goes on: `understudy rollout status {model}` shows it, \
             `understudy rollout abort {model}` ends it"
        );
        let Some((rollout, live)) = told else { bail!(said) };
        output.warning(said);
        Ok(Ended {
            outcome: None,
            rollout,
            live,
        })
    }
}

/// The rollout with what is known of it now.
pub(super) async fn get(router: &Router, model: &str) -> anyhow::Result<(Rollout, Live)> {
    let request = understudy_protocol::v1::GetRolloutRequest { model: model.into() };
    let answer = router
        .rollouts()
        .get_rollout(crate::router::admin(request))
        .await
        .explain()?;
    let Some(rollout) = answer.rollout else {
        bail!("{model} had no rollout yet: start one with `understudy rollout start {model} VERSION`");
    };
    Ok((rollout, answer.live.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_that_comes_and_goes_is_told_once() {
        let mut changes = Changes::default();
        let mut told = |verdict: Verdict| {
            let report = GateReport {
                gate: "confidence".into(),
                verdict: verdict.into(),
                ..GateReport::default()
            };
            let live = Live {
                gates: vec![report],
                ..Live::default()
            };
            changes.take(&Rollout::default(), &live).len()
        };
        use Verdict::{Good, Undecided, Worse};
        let course = [Undecided, Good, Undecided, Good, Worse, Undecided, Good];
        assert_eq!(course.map(&mut told), [0, 1, 0, 0, 1, 1, 1]);
    }
}
