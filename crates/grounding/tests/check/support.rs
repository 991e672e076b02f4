//! Reads the sheets and sentences of `tests/sentences` (their README has the format).

use std::fs;
use std::path::Path;

use understudy_grounding::{Fact, FactSheet, Quotation, Unit, Value};

/// One labelled sentence.
pub(crate) struct Labelled {
    pub(crate) ok: bool,
    pub(crate) kind: String,
    pub(crate) sheet: String,
    pub(crate) sentence: String,
}

pub(crate) fn sentences(file: &str) -> Vec<Labelled> {
    let lines = read(file);
    let lines = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let [label, kind, sheet, sentence] = line.splitn(4, '\t').collect::<Vec<_>>()[..] else {
                panic!("{file}: a line without four fields: {line}");
            };
            assert!(matches!(label, "ok" | "bad"), "{file}: {line}");
            Labelled {
                ok: label == "ok",
                kind: kind.to_owned(),
                sheet: sheet.to_owned(),
                sentence: sentence.replace("\\n", "\n"),
            }
        })
        .collect()
}

pub(crate) fn sheet(name: &str) -> FactSheet {
    parse(&read(&format!("{name}.sheet")))
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sentences").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(text: &str) -> FactSheet {
    const INTERVAL: &str = "- 95% interval of the share of ";
    let classes: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix(INTERVAL)?.split_once(" reviews: "))
        .map(|(class, _)| class)
        .collect();
    let mut sheet = FactSheet {
        title: String::new(),
        items: "reviews".to_owned(),
        facts: Vec::new(),
        quotations: Vec::new(),
    };
    let mut quotations = false;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("Corpus: ") {
            title.clone_into(&mut sheet.title);
        }
        quotations |= line == "Quotations:";
        let Some(line) = line.strip_prefix("- ") else { continue };
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no value: {line}"));
        if quotations {
            sheet.quotations.push(quotation(name, value));
        } else {
            sheet.facts.push(fact(name, value, &classes));
        }
    }
    assert_eq!(sheet.to_string(), text, "the sheet is what it displays");
    sheet
}

fn quotation(name: &str, value: &str) -> Quotation {
    let (class, confidence) = name.trim_end_matches(')').split_once(" (").expect("a confidence");
    Quotation {
        text: value.trim_matches('"').to_owned(),
        subject: (class != "uncertain").then(|| class.to_owned()),
        confidence: confidence.parse().expect("a number"),
    }
}

fn fact(title: &str, text: &str, classes: &[&str]) -> Fact {
    let of = |class: &&&str| title.ends_with(&format!(" of {class} reviews"));
    // "no-spoiler" before "spoiler".
    let class = classes.iter().filter(of).max_by_key(|class| class.len());
    let name = class.map_or(title, |class| title.trim_end_matches(&format!(" of {class} reviews")));
    let value = if name == "distinctive words" {
        Value::Words(text.split(", ").map(str::to_owned).collect())
    } else if let Some((low, high)) = text.split_once(" to ") {
        let ((low, _, decimals), (high, unit, _)) = (number(low).expect("a figure"), number(high).expect("a figure"));
        Value::Range {
            low,
            high,
            unit,
            decimals,
        }
    } else if let Some((value, unit, decimals)) = number(text) {
        Value::Number { value, unit, decimals }
    } else {
        Value::Text(text.to_owned())
    };
    Fact {
        name: name.to_owned(),
        subject: class.map(|class| (*class).to_owned()),
        value,
    }
}

fn number(text: &str) -> Option<(f64, Unit, usize)> {
    let units = [
        ("%", Unit::Percent),
        (" percentage points", Unit::PercentagePoints),
        (" reviews", Unit::Items),
        (" words", Unit::Words),
    ];
    let with_unit = units
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)));
    let (figure, unit) = with_unit.unwrap_or((text, Unit::None));
    let decimals = figure.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    Some((figure.replace(',', "").parse().ok()?, unit, decimals))
}
