use super::special::{binomial_tail, ln_beta};

#[test]
fn tails_add_up() {
    let at = |k: i32, n: i32, q: f64| {
        (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product::<f64>() * q.powi(k) * (1.0 - q).powi(n - k)
    };
    for (n, q) in [(12, 0.3), (12, 0.95), (1, 0.5), (40, 0.01)] {
        for k in 0..=n {
            let sum: f64 = (k..=n).map(|i| at(i, n, q)).sum();
            let ours = binomial_tail(k.unsigned_abs().into(), n.unsigned_abs().into(), q);
            assert!((ours / sum - 1.0).abs() < 1e-9, "{k} of {n}, {q}: {ours} {sum}");
        }
    }
    assert!(binomial_tail(3, 2, 0.5).abs() < 1e-300);
    // Where 1 − P would have no digit left.
    assert!((binomial_tail(60, 60, 0.05) / 0.05_f64.powi(60) - 1.0).abs() < 1e-9);
}

#[test]
fn beta() {
    assert!((ln_beta(3.0, 4.0) - (1.0_f64 / 60.0).ln()).abs() < 1e-12);
}

#[test]
fn a_mean_of_e_values() {
    assert!(super::ln_mean(&[]).abs() < 1e-300);
    assert!((super::ln_mean(&[0.0, f64::NEG_INFINITY]) - 0.5_f64.ln()).abs() < 1e-12);
    assert!((super::ln_mean(&[1000.0, 1000.0]) - 1000.0).abs() < 1e-9);
    assert!(super::ln_mean(&[f64::INFINITY, 0.0]).is_infinite());
}
