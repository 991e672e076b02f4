//! The words that rank, and what they rank by.

use crate::check::clause::Reading;
use crate::check::number::{Form, Spoken};
use crate::check::token::is_one_of;

use super::{Dimension, Ranking};

/// How a word ranks its subject.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    /// `None`: what the clause measures.
    pub(super) dimension: Option<Dimension>,
    pub(super) more: bool,
    /// More than half of all.
    pub(super) majority: bool,
    /// Tokens.
    pub(super) length: usize,
    pub(super) form: Grammar,
}

/// Where the subject stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grammar {
    /// "X is longer than Y".
    Comparative,
    /// "more X than Y".
    Quantified,
    /// "X outnumbers Y".
    Verb,
    /// "the longest are X", "a majority is X".
    Superlative,
}

impl Rank {
    pub(super) const MORE: Self = Self {
        dimension: Some(Dimension::Frequency),
        more: true,
        majority: false,
        length: 1,
        form: Grammar::Comparative,
    };

    fn new(dimension: impl Into<Option<Dimension>>, more: bool, form: Grammar) -> Self {
        Self {
            dimension: dimension.into(),
            more,
            form,
            ..Self::MORE
        }
    }

    fn of(self, length: usize) -> Self {
        Self { length, ..self }
    }

    fn majority() -> Self {
        Self {
            majority: true,
            form: Grammar::Superlative,
            ..Self::MORE
        }
    }
}

/// How the word at this place ranks, if it does.
pub(super) fn rank(ranking: &Ranking<'_, '_>) -> Option<Rank> {
    use Dimension::{Confidence, Frequency, Length};
    use Grammar::{Comparative, Superlative, Verb};
    let word = ranking.after(0);
    let passive =
        ranking.after(1) == "by" && matches!(ranking.before(1), "are" | "is" | "were" | "was" | "be" | "being");
    Some(match word {
        "most" => return most(ranking),
        "mostly" | "mainly" | "largely" | "predominantly" | "overwhelmingly" | "primarily"
            if class_near(ranking, 3) =>
        {
            Rank::majority()
        }
        "more" | "less" | "fewer" | "least" => return more(ranking),
        "majority" => Rank::majority(),
        "plurality" => Rank::new(Frequency, true, Superlative),
        "minority" => Rank::new(Frequency, false, Superlative),
        "outnumber" | "outnumbers" | "outnumbered" | "outnumbering" | "outweigh" | "outweighs" | "dominate"
        | "dominates" | "dominated" | "predominate" | "predominates" | "prevail" | "prevails" | "outstrip"
        | "outstrips" => Rank::new(Frequency, !passive, Verb),
        "wins" if class_near(ranking, 3) || matches!(ranking.before(1), "side" | "camp" | "class") => {
            Rank::new(Frequency, true, Verb)
        }
        "leads" | "led" => Rank::new(Frequency, true, Verb),
        "lead" if is_verb(ranking) => Rank::new(Frequency, true, Verb),
        "lead" if is_held(ranking) => Rank::new(Frequency, true, Comparative),
        "leading" if class_near(ranking, 5) => Rank::new(Frequency, true, Superlative),
        "ahead" => Rank::new(Frequency, true, Comparative),
        "trail" | "trails" | "trailing" | "lag" | "lags" => Rank::new(Frequency, false, Verb),
        "behind" if (1..=12).any(|back| matches!(ranking.before(back), "leave" | "leaves" | "leaving")) => return None,
        "behind" if matches!(ranking.after(1), "it" | "them" | "this" | "that" | "us") => return None,
        "rule" | "exception" if is_predicate(ranking) && !ranking.reading.classes.is_empty() => {
            if word == "rule" {
                Rank::majority()
            } else {
                Rank::new(Frequency, false, Superlative)
            }
        }
        "behind" if !matches!(ranking.before(1), "stands" | "stand" | "is") || ranking.after(1) == "," => {
            Rank::new(Frequency, false, Comparative)
        }
        "scarcer" | "rarer" => Rank::new(Frequency, false, Comparative),
        "commonest" => Rank::new(Frequency, true, Superlative),
        "rarest" => Rank::new(Frequency, false, Superlative),
        "longer" | "lengthier" | "wordier" if compares_classes(ranking) => Rank::new(Length, true, Comparative),
        "shorter" | "briefer" | "terser" if compares_classes(ranking) => Rank::new(Length, false, Comparative),
        "longest" | "lengthiest" | "wordiest" if !tail_near(ranking.reading) => Rank::new(Length, true, Superlative),
        "shortest" | "briefest" | "tersest" if !tail_near(ranking.reading) => Rank::new(Length, false, Superlative),
        "length" if ranking.before(1) == "greater" => return None,
        "surer" => Rank::new(Confidence, true, Comparative),
        "surest" => Rank::new(Confidence, true, Superlative),
        "greater" if ranking.after(1) == "length" => Rank::new(Length, true, Comparative).of(2),
        "higher" | "larger" | "greater" | "bigger" if !is_loose(ranking) => Rank::new(None, true, Comparative),
        "lower" | "smaller" if !is_loose(ranking) => Rank::new(None, false, Comparative),
        "exceed" | "exceeds" | "surpass" | "surpasses" | "exceeding" if !figure_follows(ranking, 2) => {
            Rank::new(None, true, Verb)
        }
        "above" if stats_around(ranking) => Rank::new(None, true, Comparative),
        "below" if stats_around(ranking) => Rank::new(None, false, Comparative),
        "highest" | "largest" | "greatest" | "biggest" if !is_loose(ranking) => Rank::new(None, true, Superlative),
        "lowest" | "smallest" if !is_loose(ranking) => Rank::new(None, false, Superlative),
        _ => return None,
    })
}

/// "Spoilers are the rule", not "as a rule".
fn is_predicate(ranking: &Ranking<'_, '_>) -> bool {
    let article = matches!(ranking.before(1), "the" | "an");
    article && matches!(ranking.before(2), "are" | "is" | "were" | "was" | "remain" | "form")
}

fn most(ranking: &Ranking<'_, '_>) -> Option<Rank> {
    use Grammar::Superlative;
    let (before, next) = (ranking.before(1), ranking.after(1));
    if before == "at" {
        return None;
    }
    match next {
        "frequent" | "common" | "numerous" | "prevalent" => {
            Some(Rank::new(Dimension::Frequency, true, Superlative).of(2))
        }
        "confident" | "certain" | "sure" | "confidently" if class_near(ranking, 6) => {
            Some(Rank::new(Dimension::Confidence, true, Superlative).of(2))
        }
        "of" | "are" | "were" | "reviewers" => Some(Rank::majority()),
        _ if ranking.knowledge.is_item(next) => Some(Rank::majority()),
        _ => None,
    }
}

fn more(ranking: &Ranking<'_, '_>) -> Option<Rank> {
    use Dimension::{Confidence, Frequency, Length, Unmeasured};
    use Grammar::{Comparative, Quantified, Superlative};
    let (word, next) = (ranking.after(0), ranking.after(1));
    let form = if word == "least" { Superlative } else { Comparative };
    let more = word == "more";
    if word == "least" && ranking.before(1) == "at" {
        return None;
    }
    match next {
        "frequent" | "common" | "numerous" | "prevalent" | "often" | "frequently" => {
            Some(Rank::new(Frequency, more, form).of(2))
        }
        "confident" | "certain" | "sure" | "confidently" | "confidence" | "assured" if class_near(ranking, 14) => {
            Some(Rank::new(Confidence, more, form).of(2))
        }
        "uncertain" | "unsure" if class_near(ranking, 14) => Some(Rank::new(Confidence, !more, form).of(2)),
        "words" if compares_classes(ranking) => Some(Rank::new(Length, more, form).of(2)),
        "verbose" | "wordy" | "expansive" | "lengthy" | "elaborate" => Some(Rank::new(Length, more, form).of(2)),
        "concise" | "brief" | "terse" | "succinct" | "compact" => Some(Rank::new(Length, !more, form).of(2)),
        "varied" | "diverse" | "vocabulary" => Some(Rank::new(Unmeasured, more, form).of(2)),
        // "Trusts itself more with ..." counts nothing.
        "with" | "on" | "when" | "about" => None,
        "or" | "than" if more => {
            // "13 words more than the positive ones".
            let counted = ranking
                .reading
                .figures
                .iter()
                .any(|figure| figure.tokens.end + 1 >= ranking.at && figure.tokens.end <= ranking.at);
            // "213 words, 26 more than the others".
            let figures = &ranking.reading.figures;
            let own = figures.iter().position(|figure| figure.tokens.end == ranking.at);
            let elided = own.is_some_and(|own| {
                own > 0 && figures[own].unit == Spoken::Bare && figures[own - 1].unit == Spoken::Words
            });
            let words = ranking.before(1) == "words" || elided;
            (next == "than" && (counted || words) && !figure_follows(ranking, 4))
                .then(|| Rank::new(if words { Length } else { Frequency }, more, form))
        }
        _ => {
            let than = (1..14).any(|ahead| ranking.after(ahead) == "than");
            let counted = class_near(ranking, 2) || ranking.knowledge.is_item(next) || next == "of";
            (than && counted).then(|| Rank::new(Frequency, more, Quantified))
        }
    }
}

/// Whether a class is named in the next words.
fn class_near(ranking: &Ranking<'_, '_>, ahead: usize) -> bool {
    let near = ranking.at + 1..ranking.at + 1 + ahead;
    let before = ranking.at.saturating_sub(ahead)..ranking.at;
    let labels = &ranking.reading.classes;
    labels.iter().any(|label| near.contains(&label.tokens.start))
        || ahead > 3 && labels.iter().any(|label| before.contains(&label.tokens.start))
}

/// "Longer than 447 words" and "one in ten is longer" speak of a percentile, "no longer" of none.
fn compares_classes(ranking: &Ranking<'_, '_>) -> bool {
    let range =
        matches!(ranking.before(1), "no" | "or" | "any") || figure_follows(ranking, 3) && ranking.after(1) == "than";
    !range && !tail_near(ranking.reading)
        || ranking.reading.classes.iter().any(|label| {
            let segment = |at: usize| ranking.reading.segment.get(at).copied();
            !range && segment(label.tokens.start) == segment(ranking.at)
        })
}

fn tail_near(reading: &Reading<'_>) -> bool {
    reading.figures.iter().any(|figure| {
        figure.unit == Spoken::Percent && figure.form == Form::Fraction || figure.form == Form::Percentile
    })
}

/// Whether a figure of its own follows, without a class between.
fn figure_follows(ranking: &Ranking<'_, '_>, ahead: usize) -> bool {
    let near = ranking.at + 1..ranking.at + 1 + ahead;
    let labelled = class_near(ranking, ahead + 3)
        && ranking
            .reading
            .classes
            .iter()
            .any(|label| label.tokens.start > ranking.at && label.tokens.start < ranking.at + ahead + 5);
    !labelled
        && ranking
            .reading
            .figures
            .iter()
            .any(|figure| near.contains(&figure.tokens.start))
}

/// "A larger sample", "lower bound": nothing is ranked.
fn is_loose(ranking: &Ranking<'_, '_>) -> bool {
    const NOUNS: &str = "sample samples bound end limit corpus collection picture number part detail scale body figure care context classes";
    let held = ranking.reading.classes.iter().any(|label| {
        ranking.reading.segment[label.tokens.start.min(ranking.reading.segment.len() - 1)] == ranking.segment()
    });
    is_one_of(ranking.after(1), NOUNS) && !(held && matches!(ranking.after(1), "number" | "part"))
}

fn stats_around(ranking: &Ranking<'_, '_>) -> bool {
    let own = ranking.reading.in_segment(&ranking.reading.stats, ranking.segment());
    own.iter().any(|label| label.tokens.start < ranking.at) && own.iter().any(|label| label.tokens.start > ranking.at)
}

/// "Positive reviews lead": no article or adjective before.
fn is_verb(ranking: &Ranking<'_, '_>) -> bool {
    let before = ranking.at.checked_sub(1);
    let named = ranking
        .reading
        .classes
        .iter()
        .any(|label| Some(label.tokens.end) == before.map(|at| at + 1));
    let noun = matches!(
        ranking.before(1),
        "side" | "ones" | "class" | "they" | "camp" | "voices" | "reviewers"
    );
    let plural = ranking.knowledge.is_item(ranking.before(1));
    let then = matches!(ranking.after(1), "by" | "the" | "with" | "over" | "," | "." | "");
    (noun || plural || named) && then && ranking.after(1) != "of"
}

/// "Positive reviews hold a lead", "the positive lead", "the lead of the positive class".
fn is_held(ranking: &Ranking<'_, '_>) -> bool {
    let verbs = (1..=5).any(|back| {
        matches!(
            ranking.before(back),
            "have"
                | "has"
                | "hold"
                | "holds"
                | "holding"
                | "enjoy"
                | "enjoys"
                | "keep"
                | "keeps"
                | "take"
                | "takes"
                | "in"
                | "with"
        )
    });
    let labels = &ranking.reading.classes;
    let adjective = labels
        .iter()
        .any(|label| label.tokens.end == ranking.at || label.tokens.end + 2 == ranking.at && ranking.before(1) == "'s");
    let owned = matches!(ranking.after(1), "of" | "for")
        && labels
            .iter()
            .any(|label| (ranking.at + 2..ranking.at + 4).contains(&label.tokens.start));
    let subject = labels.iter().any(|label| label.tokens.end <= ranking.at);
    adjective || owned || verbs && subject && ranking.before(1) != "with"
}
