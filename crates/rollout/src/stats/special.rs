//! Functions that the others need.

/// `ln Σ weight · e^log`.
pub(super) fn ln_sum_exp(terms: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let most = terms.clone().fold(f64::NEG_INFINITY, |most, (_, log)| most.max(log));
    if most.is_infinite() {
        return most;
    }
    most + terms.map(|(weight, log)| weight * (log - most).exp()).sum::<f64>().ln()
}

/// `ln B(a, b)`.
pub(super) fn ln_beta(a: f64, b: f64) -> f64 {
    libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b)
}

/// `count · ln(value)`, with 0 · ln 0 = 0.
pub(super) fn count_ln(count: f64, value: f64) -> f64 {
    if count == 0.0 { 0.0 } else { count * value.ln() }
}

/// `P(Bin(n, q) ≥ k)`, to full relative precision also where it is tiny.
#[expect(clippy::cast_precision_loss, reason = "probabilities")]
pub(super) fn binomial_tail(k: u64, n: u64, q: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if k > n {
        return 0.0;
    }
    let odds = q / (1.0 - q);
    let up = |at: u64| (n - at) as f64 / (at + 1) as f64 * odds;
    if (k as f64) <= n as f64 * q {
        // Most of it: less the terms below k, from the largest down.
        let mut term = binomial_at(k - 1, n, q);
        let mut below = term;
        for at in (0..k - 1).rev() {
            term /= up(at);
            below += term;
            if term < below * 1e-17 {
                break;
            }
        }
        return (1.0 - below).max(0.0);
    }
    let mut term = binomial_at(k, n, q);
    let mut tail = term;
    for at in k..n {
        term *= up(at);
        tail += term;
        if term < tail * 1e-17 {
            break;
        }
    }
    tail.min(1.0)
}

/// `P(Bin(n, q) = k)`.
#[expect(clippy::cast_precision_loss, reason = "probabilities")]
fn binomial_at(k: u64, n: u64, q: f64) -> f64 {
    let (k, n) = (k as f64, n as f64);
    let choose = -(n + 1.0).ln() - ln_beta(k + 1.0, n - k + 1.0);
    (choose + count_ln(k, q) + (n - k) * (-q).ln_1p()).exp()
}
