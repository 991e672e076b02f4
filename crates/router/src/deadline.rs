//! `grpc-timeout`: reading, shrinking, writing.

use std::time::Duration;

use http::HeaderValue;

/// The header's name.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Reads `grpc-timeout`: one to eight digits and a unit.
#[must_use]
pub fn parse(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes what is left, in the finest unit that eight digits hold, rounded down so that nobody gains time.
#[must_use]
pub fn format(left: Duration) -> HeaderValue {
    const EIGHT_DIGITS: u128 = 99_999_999;
    let text = if left.as_micros() <= EIGHT_DIGITS {
        format!("{}u", left.as_micros())
    } else if left.as_millis() <= EIGHT_DIGITS {
        format!("{}m", left.as_millis())
    } else {
        format!("{}S", u128::from(left.as_secs()).min(EIGHT_DIGITS))
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("0u"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Option<Duration> {
        parse(&HeaderValue::from_static(text))
    }

    #[test]
    fn reads_the_grammar_and_nothing_else() {
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        for bad in ["", "m", "5", "123456789m", "5s", "-1m", "1.5S", " 1m"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_never_more_and_hardly_less() {
        for nanos in [
            0,
            1,
            999,
            1_500,
            99_999_999_999,
            100_000_000_000,
            123_456_789_012_345,
            50_000_000_000_000_000,
        ] {
            let left = Duration::from_nanos(nanos);
            let back = parse(&format(left)).unwrap();
            assert!(
                back <= left
                    && (left - back <= Duration::from_micros(1)
                        || (left - back).as_secs_f64() < left.as_secs_f64() * 2e-5),
                "{left:?} {back:?}"
            );
        }
    }
}
