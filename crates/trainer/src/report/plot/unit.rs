//! Numbers at an axis.

/// How an axis's numbers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Unit {
    /// As they are.
    #[default]
    Number,
    /// A share as per cent.
    Percent,
}

impl Unit {
    /// A tick of an axis of this span, with as many decimals as tell it from the next one.
    pub(super) fn write(self, value: f64, span: f64) -> String {
        // What a computed tick is away from zero would become a sign.
        let value = if value.abs() < span * 1e-6 { 0.0 } else { value };
        match self {
            Self::Percent => format!("{:.*}%", decimals(100.0 * span), 100.0 * value),
            Self::Number if span < 0.005 && value.abs() < 0.01 => scientific(value),
            Self::Number if span >= 5.0 => thousands(value),
            Self::Number => format!("{value:.*}", decimals(span)),
        }
    }
}

/// Ticks are an eighth of the span apart or more, and on round numbers: from a span of 5 on, whole ones tell them apart.
fn decimals(span: f64) -> usize {
    let enough = |&decimals: &i32| span * 10_f64.powi(decimals) >= 5.0;
    (0..9)
        .find(enough)
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(9)
}

fn scientific(value: f64) -> String {
    let text = format!("{value:.2e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if value != 0.0 => {
            format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => "0".to_owned(),
    }
}

pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::Unit::{Number, Percent};

    #[test]
    fn ticks_are_told_apart_and_no_longer_than_that_needs() {
        let ticks = |unit: super::Unit, values: [f64; 3], span| values.map(|value| unit.write(value, span));
        assert_eq!(ticks(Percent, [0.0, 0.02, 0.14], 0.16), ["0%", "2%", "14%"]);
        assert_eq!(ticks(Percent, [-0.005, -1e-18, 0.005], 0.03), ["-0.5%", "0.0%", "0.5%"]);
        assert_eq!(ticks(Number, [0.0, 5e-5, 5e-4], 5e-4), ["0", "5e-5", "5e-4"]);
        assert_eq!(
            ticks(Number, [0.8801, 0.8802, 0.8803], 0.0009),
            ["0.8801", "0.8802", "0.8803"]
        );
        assert_eq!(
            ticks(Number, [0.0, 2000.0, 1_234_567.0], 9e6),
            ["0", "2,000", "1,234,567"]
        );
        assert_eq!(ticks(Number, [0.15, 0.2, 0.25], 0.3), ["0.15", "0.20", "0.25"]);
    }
}
