//! The fact sheet for the wire.

use understudy_grounding::{FactSheet, Unit, Value};
use understudy_protocol::v1;

/// The sheet as the scribe takes it.
pub(super) fn proto(sheet: &FactSheet) -> v1::FactSheet {
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
    // Nobody needs that many digits; the sheet's own have one or two.
    let digits = |decimals: usize| u32::try_from(decimals).unwrap_or(u32::MAX);
    match value {
        Value::Number { value, unit, decimals } => v1::fact::Value::Number(v1::Number {
            value: *value,
            unit: proto_unit(*unit).into(),
            decimals: digits(*decimals),
        }),
        Value::Range {
            low,
            high,
            unit,
            decimals,
        } => v1::fact::Value::Range(v1::Range {
            low: *low,
            high: *high,
            unit: proto_unit(*unit).into(),
            decimals: digits(*decimals),
        }),
        Value::Text(text) => v1::fact::Value::Text(text.clone()),
        Value::Words(words) => v1::fact::Value::Words(v1::Words { words: words.clone() }),
    }
}

fn proto_unit(unit: Unit) -> v1::Unit {
    match unit {
        Unit::None => v1::Unit::Unspecified,
        Unit::Percent => v1::Unit::Percent,
        Unit::PercentagePoints => v1::Unit::PercentagePoints,
        Unit::Items => v1::Unit::Items,
        Unit::Words => v1::Unit::Words,
    }
}

#[cfg(test)]
mod tests {
    use understudy_grounding::{Fact, Quotation};

    use super::*;

    fn sheet() -> FactSheet {
        let fact = |name: &str, subject: Option<&str>, value| Fact {
            name: name.into(),
            subject: subject.map(str::to_owned),
            value,
        };
        FactSheet {
            title: "reviews".into(),
            items: "reviews".into(),
            facts: vec![
                fact("number of reviews", None, number(1204.0, Unit::Items, 0)),
                fact("share", Some("positive"), number(54.06, Unit::Percent, 1)),
                fact(
                    "95% interval of the share",
                    Some("positive"),
                    Value::Range {
                        low: 51.2,
                        high: 56.9,
                        unit: Unit::Percent,
                        decimals: 1,
                    },
                ),
                fact("lead", None, number(8.1, Unit::PercentagePoints, 1)),
                fact("mean length", None, number(231.4, Unit::Words, 0)),
                fact("type-token ratio", None, number(0.81, Unit::None, 2)),
                fact("most frequent class", None, Value::Text("positive".into())),
                fact(
                    "distinctive words",
                    None,
                    Value::Words(vec!["fine".into(), "warm".into()]),
                ),
            ],
            quotations: vec![Quotation {
                text: "A fine film.".into(),
                subject: None,
                confidence: 0.51,
            }],
        }
    }

    fn number(value: f64, unit: Unit, decimals: usize) -> Value {
        Value::Number { value, unit, decimals }
    }

    #[test]
    fn values_are_shown_as_the_model_reads_them() {
        let sheet = sheet();
        let read = sheet.to_string();
        for fact in &sheet.facts {
            let line = format!("- {}: {}\n", fact.title("reviews"), fact.value.shown("reviews"));
            assert!(read.contains(&line), "{line} {read}");
        }
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        let proto = proto(&sheet());
        assert_eq!((proto.facts.len(), proto.quotations.len()), (8, 1));
        let share = &proto.facts[1];
        assert_eq!((share.name.as_str(), share.subject.as_str()), ("share", "positive"));
        let Some(v1::fact::Value::Number(share)) = &share.value else {
            panic!("{share:?}");
        };
        assert_eq!(
            (share.value, share.unit(), share.decimals),
            (54.06, v1::Unit::Percent, 1)
        );
        assert_eq!(proto.quotations[0].subject, "");
    }
}
