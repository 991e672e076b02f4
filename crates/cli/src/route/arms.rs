//! Arms as they are typed: `v1`, `stable=v1:90`, `canary=v2:2500ppm`.

use std::str::FromStr;

use anyhow::{bail, ensure};
use understudy_protocol::{name, v1::Arm};

use crate::table::percent;

/// One million parts are all of the traffic.
pub(crate) const ALL_PPM: u32 = 1_000_000;

/// The name of an arm that stands alone.
const ONLY_ARM: &str = "stable";

/// One arm as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArmSpec {
    name: Option<String>,
    version: String,
    weight_ppm: Option<u32>,
}

impl FromStr for ArmSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) => (Some(name), rest),
            None => (None, text),
        };
        let (version, weight) = match rest.split_once(':') {
            Some((version, weight)) => (version, Some(weight)),
            None => (rest, None),
        };
        if let Some(name) = name {
            name::check(name).map_err(|problem| format!("the arm's name {problem}"))?;
        }
        name::check(version).map_err(|problem| format!("the version's name {problem}"))?;
        Ok(Self {
            name: name.map(str::to_owned),
            version: version.to_owned(),
            weight_ppm: weight.map(weight_ppm).transpose()?,
        })
    }
}

/// `90`, `90%`, `0.5` and `12.3456` are percent; `2500ppm` are parts per million. Exact: no floating point.
pub(crate) fn weight_ppm(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no weight: write percent (90, 0.5) or parts per million (2500ppm)");
    let digits = |text: &str| !text.is_empty() && text.len() <= 7 && text.bytes().all(|b| b.is_ascii_digit());
    let ppm = if let Some(ppm) = text.strip_suffix("ppm") {
        if !digits(ppm) {
            return Err(wrong());
        }
        ppm.parse().map_err(|_| wrong())?
    } else {
        let (whole, fraction) = text
            .strip_suffix('%')
            .unwrap_or(text)
            .split_once('.')
            .unwrap_or_else(|| (text.strip_suffix('%').unwrap_or(text), "0"));
        if !digits(whole) || !digits(fraction) {
            return Err(wrong());
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 4 {
            return Err(format!(
                "{text:?} is finer than one part per million, which is 0.0001 percent"
            ));
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let fraction: u32 = format!("{fraction:0<4}").parse().map_err(|_| wrong())?;
        whole.saturating_mul(10_000).saturating_add(fraction)
    };
    if ppm > ALL_PPM {
        Err(format!("{text:?} is more than all of the traffic"))
    } else {
        Ok(ppm)
    }
}

/// Gives names and weights to those arms that were typed without.
pub(crate) fn resolve(specs: &[ArmSpec]) -> anyhow::Result<Vec<Arm>> {
    let given: u32 = specs
        .iter()
        .filter_map(|spec| spec.weight_ppm)
        .fold(0, u32::saturating_add);
    let without_weight = specs.iter().filter(|spec| spec.weight_ppm.is_none()).count();
    ensure!(
        without_weight <= 1,
        "only one arm may go without a weight, as it gets the rest: write e.g. stable=v1 canary=v2:10"
    );
    let sum = percent(f64::from(given) / f64::from(ALL_PPM));
    ensure!(given <= ALL_PPM, "the weights sum to {sum}: they must sum to 100%");
    ensure!(
        without_weight == 1 || given == ALL_PPM,
        "the weights sum to {sum}: they must sum to 100%, or leave one arm without a weight, which gets the rest"
    );
    let mut arms: Vec<Arm> = Vec::with_capacity(specs.len());
    for spec in specs {
        let name = match &spec.name {
            Some(name) => name.clone(),
            None if specs.len() == 1 => ONLY_ARM.to_owned(),
            None => bail!(
                "{} needs a name for its arm, e.g. stable={0} canary=v2:10",
                spec.version
            ),
        };
        ensure!(
            arms.iter().all(|arm| arm.name != name),
            "there are two arms {name}: give each its own name"
        );
        arms.push(Arm {
            name,
            version: spec.version.clone(),
            weight_ppm: spec.weight_ppm.unwrap_or(ALL_PPM - given),
        });
    }
    Ok(arms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arms(typed: &[&str]) -> Result<Vec<(String, String, u32)>, String> {
        let specs: Vec<ArmSpec> = typed.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let arms = resolve(&specs).map_err(|error| error.to_string())?;
        Ok(arms
            .into_iter()
            .map(|arm| (arm.name, arm.version, arm.weight_ppm))
            .collect())
    }

    fn expect(typed: &[&str], expected: &[(&str, &str, u32)]) {
        let expected = expected
            .iter()
            .map(|&(n, v, w)| (n.to_owned(), v.to_owned(), w))
            .collect();
        assert_eq!(arms(typed), Ok(expected), "{typed:?}");
    }

    #[test]
    fn weights_are_exact() {
        expect(&["v1"], &[("stable", "v1", 1_000_000)]);
        expect(&["blue=v1"], &[("blue", "v1", 1_000_000)]);
        expect(
            &["stable=v1:90", "canary=v2:10"],
            &[("stable", "v1", 900_000), ("canary", "v2", 100_000)],
        );
        expect(
            &["stable=v1", "canary=v2:0.0001%"],
            &[("stable", "v1", 999_999), ("canary", "v2", 1)],
        );
        expect(
            &["stable=v1", "canary=v2:12.3456"],
            &[("stable", "v1", 876_544), ("canary", "v2", 123_456)],
        );
        expect(
            &["a=v1:33.3", "b=v2:33.30000", "c=v3"],
            &[("a", "v1", 333_000), ("b", "v2", 333_000), ("c", "v3", 334_000)],
        );
        expect(
            &["a=v1:2500ppm", "b=v1:997500ppm"],
            &[("a", "v1", 2_500), ("b", "v1", 997_500)],
        );
        expect(&["a=v1:0", "b=v2:100%"], &[("a", "v1", 0), ("b", "v2", 1_000_000)]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (typed, said) in [
            (&["a=v1", "b=v2"][..], "only one arm may go without a weight"),
            (&["a=v1:90", "b=v2:9"], "the weights sum to 99%"),
            (&["a=v1:90", "b=v2:10.5"], "the weights sum to 100.5%"),
            (&["v1:90", "v2:10"], "v1 needs a name for its arm"),
            (&["a=v1:90", "a=v2:10"], "two arms a"),
            (&["a=v1:101"], "more than all"),
            (&["a=v1:99999999999"], "is no weight"),
            (&["a=v1:0.00001"], "finer than one part per million"),
            (&["a=v1:-1"], "is no weight"),
            (&["a=v1:"], "is no weight"),
            (&["a=v1:1."], "is no weight"),
            (&["a=v1:+5"], "is no weight"),
            (&["a=v1:1e2"], "is no weight"),
            (&["a=:1"], "version's name must not be empty"),
            (&["A=v1"], "arm's name must begin"),
        ] {
            let error = arms(typed).unwrap_err();
            assert!(error.contains(said), "{typed:?}: {error}");
        }
    }
}
