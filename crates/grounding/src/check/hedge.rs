//! "About", "nearly", "more than": what they let a figure be.

use std::ops::Range;

use super::number::{Figure, Form};
use super::token::{Kind, Token};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hedge {
    None,
    About,
    /// A little less than the figure.
    Nearly,
    /// A little more than the figure.
    JustOver,
    Over,
    AtLeast,
    Under,
    AtMost,
}

/// How the text hedges the figure at these tokens.
pub(super) fn hedge(tokens: &[Token<'_>], figure: &Range<usize>) -> Hedge {
    let word = |back: usize| {
        let index = figure.start.checked_sub(back);
        index
            .and_then(|index| tokens.get(index))
            .map_or("", |token| token.lower.as_str())
    };
    let after = |ahead: usize| tokens.get(figure.end + ahead).map_or("", |token| token.lower.as_str());
    let slightly = |back: usize| {
        matches!(
            word(back),
            "just" | "slightly" | "marginally" | "barely" | "fractionally"
        ) || matches!(word(back), "little" | "bit" | "shade" | "touch" | "hair") && word(back + 1) == "a"
    };
    let negated = |back: usize| matches!(word(back), "no" | "not");
    match word(1) {
        "about" | "around" | "roughly" | "approximately" | "approx" | "some" | "circa" | "ca" | "~" | "≈" | "near" => {
            Hedge::About
        }
        "to" if word(2) == "close" => Hedge::About,
        "on" | "upon" if word(2) == "close" => Hedge::About,
        "like" if word(2) == "something" => Hedge::About,
        "for" if word(2) == "on" && word(3) == "getting" => Hedge::Nearly,
        "of" => match word(2) {
            "short" | "shy" if matches!(word(3), "far" | "much" | "not") => Hedge::About,
            "short" | "shy" if slightly(3) => Hedge::Nearly,
            "short" | "shy" => Hedge::Under,
            "region" | "neighbourhood" | "neighborhood" | "vicinity" => Hedge::About,
            "upwards" | "upward" | "north" | "excess" => Hedge::Over,
            _ => Hedge::None,
        },
        "nearly" | "almost" | "practically" | "virtually" => Hedge::Nearly,
        "even" if word(2) == "not" => Hedge::Under,
        "quite" if word(2) == "not" => Hedge::Nearly,
        "over"
            if ["hesitat", "waver", "stumbl", "puzzl", "agoni"]
                .iter()
                .any(|verb| word(2).starts_with(verb)) =>
        {
            Hedge::None
        }
        "good" if word(2) == "a" => Hedge::JustOver,
        "over" | "above" if slightly(2) => Hedge::JustOver,
        "after" | "past" | "beyond" if slightly(2) => Hedge::JustOver,
        "before" if slightly(2) => Hedge::Nearly,
        "under" | "below" | "short" if slightly(2) => Hedge::Nearly,
        "over" | "above" | "exceeding" | "exceed" | "exceeds" | "beyond" => Hedge::Over,
        "under" | "below" => Hedge::Under,
        "least" if word(2) == "at" => Hedge::AtLeast,
        "most" if word(2) == "at" => Hedge::AtMost,
        "to" if word(2) == "up" => Hedge::AtMost,
        "than" => match word(2) {
            "more" if slightly(3) => Hedge::JustOver,
            "less" | "fewer" if slightly(3) => Hedge::Nearly,
            "more" if negated(3) => Hedge::AtMost,
            "less" | "fewer" if negated(3) => Hedge::AtLeast,
            "more" => Hedge::Over,
            "less" | "fewer" => Hedge::Under,
            _ => Hedge::None,
        },
        _ if after(0) == "or" && matches!(after(1), "so" | "thereabouts") => Hedge::About,
        _ if is_loose(tokens, figure.end) => Hedge::About,
        _ => Hedge::None,
    }
}

/// "One in four reviews, give or take".
fn is_loose(tokens: &[Token<'_>], end: usize) -> bool {
    const APART_TOKENS_MAX: usize = 6;
    let rest = tokens.get(end..).unwrap_or_default();
    let near = rest
        .iter()
        .take(APART_TOKENS_MAX)
        .take_while(|token| token.kind != Kind::Number);
    let words: Vec<&str> = near.map(|token| token.lower.as_str()).collect();
    words
        .windows(3)
        .any(|words| matches!(words, ["give", "or", "take"] | ["more", "or", "less"]))
}

/// Whether a figure of the text may stand for a value of the sheet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoken {
    pub(super) value: f64,
    /// Digits after the point.
    pub(super) decimals: usize,
    pub(super) hedge: Hedge,
    /// "Half" and "two thirds" are coarser than digits.
    pub(super) fraction: bool,
}

impl Spoken {
    pub(super) fn of(figure: &Figure) -> Self {
        Self {
            value: figure.value,
            decimals: figure.decimals,
            hedge: figure.hedge,
            fraction: figure.form == Form::Fraction,
        }
    }

    /// `exact` is the value as measured, `shown` with how many decimals the sheet shows it.
    pub(super) fn fits(self, exact: f64, shown: usize) -> bool {
        let displayed = round(exact, shown);
        if self.fraction {
            return self.fraction_fits(exact);
        }
        if self.rounds(exact, displayed, shown) {
            return self.on_its_side(exact);
        }
        let relative = (exact - self.value) / self.value.abs().max(f64::MIN_POSITIVE);
        match self.hedge {
            Hedge::None => false,
            Hedge::About => self.coarsely(exact),
            Hedge::Nearly => (-0.07..0.0).contains(&relative) && self.within_step(exact),
            Hedge::JustOver => relative > 0.0 && relative <= 0.07 && self.within_step(exact),
            Hedge::Over | Hedge::AtLeast => {
                relative > 0.0 && (self.within_step(exact) || self.is_round() && relative <= 1.0)
            }
            Hedge::Under | Hedge::AtMost => {
                relative < 0.0 && (relative >= -0.75 && self.within_step(exact) || self.is_round() && relative >= -0.5)
            }
        }
    }

    /// Rounded at the precision of the text, from what was measured or from what the sheet shows, half up or half even.
    fn rounds(self, exact: f64, displayed: f64, shown: usize) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(1.0);
        if near(self.value, displayed) || near(self.value, round(exact, self.decimals)) {
            return true;
        }
        // Halves may go either way.
        let step = power(self.decimals).recip();
        let half = (displayed - self.value).abs() <= step / 2.0 + 1e-9 * displayed.abs().max(1.0);
        self.decimals < shown && half
    }

    /// A figure that is right at its own precision can still be on the wrong side of "over".
    fn on_its_side(self, exact: f64) -> bool {
        match self.hedge {
            Hedge::None | Hedge::About => true,
            Hedge::Over | Hedge::JustOver => exact > self.value,
            Hedge::Under | Hedge::Nearly => exact < self.value,
            Hedge::AtLeast => exact >= self.value - 1e-9,
            Hedge::AtMost => exact <= self.value + 1e-9,
        }
    }

    fn fraction_fits(self, exact: f64) -> bool {
        let difference = exact - self.value;
        match self.hedge {
            Hedge::None => difference.abs() <= (self.value * 0.05).min(2.0),
            Hedge::About => difference.abs() <= (self.value * 0.12).min(5.0),
            Hedge::Nearly => difference < 0.0 && -difference <= (self.value * 0.12).min(5.0),
            Hedge::JustOver => difference > 0.0 && difference <= (self.value * 0.12).min(5.0),
            Hedge::Over | Hedge::AtLeast => difference > 0.0,
            Hedge::Under | Hedge::AtMost => difference < 0.0,
        }
    }

    /// "About 450" for 447, "some 20,000" for 19,949: right at the figure's own coarseness.
    fn coarsely(self, exact: f64) -> bool {
        if self.decimals > 0 {
            return false;
        }
        let step = self.step();
        let tens =
            step > 1.0 && (exact - self.value).abs() <= step / 2.0 && (exact - self.value).abs() <= self.value * 0.1;
        let fives =
            (self.value / (step * 5.0)).fract().abs() < 1e-9 && (exact - self.value).abs() <= self.value * 0.012;
        tens || fives
    }

    /// The place of the last digit that is not zero: 10 of 450, 10,000 of 20,000.
    fn step(self) -> f64 {
        let mut step = 1.0;
        while step < self.value && (self.value / (step * 10.0)).fract().abs() < 1e-9 {
            step *= 10.0;
        }
        step
    }

    /// No further off than the figure is coarse.
    fn within_step(self, exact: f64) -> bool {
        let step = if self.decimals > 0 {
            power(self.decimals).recip()
        } else {
            self.step()
        };
        let fives = self.decimals == 0 && (self.value / (step * 5.0)).fract().abs() < 1e-9;
        (exact - self.value).abs() <= if fives { step * 5.0 } else { step } + 1e-9
    }

    /// At most two digits that count, below a hundred fives: 200, 450, 50.
    fn is_round(self) -> bool {
        if (12.0..100.0).contains(&self.value) && (self.value / 5.0).fract() > 1e-9 {
            return false;
        }
        let mut value = self.value;
        while value >= 100.0 && (value / 10.0).fract().abs() < 1e-9 {
            value /= 10.0;
        }
        self.decimals == 0 && value < 100.0
    }
}

pub(super) fn round(value: f64, decimals: usize) -> f64 {
    let factor = power(decimals);
    (value * factor).round() / factor
}

fn power(decimals: usize) -> f64 {
    10_f64.powi(i32::try_from(decimals.min(15)).unwrap_or(15))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(value: f64, decimals: usize, hedge: Hedge, exact: f64, shown: usize) -> bool {
        let fraction = false;
        let spoken = Spoken {
            value,
            decimals,
            hedge,
            fraction,
        };
        spoken.fits(exact, shown)
    }

    #[test]
    fn a_figure_is_right_at_its_own_precision() {
        assert!(fits(54.1, 1, Hedge::None, 54.0909, 1));
        assert!(fits(54.0, 0, Hedge::None, 54.0909, 1));
        assert!(fits(54.09, 2, Hedge::None, 54.0909, 1));
        assert!(!fits(55.0, 0, Hedge::None, 54.0909, 1));
        assert!(!fits(54.2, 1, Hedge::None, 54.0909, 1));
        // Halves go either way, from what the sheet shows too.
        assert!(fits(54.0, 0, Hedge::None, 54.5, 1) && fits(55.0, 0, Hedge::None, 54.5, 1));
        assert!(fits(55.0, 0, Hedge::None, 54.46, 1));
        assert!(!fits(20_000.0, 0, Hedge::None, 19_949.0, 0));
    }

    #[test]
    fn a_hedge_says_on_which_side() {
        assert!(fits(20_000.0, 0, Hedge::About, 19_949.0, 0));
        assert!(!fits(21_000.0, 0, Hedge::About, 19_949.0, 0));
        assert!(!fits(55.0, 0, Hedge::About, 54.1, 1));
        assert!(fits(450.0, 0, Hedge::Nearly, 447.0, 0));
        assert!(!fits(450.0, 0, Hedge::Nearly, 453.0, 0));
        assert!(fits(50.0, 0, Hedge::Over, 54.1, 1));
        assert!(!fits(60.0, 0, Hedge::Over, 54.1, 1));
        assert!(!fits(119.0, 0, Hedge::Over, 119.0, 0));
        assert!(fits(120.0, 0, Hedge::Under, 119.0, 0));
    }
}
