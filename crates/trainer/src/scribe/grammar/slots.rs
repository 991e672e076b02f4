//! What the grammar may say of a sheet: figures exactly as they stand in it.

use understudy_grounding::{FactSheet, Unit, Value, figure};

use super::rules::Slots;

/// A share from which a class is not a footnote, in percent.
const SIZEABLE: f64 = 20.0;

/// The sheet's classes are those with a share, in its order.
pub(super) fn slots(sheet: &FactSheet) -> Slots {
    let mut slots = Slots::new();
    let general = [
        ("n", "number of reviews"),
        ("lead", "lead of the most frequent class"),
        ("conf", "mean confidence"),
        ("confident.n", "number of confident reviews"),
        ("confident.share", "share of confident reviews"),
        ("uncertain.n", "number of uncertain reviews"),
        ("uncertain.share", "share of uncertain reviews"),
        ("len", "mean length"),
        ("median", "median length"),
        ("p90", "90th percentile of length"),
        ("vocabulary", "vocabulary"),
        ("ttr", "type-token ratio"),
    ];
    for (slot, name) in general {
        insert_number(&mut slots, slot, value(sheet, name, None));
    }
    let classes: Vec<&str> = sheet
        .facts
        .iter()
        .filter(|fact| fact.name == "share")
        .filter_map(|fact| fact.subject.as_deref())
        .collect();
    let mut ranked = classes.clone();
    ranked.sort_by(|a, b| share(sheet, b).total_cmp(&share(sheet, a)));
    for (letter, class) in ["x", "y", "z"]
        .iter()
        .zip(&classes)
        .chain(["a", "b", "c"].iter().zip(&ranked))
    {
        class_slots(&mut slots, letter, sheet, class);
    }
    if let Some(Value::Text(longest)) = value(sheet, "class with the longest reviews", None) {
        class_slots(&mut slots, "l", sheet, longest);
        condition(&mut slots, "longest", true);
        if let Some(other) = classes.iter().find(|class| *class != longest) {
            class_slots(&mut slots, "s", sheet, other);
        }
    }
    if let Some(quotation) = sheet.quotations.iter().find(|quotation| quotation.subject.is_none()) {
        slots.insert("u.q".into(), quotation.text.clone());
        condition(&mut slots, "u", true);
    }
    let is = |name, text: &str| matches!(value(sheet, name, None), Some(Value::Text(value)) if value == text);
    condition(&mut slots, "two", classes.len() == 2);
    condition(&mut slots, "three", classes.len() == 3);
    condition(&mut slots, "tie", is("most frequent class", "none"));
    condition(&mut slots, "certain", is("lead is certain", "yes"));
    condition(&mut slots, "open", is("lead is certain", "no"));
    condition(
        &mut slots,
        "majority",
        ranked.first().is_some_and(|class| share(sheet, class) > 50.0),
    );
    condition(
        &mut slots,
        "sizeable",
        ranked.get(1).is_some_and(|class| share(sheet, class) >= SIZEABLE),
    );
    let has_ratio = slots.contains_key("ttr");
    condition(&mut slots, "short", !has_ratio);
    slots
}

fn condition(slots: &mut Slots, name: &str, holds: bool) {
    if holds {
        slots.insert(name.to_owned(), String::new());
    }
}

fn class_slots(slots: &mut Slots, letter: &str, sheet: &FactSheet, class: &str) {
    slots.insert(letter.to_owned(), class.to_owned());
    let facts = [
        ("n", "number"),
        ("share", "share"),
        ("conf", "mean confidence"),
        ("len", "mean length"),
    ];
    for (slot, name) in facts {
        insert_number(slots, &format!("{letter}.{slot}"), value(sheet, name, Some(class)));
    }
    if let Some(Value::Range {
        low, high, decimals, ..
    }) = value(sheet, "95% interval of the share", Some(class))
    {
        slots.insert(format!("{letter}.low"), format!("{}%", figure(*low, *decimals)));
        slots.insert(format!("{letter}.high"), format!("{}%", figure(*high, *decimals)));
    }
    if let Some(Value::Words(words)) = value(sheet, "distinctive words", Some(class)) {
        for (index, word) in words.iter().enumerate() {
            slots.insert(format!("{letter}.w{}", index + 1), word.clone());
        }
    }
    let quotations = sheet.quotations.iter().filter(|q| q.subject.as_deref() == Some(class));
    for (slot, quotation) in ["q", "q2"].iter().zip(quotations) {
        slots.insert(format!("{letter}.{slot}"), quotation.text.clone());
    }
}

fn insert_number(slots: &mut Slots, slot: &str, value: Option<&Value>) {
    if let Some(Value::Number { value, unit, decimals }) = value {
        let sign = if *unit == Unit::Percent { "%" } else { "" };
        slots.insert(slot.to_owned(), format!("{}{sign}", figure(*value, *decimals)));
    }
}

fn value<'a>(sheet: &'a FactSheet, name: &str, subject: Option<&str>) -> Option<&'a Value> {
    let mut facts = sheet.facts.iter();
    facts
        .find(|fact| fact.name == name && fact.subject.as_deref() == subject)
        .map(|fact| &fact.value)
}

fn share(sheet: &FactSheet, class: &str) -> f64 {
    match value(sheet, "share", Some(class)) {
        Some(Value::Number { value, .. }) => *value,
        _ => 0.0,
    }
}
