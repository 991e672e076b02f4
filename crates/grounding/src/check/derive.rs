//! Figures that follow from a sheet's figures: what is left of a whole, differences, ratios, sums, widths.

use crate::sheet::Unit;

use super::hedge::round;
use super::knowledge::{About, Knowledge, Known, Origin, Stat, Topic};

/// Sheets of more classes get no pairs.
const PAIRED_CLASSES_MAX: usize = 12;

pub(super) fn derive(knowledge: &mut Knowledge<'_>) {
    let mut derived = Vec::new();
    shares(knowledge, &mut derived);
    knowledge.known.append(&mut derived);
    complements(knowledge, &mut derived);
    if knowledge.classes.len() <= PAIRED_CLASSES_MAX {
        pairs(knowledge, &mut derived);
        gaps(knowledge, &mut derived);
    }
    confident_and_uncertain(knowledge, &mut derived);
    statistics(knowledge, &mut derived);
    widths(knowledge, &mut derived);
    knowledge.known.append(&mut derived);
    rank(knowledge);
    classes(knowledge);
}

/// Shares that follow from counts, more exactly than the sheet shows them.
fn shares(knowledge: &Knowledge<'_>, derived: &mut Vec<Known>) {
    let Some(total) = total(knowledge) else { return };
    for known in knowledge.known.iter().filter(|known| known.unit == Unit::Items) {
        let part = matches!(known.topic, Topic::Frequency | Topic::Confident | Topic::Uncertain);
        if part && total.value > 0.0 && !known.value.is_nan() {
            derived.push(Known {
                title: known.title.replacen("number", "share", 1),
                unit: Unit::Percent,
                value: known.value / total.value * 100.0,
                decimals: 1,
                ..known.clone()
            });
        }
    }
}

fn total<'k>(knowledge: &'k Knowledge<'_>) -> Option<&'k Known> {
    knowledge.given(Topic::Total, Stat::None, About::Whole, Unit::Items)
}

fn complements(knowledge: &Knowledge<'_>, derived: &mut Vec<Known>) {
    let total = total(knowledge).map(|known| known.value);
    let two = knowledge.classes.len() == 2;
    let parts = |known: &&Known| matches!(known.topic, Topic::Frequency | Topic::Confident | Topic::Uncertain);
    for known in knowledge.known.iter().filter(parts) {
        let whole = match known.unit {
            Unit::Percent => 100.0,
            Unit::Items => match total {
                Some(total) => total,
                None => continue,
            },
            _ => continue,
        };
        let about = match known.about {
            About::Class(class) if two => About::Class(1 - class),
            About::Class(class) => About::Others(class),
            other => other,
        };
        derived.push(Known {
            title: format!("{} that is not the {}", knowledge.sheet.items, known.title),
            about,
            value: whole - round(known.value, known.decimals.max(1)),
            kind: Origin::Complement,
            ..known.clone()
        });
    }
    // Neither confident nor uncertain.
    for (unit, whole) in [(Unit::Items, total), (Unit::Percent, Some(100.0))] {
        let given = |topic| knowledge.given(topic, Stat::None, About::Whole, unit);
        if let (Some(whole), Some(confident), Some(uncertain)) =
            (whole, given(Topic::Confident), given(Topic::Uncertain))
        {
            derived.push(Known {
                title: "reviews between confident and uncertain".replace("reviews", &knowledge.sheet.items),
                value: whole - confident.value - uncertain.value,
                kind: Origin::Middle,
                ..confident.clone()
            });
        }
    }
}

fn pairs(knowledge: &Knowledge<'_>, derived: &mut Vec<Known>) {
    let of_class = |known: &&Known| known.kind == Origin::Given && matches!(known.about, About::Class(_));
    let own: Vec<&Known> = knowledge.known.iter().filter(of_class).collect();
    for (index, one) in own.iter().enumerate() {
        for other in &own[index + 1..] {
            let (About::Class(a), About::Class(b)) = (one.about, other.about) else {
                continue;
            };
            if one.topic == other.topic && one.stat == other.stat && one.unit == other.unit && a != b {
                pair(knowledge, (one, other), About::Pair(a, b), derived);
            }
        }
    }
}

fn pair(knowledge: &Knowledge<'_>, (one, other): (&Known, &Known), about: About, derived: &mut Vec<Known>) {
    let unit = if one.unit == Unit::Percent {
        Unit::PercentagePoints
    } else {
        one.unit
    };
    let name = |known: &Known| known.title.clone();
    let mut push = |what: &str, kind: Origin, unit: Unit, value: f64, decimals: usize| {
        derived.push(Known {
            title: format!("{what} {} and the {}", name(one), name(other)),
            about,
            unit,
            value,
            decimals,
            kind,
            ..one.clone()
        });
    };
    let shown = |known: &Known| round(known.value, known.decimals);
    push(
        "difference between the",
        Origin::Difference,
        unit,
        (shown(one) - shown(other)).abs(),
        one.decimals,
    );
    push(
        "difference between the",
        Origin::Difference,
        unit,
        (one.value - other.value).abs(),
        one.decimals,
    );
    let (low, high) = if one.value < other.value {
        (one, other)
    } else {
        (other, one)
    };
    if low.value > 0.0 {
        push("ratio of the", Origin::Ratio, Unit::None, high.value / low.value, 2);
        // "13% more", "a tenth longer".
        push(
            "ratio of the",
            Origin::Ratio,
            Unit::Percent,
            (high.value / low.value - 1.0) * 100.0,
            1,
        );
        push(
            "ratio of the",
            Origin::Ratio,
            Unit::Percent,
            (1.0 - low.value / high.value) * 100.0,
            1,
        );
    }
    if one.topic == Topic::Frequency && knowledge.classes.len() > 2 {
        push(
            "sum of the",
            Origin::Sum,
            one.unit,
            one.value + other.value,
            one.decimals,
        );
    }
}

/// The confident and the uncertain ones together, and how many there are of the ones for each of the others.
fn confident_and_uncertain(knowledge: &Knowledge<'_>, derived: &mut Vec<Known>) {
    let given = |topic| knowledge.given(topic, Stat::None, About::Whole, Unit::Items);
    if let (Some(confident), Some(uncertain)) = (given(Topic::Confident), given(Topic::Uncertain))
        && uncertain.value > 0.0
    {
        derived.push(Known {
            title: format!("sum of the {} and the {}", confident.title, uncertain.title),
            value: confident.value + uncertain.value,
            kind: Origin::Sum,
            ..confident.clone()
        });
        derived.push(Known {
            title: format!("ratio of the {} and the {}", confident.title, uncertain.title),
            unit: Unit::None,
            value: confident.value / uncertain.value,
            decimals: 2,
            kind: Origin::Ratio,
            ..confident.clone()
        });
    }
}

/// Differences between statistics of the same thing, and between the mean of a class and that of all.
fn statistics(knowledge: &Knowledge<'_>, derived: &mut Vec<Known>) {
    for own in &knowledge.known {
        let mean = own.stat == Stat::Mean && matches!(own.about, About::Class(_)) && own.kind == Origin::Given;
        if let (true, Some(all)) = (mean, knowledge.given(own.topic, Stat::Mean, About::Whole, own.unit)) {
            derived.push(Known {
                title: format!("distance of the {} from the {}", own.title, all.title),
                value: (round(own.value, own.decimals) - round(all.value, all.decimals)).abs(),
                kind: Origin::FromAll,
                ..own.clone()
            });
        }
    }
    let whole = |known: &&Known| known.topic == Topic::Length && known.about == About::Whole;
    let own: Vec<&Known> = knowledge.known.iter().filter(whole).collect();
    for (index, one) in own.iter().enumerate() {
        for other in &own[index + 1..] {
            derived.push(Known {
                title: format!("difference between the {} and the {}", one.title, other.title),
                stat: Stat::None,
                value: (round(one.value, one.decimals) - round(other.value, other.decimals)).abs(),
                kind: Origin::Difference,
                ..(*one).clone()
            });
        }
    }
}

fn widths(knowledge: &Knowledge<'_>, derived: &mut Vec<Known>) {
    let ends = |kind: Origin| knowledge.known.iter().filter(move |known| known.kind == kind);
    for low in ends(Origin::Low) {
        let Some(high) = ends(Origin::High).find(|high| high.title == low.title) else {
            continue;
        };
        let unit = if low.unit == Unit::Percent {
            Unit::PercentagePoints
        } else {
            low.unit
        };
        for (what, part) in [("width of the", 1.0), ("half of the", 0.5)] {
            derived.push(Known {
                title: format!("{what} {}", low.title),
                unit,
                value: (high.value - low.value) * part,
                kind: Origin::Width,
                ..low.clone()
            });
        }
    }
}

/// What lies between the nearest ends of two intervals.
fn gaps(knowledge: &Knowledge<'_>, derived: &mut Vec<Known>) {
    let ends = |kind: Origin| {
        let of = move |known: &&Known| known.kind == kind && known.topic == Topic::Interval;
        knowledge.known.iter().filter(of)
    };
    for low in ends(Origin::Low) {
        for high in ends(Origin::High) {
            let (About::Class(a), About::Class(b)) = (low.about, high.about) else {
                continue;
            };
            if a == b || low.unit != high.unit || low.value <= high.value {
                continue;
            }
            derived.push(Known {
                title: format!("distance between the {} and the {}", high.title, low.title),
                about: About::Pair(a.min(b), a.max(b)),
                unit: if low.unit == Unit::Percent {
                    Unit::PercentagePoints
                } else {
                    low.unit
                },
                value: low.value - high.value,
                kind: Origin::Gap,
                ..low.clone()
            });
        }
    }
}

/// Who leads, how certainly, and who is longest, where no fact of the sheet tells.
fn rank(knowledge: &mut Knowledge<'_>) {
    let given = |topic, stat| knowledge.greatest(topic, stat);
    let leader = given(Topic::Frequency, Stat::None);
    let longest = given(Topic::Length, Stat::Mean);
    knowledge.leader = knowledge.leader.or(leader);
    knowledge.longest = knowledge.longest.or(longest);
    if knowledge.certain.is_none()
        && let Some(leader) = knowledge.leader
    {
        let ends = |kind: Origin| {
            knowledge
                .known
                .iter()
                .filter(move |known| known.kind == kind && known.topic == Topic::Interval)
        };
        let low = ends(Origin::Low)
            .find(|known| known.about == About::Class(leader))
            .map(|known| known.value);
        let others = ends(Origin::High)
            .filter(|known| known.about != About::Class(leader))
            .map(|known| known.value);
        let highest = others.reduce(f64::max);
        if let (Some(low), Some(highest)) = (low, highest) {
            knowledge.certain = Some(low > highest);
        }
    }
}

fn classes(knowledge: &mut Knowledge<'_>) {
    let count = u32::try_from(knowledge.classes.len()).unwrap_or(u32::MAX);
    if count > 0 {
        knowledge.known.push(Known {
            title: "number of classes".to_owned(),
            topic: Topic::Classes,
            stat: Stat::None,
            about: About::Whole,
            unit: Unit::None,
            value: f64::from(count),
            decimals: 0,
            kind: Origin::Given,
        });
    }
}

impl Knowledge<'_> {
    /// The class with the greatest figure, if it is alone.
    pub(super) fn greatest(&self, topic: Topic, stat: Stat) -> Option<usize> {
        let mut of_class: Vec<(f64, usize)> = Vec::new();
        for class in 0..self.classes.len() {
            of_class.push((self.of_class(topic, stat, class)?, class));
        }
        of_class.sort_by(|a, b| b.0.total_cmp(&a.0));
        match of_class.as_slice() {
            [(first, class), (second, _), ..] if first > second => Some(*class),
            _ => None,
        }
    }

    /// The figure of a class, as the sheet shows it.
    pub(super) fn of_class(&self, topic: Topic, stat: Stat, class: usize) -> Option<f64> {
        let of = |known: &&Known| {
            known.kind == Origin::Given
                && known.topic == topic
                && known.stat == stat
                && known.about == About::Class(class)
        };
        // Counts before shares: they are exact.
        let counted = self.known.iter().find(|known| of(known) && known.unit == Unit::Items);
        let known = counted.or_else(|| self.known.iter().find(of))?;
        Some(round(known.value, known.decimals))
    }
}
