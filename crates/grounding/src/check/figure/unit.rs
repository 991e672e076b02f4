//! Whether a figure is in the unit of a fact, and whether a multiple is right.

use crate::check::hedge::{self, Hedge};
use crate::check::knowledge::{Known, Origin, Topic};
use crate::check::number::{Figure, Form, Spoken};
use crate::sheet::Unit;

/// The figure in the unit of the fact with its decimals, if the text's unit lets it be.
pub(super) fn in_unit(figure: &Figure, known: &Known) -> Option<(f64, usize)> {
    let own = (figure.value, figure.decimals);
    let times = figure.form == Form::Times;
    let is = match known.unit {
        _ if times => known.kind == Origin::Ratio && known.unit == Unit::None,
        _ if known.kind == Origin::Ratio && known.unit == Unit::None => false,
        _ if figure.unit == Spoken::Foreign && known.unit == Unit::Items => {
            // "220 films" and "327 buyers" are as many reviews.
            figure.value >= 100.0 && (figure.value - known.value).abs() < 1e-9
        }
        _ if figure.unit == Spoken::Foreign => matches!(known.topic, Topic::Other(_)) && known.unit != Unit::Words,
        Unit::Percent => figure.unit == Spoken::Percent,
        Unit::PercentagePoints => {
            figure.unit == Spoken::Points
                || figure.form != Form::Fraction && matches!(figure.unit, Spoken::Percent | Spoken::Bare)
        }
        Unit::Items => matches!(figure.unit, Spoken::Items | Spoken::Bare),
        Unit::Words => matches!(figure.unit, Spoken::Words | Spoken::Bare),
        Unit::None if known.topic == Topic::Classes => figure.unit == Spoken::Classes,
        // A score of 0.93 is also "93%".
        Unit::None if figure.unit == Spoken::Percent && known.topic == Topic::Confidence => {
            return (figure.form != Form::Fraction).then_some((figure.value / 100.0, figure.decimals + 2));
        }
        // No score is as much as two.
        Unit::None if matches!(known.topic, Topic::Confidence | Topic::Ratio) && figure.value >= 2.0 => false,
        Unit::None => figure.unit == Spoken::Bare,
    };
    is.then_some(own)
}

/// "Twice as many" for 1.95 to 2.05; "1.2 times" as it rounds.
pub(super) fn ratio_fits(figure: &Figure, known: &Known) -> bool {
    let spoken = hedge::Spoken::of(figure);
    let relative = known.value / figure.value.max(f64::MIN_POSITIVE) - 1.0;
    if figure.decimals > 0 {
        // "About two and a half".
        let loosely = figure.hedge == Hedge::About && relative.abs() <= 0.04;
        return loosely || spoken.fits(known.value, known.decimals);
    }
    match figure.hedge {
        Hedge::None => relative.abs() <= 0.03,
        Hedge::About => relative.abs() <= 0.12,
        Hedge::Nearly => (-0.12..0.0).contains(&relative),
        Hedge::JustOver => relative > 0.0 && relative <= 0.12,
        Hedge::Over | Hedge::AtLeast => relative > 0.0 && relative < 1.0,
        Hedge::Under | Hedge::AtMost => relative < 0.0 && relative > -0.5,
    }
}
