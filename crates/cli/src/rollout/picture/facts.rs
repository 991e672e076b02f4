//! Where a rollout is, what it waits for and what is ahead.

use std::time::{Duration, SystemTime};

use console::style;
use understudy_protocol::v1::{ArmCard, Phase};

use super::View;
use crate::{
    output::{counted, printable},
    rollout::{
        forecast::{self, Forecast},
        words::{self, ppm, span},
    },
};

/// A router writes a rollout's clock at least this often while time passes.
const SINCE_MAX: Duration = Duration::from_secs(6);

impl View<'_> {
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let (rollout, live) = (self.rollout, self.live);
        let mut facts = vec![("phase", self.phase())];
        if let Some(reason) = rollout.status.as_ref().map(|status| printable(&status.reason))
            && !reason.is_empty()
        {
            facts.push(("because", reason));
        }
        if rollout.is_over() {
            return facts;
        }
        facts.push(("weight", self.weight()));
        if live.aborted_locally {
            let aborted =
                "aborted on this router alone: it gives the candidate nothing, until the registry has a newer route";
            facts.push(("here", style(aborted).red().to_string()));
        }
        if !live.waiting_for.is_empty() {
            facts.push(("waits for", self.waits_for()));
        }
        if let Some(command) = self.command() {
            facts.push(("command", command));
        }
        let forecast = self.forecast();
        facts.extend(forecast.then().map(|then| ("then", then)));
        facts.extend(forecast.left().map(|left| ("time left", left)));
        facts.extend(forecast.deadline().map(|deadline| ("deadline", deadline)));
        let leader = match live.leader.as_str() {
            "" => style("none: nothing goes on until a router is elected")
                .yellow()
                .to_string(),
            name => printable(name),
        };
        facts.push(("leader", leader));
        facts
    }

    fn weight(&self) -> String {
        let (rollout, live) = (self.rollout, self.live);
        let mut weight = format!("{} wanted", ppm(words::wanted_ppm(rollout)));
        let slice = live.slice.clone().unwrap_or_default();
        let requests = |card: &Option<ArmCard>| card.as_ref().map_or(0, |card| card.requests);
        let total = requests(&slice.stable) + requests(&slice.candidate);
        if total > 0 {
            let actual = requests(&slice.candidate) as f64 / total as f64;
            weight += &format!(", {:.2}% actual of {}", actual * 100.0, counted(total, "request"));
        }
        if live.routers > 0 {
            weight += &format!(
                " · {} of {} have it",
                live.routers_current,
                counted(live.routers.into(), "router")
            );
        }
        weight
    }

    /// The phase has the clock already.
    fn waits_for(&self) -> String {
        let what = printable(&self.live.waiting_for);
        match what.split_once(": ") {
            Some((clock, _)) if self.whole().is_some() && clock.starts_with("the ") => clock.to_owned(),
            _ => what,
        }
    }

    /// What an operator types if it waits for one.
    fn command(&self) -> Option<String> {
        let model = &self.rollout.model;
        if self.rollout.phase() == Phase::Paused {
            return Some(format!("understudy rollout resume {model}, or abort {model}"));
        }
        words::waits_for_promote(self.rollout).then(|| format!("understudy rollout promote {model}"))
    }

    fn forecast(&self) -> Forecast<'_> {
        let watched = self.rates.map(|(stable, candidate)| stable + candidate);
        Forecast {
            rollout: self.rollout,
            live: self.live,
            rate: watched.or_else(|| forecast::rate(self.rollout, self.live, self.now)),
            elapsed: self.elapsed(),
        }
    }

    /// Time in this phase.
    fn elapsed(&self) -> Duration {
        let Some(status) = &self.rollout.status else {
            return Duration::ZERO;
        };
        let stands = status.phase() == Phase::Paused || self.rollout.is_over() || self.live.leader.is_empty();
        let since = if stands {
            Duration::ZERO
        } else {
            self.since.min(SINCE_MAX)
        };
        words::time(status.elapsed) + since
    }

    /// How long this phase takes, if it takes a time.
    fn whole(&self) -> Option<Duration> {
        let spec = words::spec(self.rollout);
        let status = self.rollout.status.as_ref()?;
        let step = usize::try_from(status.step)
            .ok()
            .and_then(|index| spec.steps.get(index));
        let whole = match status.phase() {
            Phase::Shadow => spec.shadow.map(|shadow| shadow.hold)?,
            Phase::Baking => step.map(|step| step.hold)?,
            Phase::Watching => spec.watch,
            Phase::Standby => spec.standby,
            _ => return None,
        };
        Some(words::time(whole))
    }

    fn phase(&self) -> String {
        let rollout = self.rollout;
        let state = words::state(rollout);
        match rollout.phase() {
            Phase::Unspecified | Phase::Done | Phase::RolledBack | Phase::Superseded => state,
            Phase::Paused => match self.paused_for() {
                Some(paused) => format!("{state}, for {}", span(paused)),
                None => state,
            },
            _ => match self.whole() {
                Some(whole) => format!("{state}, {} of {}", span(self.elapsed().min(whole)), span(whole)),
                None => format!("{state} for {}", span(self.elapsed())),
            },
        }
    }

    /// The rollout's own clock stands while it is paused.
    fn paused_for(&self) -> Option<Duration> {
        let paused = self.rollout.history.last().filter(|last| last.to() == Phase::Paused)?;
        self.now.duration_since(SystemTime::try_from(paused.at?).ok()?).ok()
    }
}
