//! How reports say numbers.

/// With commas between thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// E.g. "2.1%"; with more digits where it is small.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent.abs() >= 0.1 {
        format!("{percent:.1}%")
    } else {
        format!("{percent:.3}%")
    }
}

/// E.g. "2.1% of 812".
pub(super) fn rate(hits: u64, all: u64) -> String {
    format!("{} of {}", percent(share(hits, all)), count(all))
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
pub(super) fn share(hits: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { hits as f64 / all as f64 }
}

/// E.g. "12.3 ms", "1.20 s".
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.2} s")
    }
}
