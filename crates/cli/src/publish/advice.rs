//! What to do with a version once it is published.

use understudy_protocol::v1::{Manifest, ModelSummary};

/// Of two names that are likely meant to be the same (Jaro–Winkler, from 0 to 1).
const ALIKE_MIN: f64 = 0.85;

/// What comes next for a version, and whether its model came into being with it.
pub(super) fn next(models: &[ModelSummary], manifest: &Manifest) -> String {
    let (model, version) = (&manifest.model, &manifest.version);
    let summary = models.iter().find(|summary| summary.model == *model);
    let route = summary.and_then(|summary| summary.route.as_ref());
    let serving = route.and_then(|route| route.arms.iter().max_by_key(|arm| arm.weight_ppm));
    if let Some(arm) = serving {
        return format!(
            "{} serves now. Bring {version} in by evidence, step by step:\n  understudy rollout start {model} {version}",
            arm.version
        );
    }
    let mut said = String::new();
    if summary.is_none_or(|summary| summary.versions.len() <= 1) {
        said = format!("{model} is a NEW model.");
        let others = models.iter().map(|summary| summary.model.as_str());
        let alike: Vec<_> = others
            .filter(|other| other != model && strsim::jaro_winkler(other, model) >= ALIKE_MIN)
            .collect();
        if !alike.is_empty() {
            said += &format!(
                " Did you mean {}? Then publish it once more with that --model; this one does no harm.",
                alike.join(" or ")
            );
        }
        said.push(' ');
    }
    said + &format!("It has no route yet. Give it traffic:\n  understudy route set {model} {version}")
}

#[cfg(test)]
mod tests {
    use understudy_protocol::v1::{Arm, Route};

    use super::*;

    fn manifest(model: &str, version: &str) -> Manifest {
        Manifest {
            model: model.into(),
            version: version.into(),
            ..Manifest::default()
        }
    }

    fn summary(model: &str, versions: &[&str], serving: Option<&str>) -> ModelSummary {
        let route = |version: &str| Route {
            arms: vec![Arm {
                version: version.into(),
                weight_ppm: 1_000_000,
                ..Arm::default()
            }],
            ..Route::default()
        };
        ModelSummary {
            model: model.into(),
            versions: versions.iter().map(|version| manifest(model, version)).collect(),
            route: serving.map(route),
        }
    }

    #[test]
    fn what_serves_is_not_overrun_and_a_new_model_is_told() {
        let models = [
            summary("sentiment", &["v1", "v2"], Some("v1")),
            summary("sentimnt", &["v1"], None),
            summary("critic", &["v1", "v2"], None),
            summary("topic", &["v1"], None),
        ];
        let said = |model, version| next(&models, &manifest(model, version));
        assert_eq!(
            said("sentiment", "v2"),
            "v1 serves now. Bring v2 in by evidence, step by step:\n  understudy rollout start sentiment v2"
        );
        let typo = said("sentimnt", "v1");
        assert!(
            typo.starts_with("sentimnt is a NEW model. Did you mean sentiment?"),
            "{typo}"
        );
        assert!(said("critic", "v2").starts_with("It has no route yet."));
        let new = said("topic", "v1");
        assert!(
            new.starts_with("topic is a NEW model. It has no route yet.") && new.ends_with("route set topic v1"),
            "{new}"
        );
    }
}
