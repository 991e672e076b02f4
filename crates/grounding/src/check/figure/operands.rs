//! "At 352 words, the 90th percentile is about twice the median of 174": what follows from what the sentence names.

use crate::check::Verdict;
use crate::check::bind::DIFFERENCE;
use crate::check::hedge;
use crate::check::knowledge::{About, Origin, Stat, Topic};
use crate::check::number::{Figure, Form, Spoken};
use crate::sheet::Unit;

use super::{Asked, ratio_fits};

/// Sentences of more figures are not searched.
const OPERANDS_MAX: usize = 12;

/// A value that the sentence names, and where.
struct Operand {
    start: usize,
    value: f64,
    decimals: usize,
}

impl Asked<'_, '_> {
    /// A multiple or a difference of two values that the sentence names; each of these is a claim of its own.
    pub(super) fn of_operands(&self) -> Option<Verdict> {
        let figure = self.figure();
        if figure.form == Form::Times {
            let fits = [Spoken::Words, Spoken::Items, Spoken::Percent]
                .iter()
                .any(|unit| self.is_multiple(&self.operands(*unit)));
            return (fits || self.is_multiple(&self.statistics())).then(|| supported("ratio of what is named"));
        }
        let lead = self.reading.has_word("lead leads leading");
        let unit = match figure.unit {
            Spoken::Points if !lead => Spoken::Percent,
            Spoken::Bare if figure.decimals > 0 && self.reading.has_word(DIFFERENCE) => Spoken::Bare,
            Spoken::Items | Spoken::Words if !lead && self.compares() => figure.unit,
            _ => return None,
        };
        self.is_difference(figure, &self.operands(unit))
            .then(|| supported("difference of what is named"))
    }

    /// The figures of the sentence in this unit.
    fn operands(&self, unit: Spoken) -> Vec<Operand> {
        let is = |figure: &&Figure| {
            let bare = figure.unit == Spoken::Bare && unit == Spoken::Words && figure.decimals == 0;
            matches!(figure.form, Form::Digits | Form::Words)
                && (figure.unit == unit || bare)
                && figure.tokens != self.figure().tokens
        };
        let figures = self.reading.figures.iter().filter(is).take(OPERANDS_MAX);
        figures
            .map(|figure| Operand {
                start: figure.tokens.start,
                value: figure.value,
                decimals: figure.decimals,
            })
            .collect()
    }

    /// The statistics of the length of all that the sentence names.
    fn statistics(&self) -> Vec<Operand> {
        if !self.reading.classes.is_empty() {
            return Vec::new();
        }
        let labels = self.reading.stats.iter().filter(|label| label.what.len() == 1);
        let named = labels.flat_map(|label| label.what.iter().map(|stat| (label.tokens.start, *stat)));
        let known = |stat: Stat| {
            let known = self.knowledge.given(Topic::Length, stat, About::Whole, Unit::Words)?;
            Some((known.value, known.decimals))
        };
        named
            .take(OPERANDS_MAX)
            .filter_map(|(start, stat)| known(stat).map(|(value, decimals)| Operand { start, value, decimals }))
            .collect()
    }

    /// What stands before "twice" is the greater one, where one stands on each side.
    fn is_multiple(&self, operands: &[Operand]) -> bool {
        let at = self.figure().tokens.start;
        operands.iter().any(|high| {
            operands.iter().any(|low| {
                let turned = low.start < at && at < high.start;
                !turned && low.value > 0.0 && high.value > low.value && self.times(high.value / low.value)
            })
        })
    }

    fn times(&self, value: f64) -> bool {
        let any = self.knowledge.known.first().cloned();
        any.is_some_and(|known| {
            let ratio = crate::check::knowledge::Known {
                value,
                decimals: 2,
                unit: Unit::None,
                kind: Origin::Ratio,
                ..known
            };
            ratio_fits(self.figure(), &ratio)
        })
    }

    fn is_difference(&self, figure: &Figure, operands: &[Operand]) -> bool {
        let spoken = hedge::Spoken::of(figure);
        operands.iter().enumerate().any(|(index, one)| {
            operands[index + 1..].iter().any(|other| {
                let decimals = one.decimals.max(other.decimals);
                let difference = hedge::round((one.value - other.value).abs(), decimals);
                difference > 0.0 && spoken.fits(difference, decimals)
            })
        })
    }
}

fn supported(fact: &str) -> Verdict {
    Verdict::Supported { fact: fact.to_owned() }
}
