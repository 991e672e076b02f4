//! A fact sheet off the wire.

use std::collections::HashSet;

use understudy_grounding::{
    FACTS_MAX, Fact, FactSheet, NAME_CHARACTERS_MAX, QUOTATION_CHARACTERS_MAX, QUOTATIONS_MAX, Quotation, Unit, Value,
};
use understudy_protocol::v1::{self, fact};

use super::{Invalid, invalid};

/// Most words of one fact.
pub(super) const WORDS_MAX: usize = 64;
/// Most digits after the point.
pub(super) const DECIMALS_MAX: u32 = 6;
/// Largest figure: above it not every whole number is one.
pub(super) const FIGURE_MAX: f64 = 9_007_199_254_740_992.0;
/// What a corpus is made of unless the sheet says otherwise.
const ITEMS_DEFAULT: &str = "reviews";

/// Checks a sheet.
///
/// # Errors
/// Which field is wrong.
pub fn sheet(sheet: v1::FactSheet) -> Result<FactSheet, Invalid> {
    let title = name("sheet.title", sheet.title)?;
    let items = if sheet.items.is_empty() {
        ITEMS_DEFAULT.to_owned()
    } else {
        name("sheet.items", sheet.items)?
    };
    at_most("sheet.facts", sheet.facts.len(), FACTS_MAX)?;
    at_most("sheet.quotations", sheet.quotations.len(), QUOTATIONS_MAX)?;
    if sheet.facts.is_empty() {
        return invalid("sheet.facts", "must not be empty: there is nothing to write about");
    }
    let mut facts = Vec::with_capacity(sheet.facts.len());
    for (index, one) in sheet.facts.into_iter().enumerate() {
        facts.push(checked_fact(&format!("sheet.facts[{index}]"), one)?);
    }
    let mut seen = HashSet::new();
    for (index, fact) in facts.iter().enumerate() {
        if !seen.insert((&fact.name, &fact.subject)) {
            let problem = format!("is {:?} again, with the same subject", fact.name);
            return invalid(format!("sheet.facts[{index}].name"), problem);
        }
    }
    let mut quotations = Vec::with_capacity(sheet.quotations.len());
    for (index, one) in sheet.quotations.into_iter().enumerate() {
        quotations.push(quotation(&format!("sheet.quotations[{index}]"), one)?);
    }
    Ok(FactSheet {
        title,
        items,
        facts,
        quotations,
    })
}

fn checked_fact(field: &str, fact: v1::Fact) -> Result<Fact, Invalid> {
    Ok(Fact {
        name: name(&format!("{field}.name"), fact.name)?,
        subject: subject(field, fact.subject)?,
        value: match fact.value {
            None => return invalid(field, "must have a value"),
            Some(fact::Value::Number(number)) => {
                let field = format!("{field}.number");
                Value::Number {
                    value: figure(&format!("{field}.value"), number.value)?,
                    unit: unit(&field, number.unit)?,
                    decimals: decimals(&field, number.decimals)?,
                }
            }
            Some(fact::Value::Range(range)) => {
                let field = format!("{field}.range");
                let low = figure(&format!("{field}.low"), range.low)?;
                let high = figure(&format!("{field}.high"), range.high)?;
                if low > high {
                    return invalid(
                        format!("{field}.low"),
                        format!("is {low}, above `high`, which is {high}"),
                    );
                }
                Value::Range {
                    low,
                    high,
                    unit: unit(&field, range.unit)?,
                    decimals: decimals(&field, range.decimals)?,
                }
            }
            Some(fact::Value::Text(text)) => Value::Text(name(&format!("{field}.text"), text)?),
            Some(fact::Value::Words(words)) => {
                let field = format!("{field}.words.words");
                if words.words.is_empty() {
                    return invalid(field, "must not be empty");
                }
                at_most(&field, words.words.len(), WORDS_MAX)?;
                let words = words.words.into_iter().enumerate();
                let words = words.map(|(index, word)| name(&format!("{field}[{index}]"), word));
                Value::Words(words.collect::<Result<_, _>>()?)
            }
        },
    })
}

fn quotation(field: &str, quotation: v1::Quotation) -> Result<Quotation, Invalid> {
    if !(0.0..=1.0).contains(&quotation.confidence) {
        let problem = format!("is {}; it must be 0 to 1", quotation.confidence);
        return invalid(format!("{field}.confidence"), problem);
    }
    Ok(Quotation {
        text: line(&format!("{field}.text"), quotation.text, QUOTATION_CHARACTERS_MAX)?,
        subject: subject(field, quotation.subject)?,
        confidence: quotation.confidence,
    })
}

fn name(field: &str, text: String) -> Result<String, Invalid> {
    line(field, text, NAME_CHARACTERS_MAX)
}

fn subject(field: &str, subject: String) -> Result<Option<String>, Invalid> {
    if subject.is_empty() {
        return Ok(None);
    }
    name(&format!("{field}.subject"), subject).map(Some)
}

/// The sheet is read line by line, so a text with a line break could pass for facts.
fn line(field: &str, text: String, characters_max: usize) -> Result<String, Invalid> {
    if text.trim().is_empty() {
        return invalid(field, "must not be empty");
    }
    if text.len() > characters_max {
        at_most(field, text.chars().count(), characters_max)?;
    }
    if text.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return invalid(field, "must be one line without control characters");
    }
    Ok(text)
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), Invalid> {
    if count > most {
        return invalid(field, format!("has a length of {count}; at most {most} are allowed"));
    }
    Ok(())
}

fn figure(field: &str, value: f64) -> Result<f64, Invalid> {
    if value.is_finite() && value.abs() <= FIGURE_MAX {
        return Ok(value);
    }
    invalid(field, format!("is {value}; it must be a finite number of at most 2^53"))
}

fn decimals(field: &str, decimals: u32) -> Result<usize, Invalid> {
    match usize::try_from(decimals) {
        Ok(count) if decimals <= DECIMALS_MAX => Ok(count),
        _ => invalid(
            format!("{field}.decimals"),
            format!("is {decimals}; at most {DECIMALS_MAX} are allowed"),
        ),
    }
}

fn unit(field: &str, unit: i32) -> Result<Unit, Invalid> {
    match v1::Unit::try_from(unit) {
        Ok(v1::Unit::Unspecified) => Ok(Unit::None),
        Ok(v1::Unit::Percent) => Ok(Unit::Percent),
        Ok(v1::Unit::PercentagePoints) => Ok(Unit::PercentagePoints),
        Ok(v1::Unit::Items) => Ok(Unit::Items),
        Ok(v1::Unit::Words) => Ok(Unit::Words),
        Err(_) => invalid(format!("{field}.unit"), format!("has no value {unit}")),
    }
}
