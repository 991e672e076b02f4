//! How certain the lead is, how wide, and whether there is one.

use std::ops::Range;

use crate::check::Verdict;
use crate::check::knowledge::{About, Stat, Topic};
use crate::check::labels::{is_lead_word, is_models};
use crate::sheet::Unit;

use super::{Dimension, Ranking};

/// "Evenly split" without "almost": percentage points.
const EVEN_POINTS_MAX: f64 = 2.0;
/// "Almost evenly split".
const NEARLY_EVEN_POINTS_MAX: f64 = 12.0;
/// From here on a lead is not called narrow.
const NARROW_POINTS_MAX: f64 = 20.0;
/// Up to here a lead is not called wide.
const WIDE_POINTS_MIN: f64 = 10.0;

/// The verdict on this word, if it says how certain, wide or even the lead is.
pub(super) fn judge(ranking: &Ranking<'_, '_>) -> Option<(Range<usize>, Verdict)> {
    let at = ranking.at;
    if let Some((says, length)) = certainty(ranking) {
        return Some((at..at + length, certain(ranking, says)));
    }
    if let Some(wide) = width(ranking) {
        return Some((at..at + 1, wide));
    }
    even(ranking).map(|verdict| (at..at + 1, verdict))
}

/// Whether the word says that the lead is certain, and how many tokens say so.
fn certainty(ranking: &Ranking<'_, '_>) -> Option<(bool, usize)> {
    let about_lead = || {
        let own = |at: usize| ranking.reading.segment[at].abs_diff(ranking.segment()) <= 1;
        let tokens = ranking.reading.tokens.iter().enumerate();
        tokens.into_iter().any(|(at, token)| {
            own(at)
                && at != ranking.at
                && (is_lead_word(ranking.reading.tokens, at)
                    || token.among("leader imbalance positions sides classes matter reversed figures")
                    || token.is("two") && !ranking.reading.figures.iter().any(|figure| figure.tokens.contains(&at)))
        })
    };
    // "It is not certain that positive reviews are the most frequent."
    let of_order = || {
        matches!(ranking.after(1), "that" | "whether")
            && ranking
                .reading
                .has_word("frequent common numerous outnumber outnumbers predominate prevail")
    };
    let of_lead = || {
        matches!(
            ranking.after(1),
            "lead" | "majority" | "winner" | "advantage" | "margin" | "leader" | "order" | "difference" | "gap"
        )
    };
    let imagined = matches!(ranking.before(1), "could" | "would" | "might" | "may" | "to");
    let positive = match ranking.after(0) {
        "overlap" | "overlaps" | "overlapping" if intervals(ranking) => false,
        "close" if is_models(ranking.reading.tokens, ranking.at, false) => return None,
        "close" if ranking.after(1) == "to" && ranking.after(2) == "call" => return Some((ranking.negated(), 3)),
        "told" if ranking.after(1) == "apart" && about_lead() => true,
        "distinguishable" | "distinguished" | "separated" if about_lead() => true,
        "separate" | "apart" | "clear"
            if intervals(ranking) && matches!(ranking.before(1), "are" | "is" | "stay" | "lie" | "remain") =>
        {
            true
        }
        "indistinguishable" if about_lead() => false,
        "certain" | "sure" if matches!(ranking.before(1), "a" | "for") && !of_lead() => return None,
        "certain" | "conclusive" | "conclusively" | "decisive" | "reliable" | "reliably" | "secure" | "settled"
        | "settle" | "settles" | "established" | "definite" | "definitive" | "assured" | "solid" | "significant"
        | "significantly" | "firm" | "robust" | "safe"
            if (about_lead() || of_order()) && !imagined && !is_of_reviews(ranking) =>
        {
            true
        }
        "certainty"
            if ranking.before(1) == "with"
                && matches!(
                    ranking.before(2),
                    "said"
                        | "say"
                        | "known"
                        | "know"
                        | "told"
                        | "tell"
                        | "claimed"
                        | "concluded"
                        | "stated"
                        | "decided"
                )
                && about_lead() =>
        {
            true
        }
        "certainly" | "clearly"
            if matches!(ranking.after(1), "leads" | "lead" | "ahead" | "outnumber")
                || matches!(ranking.before(1), "leads" | "lead") =>
        {
            true
        }
        "clear" | "clear-cut" | "undisputed"
            if of_lead() || about_lead() && matches!(ranking.before(1), "is" | "not") =>
        {
            true
        }
        "doubt" if about_lead() => {
            let no = (1..=4).any(|back| matches!(ranking.before(back), "no" | "beyond" | "without" | "little"));
            return Some((no != ranking.reading.has_word("not"), 1));
        }
        "error" if ranking.before(1) == "of" && ranking.before(2) == "margin" => {
            let within = (3..=5).any(|back| matches!(ranking.before(back), "within" | "inside"));
            let beyond = (3..=6).any(|back| {
                matches!(
                    ranking.before(back),
                    "beyond" | "outside" | "exceeds" | "exceed" | "above" | "than"
                )
            });
            if within == beyond {
                return None;
            }
            return Some((beyond != (4..=6).any(|back| ranking.before(back) == "not"), 1));
        }
        "noise" | "toss" if about_lead() => false,
        "uncertain" | "inconclusive" | "insignificant" | "tentative" | "undecided" | "unclear" | "unsettled"
        | "unproven" | "provisional"
            if about_lead() && !is_of_reviews(ranking) =>
        {
            false
        }
        "chance" | "coincidence" | "accident" if about_lead() => false,
        "open"
            if about_lead()
                && matches!(
                    ranking.before(1),
                    "leave" | "leaves" | "left" | "remains" | "is" | "stays"
                ) =>
        {
            false
        }
        "reversed" | "turn" | "reverse"
            if matches!(ranking.before(1), "could" | "be" | "may" | "might") && about_lead() =>
        {
            false
        }
        _ => return None,
    };
    let negated = ranking.negated()
        || (1..=5).any(|back| {
            matches!(
                ranking.before(back),
                "without" | "far" | "no" | "short" | "than" | "too"
            )
        });
    // "It would be rash to call it certain", "nobody should call it uncertain".
    let rejected = (1..=7).any(|back| {
        matches!(
            ranking.before(back),
            "rash" | "premature" | "wrong" | "nobody" | "foolish"
        )
    });
    let negated = negated != rejected;
    // The sheet's own line: "lead is certain: no".
    let answer = ranking.after(1) == ":" && matches!(ranking.after(2), "no" | "false");
    Some((positive != (negated || answer), 1))
}

fn intervals(ranking: &Ranking<'_, '_>) -> bool {
    ranking.reading.has_word("interval intervals ranges")
}

/// "Uncertain reviews" are not an uncertain lead.
fn is_of_reviews(ranking: &Ranking<'_, '_>) -> bool {
    ranking.knowledge.is_item(ranking.after(1))
        || matches!(ranking.after(1), "ones" | "cases" | "readings")
        || ranking
            .reading
            .figures
            .iter()
            .any(|figure| figure.tokens.end == ranking.at && !matches!(ranking.before(1), "points"))
        || ranking.reading.figures.iter().any(|figure| {
            figure.unit == crate::check::number::Spoken::Items
                && figure.tokens.start < ranking.at
                && matches!(ranking.before(1), "are" | "were" | "is" | "remain" | "stay" | "as")
        })
        || (2..=5).any(|back| {
            matches!(ranking.before(1), "are" | "were" | "remain" | "remained")
                && ranking.knowledge.is_item(ranking.before(back))
        })
        || ranking.reading.has_word("classifier model") && !ranking.reading.has_word("lead majority margin difference")
}

fn certain(ranking: &Ranking<'_, '_>, says: bool) -> Verdict {
    const FACT: &str = "lead is certain";
    match ranking.knowledge.certain {
        Some(certain) if certain == says => Verdict::Supported { fact: FACT.to_owned() },
        Some(certain) => Verdict::Unsupported {
            fact: Some(FACT.to_owned()),
            reason: if certain {
                "by the sheet the lead is certain: the intervals do not overlap".to_owned()
            } else {
                "by the sheet the lead is not certain: the intervals overlap".to_owned()
            },
        },
        None => Verdict::Unsupported {
            fact: None,
            reason: "the sheet does not say how certain the lead is".to_owned(),
        },
    }
}

/// The lead in percentage points.
fn points(ranking: &Ranking<'_, '_>) -> Option<f64> {
    let knowledge = ranking.knowledge;
    let given = knowledge.given(Topic::Lead, Stat::None, About::Whole, Unit::PercentagePoints);
    given.map(|known| known.value).or_else(|| {
        let mut shares: Vec<f64> = Vec::new();
        for class in 0..knowledge.classes.len() {
            let of = |known: &&crate::check::knowledge::Known| {
                known.topic == Topic::Frequency && known.unit == Unit::Percent && known.about == About::Class(class)
            };
            shares.push(knowledge.known.iter().find(of)?.value);
        }
        shares.sort_by(f64::total_cmp);
        match shares.as_slice() {
            [.., second, first] => Some(first - second),
            _ => None,
        }
    })
}

/// "A narrow lead", "a wide margin".
fn width(ranking: &Ranking<'_, '_>) -> Option<Verdict> {
    let of_lead = matches!(ranking.after(1), "lead" | "majority" | "margin" | "advantage" | "gap");
    let wide = match ranking.after(0) {
        "narrow" | "slim" | "slight" | "thin" | "small" | "modest" | "narrowly" => false,
        "wide" | "large" | "big" | "huge" | "commanding" | "overwhelming" | "vast" | "substantial" => true,
        _ => return None,
    };
    let denied = (0..ranking.at).any(|at| {
        ranking.reading.segment[at] == ranking.segment()
            && ranking.reading.tokens[at].among("not no neither nor without never hardly")
    });
    if !of_lead || denied || ranking.imagined() {
        return None;
    }
    let points = points(ranking)?;
    let fact = "lead of the most frequent class".to_owned();
    let holds = if wide {
        points >= WIDE_POINTS_MIN
    } else {
        points <= NARROW_POINTS_MAX
    };
    Some(if holds {
        Verdict::Supported { fact }
    } else {
        Verdict::Unsupported {
            reason: format!(
                "the sheet says {points:.1} percentage points for the {fact}: that is not {}",
                ranking.after(0)
            ),
            fact: Some(fact),
        }
    })
}

/// "Evenly split", "as many positive as negative reviews", "the same length".
fn even(ranking: &Ranking<'_, '_>) -> Option<Verdict> {
    let nearly = (1..=3).any(|back| {
        matches!(
            ranking.before(back),
            "almost" | "nearly" | "roughly" | "about" | "fairly" | "approximately" | "close" | "near"
        )
    });
    let split = |word: &str| {
        matches!(
            word,
            "split"
                | "divided"
                | "balanced"
                | "matched"
                | "distributed"
                | "shared"
                | "numbers"
                | "number"
                | "share"
                | "shares"
        )
    };
    if let Some(verdict) = even_allowed(ranking) {
        return Some(verdict);
    }
    let dimension = match ranking.after(0) {
        "evenly" | "equally" | "even" | "equal" if split(ranking.after(1)) || split(ranking.before(1)) => {
            Dimension::Frequency
        }
        "equally" if matches!(ranking.after(1), "long" | "short") => Dimension::Length,
        "equally" if matches!(ranking.after(1), "frequent" | "common" | "numerous") => Dimension::Frequency,
        "equally" if matches!(ranking.after(1), "confident" | "sure" | "certain") => Dimension::Confidence,
        "same" if matches!(ranking.after(1), "length") => Dimension::Length,
        "same" if matches!(ranking.after(1), "confidence") => Dimension::Confidence,
        "same" if matches!(ranking.after(1), "number" | "share" | "size") => Dimension::Frequency,
        "many" if ranking.before(1) == "as" && (1..6).any(|ahead| ranking.after(ahead) == "as") && !times(ranking) => {
            Dimension::Frequency
        }
        "long" if ranking.before(1) == "as" && (1..6).any(|ahead| ranking.after(ahead) == "as") && !times(ranking) => {
            Dimension::Length
        }
        "tied" | "tie" | "level"
            if ranking.reading.has_word("classes sides are stand")
                && !ranking.reading.has_word("interval confidence") =>
        {
            Dimension::Frequency
        }
        _ => return None,
    };
    let values: Vec<f64> = (0..ranking.knowledge.classes.len())
        .filter_map(|class| ranking.value(dimension, class))
        .collect();
    let (least, most) = (
        values.iter().copied().reduce(f64::min)?,
        values.iter().copied().reduce(f64::max)?,
    );
    let (fact, apart, allowed) = match dimension {
        Dimension::Frequency if split(ranking.after(1)) || split(ranking.before(1)) => {
            let allowed = if nearly {
                NEARLY_EVEN_POINTS_MAX
            } else {
                EVEN_POINTS_MAX
            };
            ("lead of the most frequent class", points(ranking)?, allowed)
        }
        _ => {
            let fact = match dimension {
                Dimension::Length => "mean length",
                Dimension::Confidence => "mean confidence",
                _ => "number of each class",
            };
            (fact, most - least, if nearly { most * 0.2 } else { 0.0 })
        }
    };
    let fact = fact.to_owned();
    Some(if (apart <= allowed + 1e-9) != ranking.negated() {
        Verdict::Supported { fact }
    } else {
        Verdict::Unsupported {
            reason: format!(
                "by the sheet the classes are {}equal in the {fact}",
                if apart > 0.0 { "not " } else { "" }
            ),
            fact: Some(fact),
        }
    })
}

/// "The interval contains an even split", "a tie is not ruled out": whether the intervals leave it open who leads.
fn even_allowed(ranking: &Ranking<'_, '_>) -> Option<Verdict> {
    let reading = ranking.reading;
    let level = match ranking.after(0) {
        "even" | "equal" => matches!(ranking.after(1), "split" | "division"),
        "tie" => true,
        _ => false,
    };
    let excludes = reading.has_word("exclude excludes excluding excluded ruled rule rules question impossible");
    if !level || !(intervals(ranking) || excludes) {
        return None;
    }
    let around = ranking.at.saturating_sub(6)..(ranking.at + 6).min(reading.tokens.len());
    let after = reading.tokens[ranking.at..around.end]
        .iter()
        .take_while(|token| !token.is(","));
    let negated = reading.tokens[around.start..ranking.at]
        .iter()
        .chain(after)
        .any(|token| token.among("not no never neither nor cannot don't doesn't"));
    Some(certain(ranking, excludes != negated))
}

/// "Twice as many" and "as many as 143" are figures.
fn times(ranking: &Ranking<'_, '_>) -> bool {
    let counts = |start: usize| ranking.after(1) == "as" && start == ranking.at + 2;
    ranking.reading.figures.iter().any(|figure| {
        figure.tokens.end + 1 == ranking.at || figure.tokens.end == ranking.at || counts(figure.tokens.start)
    })
}
