//! `rollout start`: finds out which model and versions are meant, checks the spec, and begins.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use understudy_protocol::v1::{ListModelsRequest, ModelSummary, RolloutSpec, StartRolloutRequest};

use super::{
    follow::{Changes, Ended, Follow, Tell, Wait},
    forecast,
    spec::SpecOptions,
    words::{self, Until},
};
use crate::{
    output::{Output, time},
    problem::Explain as _,
    publish::checked_name,
    router::{Router, admin},
};

const EXAMPLES: &str = "\
Examples:
  understudy rollout start sentiment v2                       shadow, then 1, 5, 25, 50 and 100%
  understudy rollout start v2                                 if only one model has a route
  understudy rollout start sentiment v2 --steps 5,50 --hold 5m --no-shadow
  understudy rollout start sentiment v2 --strategy blue-green --watch 30m
  understudy rollout start sentiment v2 --spec canary.yaml --wait && echo promoted

A spec file has the same parts and more, e.g.:
  strategy: canary
  shadow: {sample: 10%, hold: 60s, pairs_min: 200}
  steps:
    - 1%
    - {weight: 25%, hold: 5m, requests_min: 1000, manual: true}
  gates: {alpha: 0.05, errors: {ratio_max: 1.5}, agreement: off}
  webhooks: [{url: 'https://example.org/hook', secret_env: HOOK_SECRET}]

TIME is a number with its unit, e.g. 30s, 10m or 1h; without a unit it is seconds. PERCENT may have its sign: 5 is 5%.
All keys of a spec file with their meaning and defaults:
  understudy rollout start sentiment v2 --dry-run

With --wait it exits with 0 if the candidate was promoted, 3 if it was rolled back, 4 if the rollout paused, 5 if the
--timeout was over before.";

/// Brings a new version into service, step by step and by evidence
///
/// The new version (the candidate) is loaded next to the one that serves. First it gets copies of requests, whose answers
/// are compared and not seen by anyone; then small and growing shares of the traffic. As soon as there is evidence that
/// it is worse, all traffic goes back; only with evidence that it is good enough, it gets everything. An elected router
/// decides, so nothing needs to go on running here.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StartOptions {
    /// Model [default: the only one with a route, or the one that the file names]
    #[arg(value_parser = checked_name)]
    model: Option<String>,
    /// Version to bring in [default: what the file names, or the newest one]
    #[arg(value_parser = checked_name)]
    version: Option<String>,
    /// End a running rollout of the model in favour of this one
    #[arg(long)]
    supersede: bool,
    /// Check everything, print the plan with every key, its value and its meaning as a spec file, and begin nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Wait until the rollout has ended
    #[arg(long)]
    wait: bool,
    /// What to wait for
    #[arg(long, value_enum, default_value_t, requires = "wait")]
    until: Until,
    /// How long to wait; the rollout goes on after it [default: as long as it takes]
    #[arg(long, value_parser = time, value_name = "TIME", requires = "wait")]
    timeout: Option<Duration>,
    // The last, as its heading holds for what follows.
    #[command(flatten)]
    spec: SpecOptions,
}

/// What a rollout is about.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    model: String,
    stable: String,
    candidate: String,
}

impl StartOptions {
    pub(crate) async fn run(self, router: &Router, output: &Output) -> anyhow::Result<ExitCode> {
        let plan = self.spec.open()?;
        let models = router
            .models()
            .list_models(admin(ListModelsRequest {}))
            .await
            .explain()?
            .models;
        let model = self.model.as_deref().or(plan.model());
        let version = self.version.as_deref();
        let names = find(&models, model, version, plan.candidate())?;
        let draft = plan.draft(&names.stable, &names.candidate)?;
        if self.dry_run {
            let written = draft.written(&names.model);
            let spec: RolloutSpec = draft.into();
            if output.is_json() {
                output.message(&spec)?;
            } else {
                output.raw(written.as_bytes())?;
                output.remark(format_args!("\n{}\nNothing was begun.", forecast::outline(&spec)));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let request = StartRolloutRequest {
            model: names.model.clone(),
            spec: Some(draft.into()),
            supersede: self.supersede,
        };
        let rollout = router
            .rollouts()
            .start_rollout(admin(request))
            .await
            .map_err(|status| plan.explain(&status))?
            .into_inner()
            .rollout
            .context("the router did not say which rollout it started: it is older than this command")?;
        if !self.wait {
            if output.is_json() {
                output.message(&rollout)?;
            } else {
                output.line(format_args!("{} begins", words::title(&rollout)))?;
                output.remark(forecast::outline(&words::spec(&rollout)));
                output.remark(format_args!(
                    "see how it goes:  understudy rollout watch {0}\nend it:           understudy rollout abort {0}",
                    rollout.model
                ));
            }
            return Ok(ExitCode::SUCCESS);
        }
        if !output.is_json() {
            output.remark(format_args!("{} begins", words::title(&rollout)));
        }
        let wait = Wait {
            until: self.until,
            timeout: self.timeout,
            tell: Tell::Remark,
        };
        let follow = Follow::new(router, &rollout.model, rollout.number);
        let ended = wait.run(follow, Some(Changes::since(&rollout)), output).await?;
        finish(output, &ended)
    }
}

/// Tells how it ended.
pub(super) fn finish(output: &Output, ended: &Ended) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.message(&ended.rollout)?;
    } else {
        output.line(words::sentence(&ended.rollout))?;
        ended.verdicts().iter().for_each(|said| output.remark(said));
    }
    Ok(ended.exit_code().into())
}

/// Completes what was typed. A single name is the version if it is no model's name.
fn find(
    models: &[ModelSummary],
    model: Option<&str>,
    version: Option<&str>,
    of_file: Option<&str>,
) -> anyhow::Result<Names> {
    let named = |name: &str| models.iter().find(|summary| summary.model == name);
    let routed: Vec<_> = models.iter().filter(|summary| summary.route.is_some()).collect();
    let only = || match routed.as_slice() {
        [] => {
            bail!("no model has a route yet: the first version needs no rollout, `understudy route set MODEL VERSION`")
        }
        [only] => Ok(*only),
        many => {
            let names: Vec<_> = many.iter().map(|summary| summary.model.as_str()).collect();
            bail!("which model is meant? Name one of {}", names.join(", "))
        }
    };
    let has = |summary: &ModelSummary, name: &str| summary.versions.iter().any(|known| known.version == name);
    let (summary, version) = match (model, version) {
        (Some(model), version) => match (named(model), version) {
            (Some(summary), version) => (summary, version),
            (None, None) if only().is_ok_and(|summary| has(summary, model)) => (only()?, Some(model)),
            (None, None) if routed.iter().any(|summary| has(summary, model)) => {
                let names: Vec<_> = routed.iter().map(|summary| summary.model.as_str()).collect();
                bail!(
                    "which model is meant? Name one of {} before the version: understudy rollout start MODEL {model}",
                    names.join(", ")
                );
            }
            (None, _) => bail!("there is no model {model}: `understudy models list` shows what there is"),
        },
        (None, version) => (only()?, version),
    };
    let model = &summary.model;
    let Some(route) = &summary.route else {
        bail!(
            "{model} has no route yet, so there is nothing to roll out from: the first version needs no rollout, \
             `understudy route set {model} VERSION`"
        );
    };
    let known: Vec<_> = summary.versions.iter().map(|known| known.version.as_str()).collect();
    let candidate = match version.or(of_file).or(known.last().copied()) {
        Some(version) if !known.contains(&version) => bail!(
            "there is no version {version} of {model}: choose one of {}, or publish it with `understudy models publish`",
            known.join(", ")
        ),
        Some(version) => version,
        None => bail!("{model} has no versions: publish one with `understudy models publish`"),
    };
    // The router decides what is stable: a route may be split, or be that of a rollout which this one supersedes.
    let others = route.arms.iter().filter(|arm| arm.version != candidate);
    let Some(stable) = others.max_by_key(|arm| arm.weight_ppm) else {
        bail!(
            "{candidate} of {model} serves already: name another version, or publish one with `understudy models publish`"
        );
    };
    Ok(Names {
        model: model.clone(),
        stable: stable.version.clone(),
        candidate: candidate.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use understudy_protocol::v1::{Arm, Manifest, Route};

    use super::*;

    fn model(name: &str, versions: &[&str], stable: Option<&str>) -> ModelSummary {
        let manifest = |version: &&str| Manifest {
            version: (*version).into(),
            ..Manifest::default()
        };
        let route = |version: &str| Route {
            arms: vec![Arm {
                name: "stable".into(),
                version: version.into(),
                weight_ppm: 1_000_000,
            }],
            ..Route::default()
        };
        ModelSummary {
            model: name.into(),
            versions: versions.iter().map(manifest).collect(),
            route: stable.map(route),
        }
    }

    #[test]
    fn what_is_left_out_is_found() {
        let one = [
            model("sentiment", &["v1", "v2", "v3"], Some("v1")),
            model("draft", &["v1"], None),
        ];
        let two = [one[0].clone(), model("critic", &["v1", "v2"], Some("v2"))];
        let found = |models: &[ModelSummary], model, version, file| {
            find(models, model, version, file)
                .map(|names| format!("{} {} {}", names.model, names.stable, names.candidate))
                .map_err(|error| error.to_string())
        };
        let expected = |text: &str| Ok(text.to_owned());
        assert_eq!(
            found(&one, Some("sentiment"), Some("v2"), None),
            expected("sentiment v1 v2")
        );
        assert_eq!(found(&one, Some("v2"), None, None), expected("sentiment v1 v2"));
        assert_eq!(found(&one, None, None, None), expected("sentiment v1 v3"), "the newest");
        assert_eq!(found(&one, None, None, Some("v2")), expected("sentiment v1 v2"));
        assert_eq!(
            found(&two, Some("sentiment"), None, Some("v2")),
            expected("sentiment v1 v2")
        );
        for (models, model, version, said) in [
            (
                &two[..],
                None,
                None,
                "which model is meant? Name one of sentiment, critic",
            ),
            (
                &two,
                Some("v2"),
                None,
                "Name one of sentiment, critic before the version: understudy rollout start MODEL v2",
            ),
            (&two, Some("v7"), None, "there is no model v7"),
            (&two, Some("critic"), None, "v2 of critic serves already"),
            (&one, Some("sentiment"), Some("v9"), "choose one of v1, v2, v3"),
            (&one, Some("draft"), None, "draft has no route yet"),
            (&one[1..], None, None, "no model has a route yet"),
        ] {
            let error = found(models, model, version, None).unwrap_err();
            assert!(error.contains(said), "{model:?} {version:?}: {error}");
        }
    }
}
