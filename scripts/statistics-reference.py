#!/usr/bin/env python3
"""Reference values of the rollout's statistics, by SciPy and statsmodels instead of our own code.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install scipy statsmodels
    /tmp/venv/bin/python scripts/statistics-reference.py > crates/rollout/tests/statistics/reference.json

Each function here is another way to the same number: ratios of SciPy's probabilities where the crate sums logarithms,
integrals where it has closed forms, a scan of all ranks where it bisects. crates/rollout/tests/statistics compares them.
"""

import json

import numpy as np
from scipy import integrate, optimize, stats
from scipy.spatial.distance import jensenshannon
from scipy.special import logsumexp
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa

WORSE = [(1.5, 0.1), (2.0, 0.3), (3.0, 0.2), (5.0, 0.2), (10.0, 0.2)]
BETTER = [(0.5, 0.25), (0.75, 0.25), (1.0, 0.25), (1.1, 0.25)]
HORIZON = 19.3


def share(ratio, weight):
    """Odds of the candidate's share, times the ratio."""
    odds = weight / (1 - weight) * ratio
    return odds / (1 + odds)


def likelihood_ratio(slices, null, alternatives):
    def likelihood(ratio):
        return sum(stats.binom.logpmf(c, c + s, share(ratio, w)) for w, c, s in slices)

    logs = [likelihood(ratio) for ratio, _ in alternatives]
    return logsumexp(logs, b=[prior for _, prior in alternatives]) - likelihood(null)


def horizon_bet(slices, target):
    capital, used = 1.0, 0.0
    for weight, candidate, stable in slices:
        variance = weight * (1 - weight)
        size = int(np.ceil(max(HORIZON - used, 0.0) / variance))
        events = candidate + stable
        used += events * variance
        tails = stats.binom.sf(np.arange(size + 1) - 1, size, weight)
        enough = np.flatnonzero(tails <= capital / target)
        if capital == 0.0 or capital >= target or len(enough) == 0:
            continue
        enough = enough[0]
        if events <= size:
            value = stats.binom.sf(enough - candidate - 1, size - events, weight)
        else:
            value = float(candidate - (events - size) >= enough)
        capital *= value / tails[enough]
    return capital


def rate(count, n, null, multiples):
    odds = null / (1 - null) * np.array(multiples)
    return logsumexp(stats.binom.logpmf(count, n, odds / (1 + odds)), b=1 / len(multiples)) - stats.binom.logpmf(
        count, n, null
    )


def upper_bound(count, n, alpha):
    def excess(p):
        return stats.betabinom.logpmf(count, n, 0.5, 0.5) - stats.binom.logpmf(count, n, p) + np.log(alpha)

    return optimize.brentq(excess, max(count / n, 1e-12), 1 - 1e-12)


def ranks(p, n, alpha):
    k = np.arange(n + 1)
    evidence = stats.betabinom.logpmf(k, n, 40 * p, 40 * (1 - p)) - stats.binom.logpmf(k, n, p)
    kept = np.flatnonzero(evidence < -np.log(alpha))
    return [int(kept[0]) or None, int(kept[-1]) + 1 if kept[-1] < n else None]


def mixture(score, information, prior_variance):
    """The likelihood ratio of a Brownian motion with a drift, averaged over a normal drift."""

    def log(drift):
        return drift * score - drift**2 * information / 2 + stats.norm.logpdf(drift, scale=np.sqrt(prior_variance))

    posterior = 1 / (information + 1 / prior_variance)
    middle, width = posterior * score, 12 * np.sqrt(posterior)
    top = log(middle)
    value, _ = integrate.quad(lambda drift: np.exp(log(drift) - top), middle - width, middle + width, epsrel=1e-11)
    return top + np.log(value)


def rho_squared(alpha):
    return (-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))) / 500


def moments(values):
    return {"count": len(values), "sum": float(np.sum(values)), "sum_of_squares": float(np.sum(np.square(values)))}


def mean_cases(rng):
    for mean, deviation, n, null, alpha in [
        (-0.15, 0.3, 200, -0.1, 0.0005),
        (0.0, 0.2, 60, -0.1, 0.05),
        (0.4, 1.0, 1000, 0.3, 0.01),
        (0.05, 0.01, 40, 0.2, 0.05),
    ]:
        values = rng.normal(mean, deviation, n)
        variance = np.var(values, ddof=1)
        information = n / variance
        score = np.sum(values - null) / variance
        yield {
            "values": moments(values),
            "null": null,
            "alpha": alpha,
            "estimate": float(np.mean(values)),
            "ln_e": mixture(score, information, rho_squared(alpha) * variance),
            "is_above": bool(score > 0),
        }


def difference_cases(rng):
    for sizes, shift, null, alpha in [
        ([(900, 40), (500, 200)], -0.12, -0.1, 0.01),
        ([(300, 35)], 0.1, 0.0, 0.05),
    ]:
        slices = [
            (rng.normal(0.7 + 0.1 * i, 0.2, s), rng.normal(0.7 + 0.1 * i + shift, 0.25, c))
            for i, (s, c) in enumerate(sizes)
        ]
        information = [1 / (np.var(s, ddof=1) / len(s) + np.var(c, ddof=1) / len(c)) for s, c in slices]
        differences = [np.mean(c) - np.mean(s) for s, c in slices]
        information, count = sum(information), sum(len(c) for _, c in slices)
        score = sum(i * (d - null) for i, d in zip(information, differences))
        yield {
            "slices": [[moments(s), moments(c)] for s, c in slices],
            "null": null,
            "alpha": alpha,
            "estimate": float(np.average(differences, weights=information)),
            "ln_e": mixture(score, information, rho_squared(alpha) * count / information),
            "is_above": bool(score > 0),
        }


def pairs_of_labels(table):
    table = np.array(table)
    return {
        "confusion": table.flatten().tolist(),
        "kappa": cohens_kappa(table).kappa,
        "jensen_shannon_distance": jensenshannon(table.sum(axis=1), table.sum(axis=0), base=2),
    }


def main():
    rng = np.random.default_rng(5)
    slices = [
        [(0.05, 0, 3)],
        [(0.05, 40, 380)],
        [(0.05, 21, 395)],
        [(0.01, 2, 98), (0.05, 4, 80), (0.25, 9, 20), (0.5, 7, 9)],
        [(0.01, 3, 150), (0.05, 30, 260)],
        [(0.05, 28, 390), (0.5, 30, 2)],
        [(0.25, 3, 4), (0.5, 60, 40)],
    ]
    reference = {
        "likelihood_ratio": [
            {"slices": s, "worse": likelihood_ratio(s, 1, WORSE), "better": likelihood_ratio(s, 1.5, BETTER)}
            for s in slices
        ],
        "horizon_bet": [
            {"slices": s, "target": t, "e": horizon_bet(s, t)} for s in slices for t in (20.0, 26.14, 200.0)
        ],
        "rate": [
            {
                "count": k,
                "all": n,
                "null": p,
                "above": rate(k, n, p, [1.5, 2, 3, 5, 10]),
                "below": rate(k, n, p, [1e-300, 0.1, 0.25, 0.5, 0.75]),
                "upper_bound": upper_bound(k, n, 0.01),
            }
            for k, n, p in [
                (0, 100, 0.005),
                (3, 1000, 0.005),
                (60, 200, 0.25),
                (190, 200, 0.5),
                (1, 7, 0.1),
                (12, 90000, 0.001),
            ]
        ],
        "more_often": [
            {
                "first": a,
                "second": b,
                "ln_e": logsumexp(stats.binom.logpmf(a, a + b, [0.6, 0.7, 0.8, 0.9]), b=0.25)
                - stats.binom.logpmf(a, a + b, 0.5),
                "p_two_sided": float(mcnemar([[0, a], [b, 0]], exact=True).pvalue),
            }
            for a, b in [(8, 1), (30, 12), (5, 5), (200, 150), (3, 40)]
        ],
        "ranks": [
            {"p": p, "all": n, "alpha": a, "ranks": ranks(p, n, a)}
            for p in (0.5, 0.95, 0.99, 0.1)
            for n in (1, 10, 150, 1000, 20000)
            for a in (0.05, 0.0005)
        ],
        "mean": list(mean_cases(rng)),
        "difference": list(difference_cases(rng)),
        "shares": [
            {
                "count": k,
                "all": n,
                "null": p,
                "wanted": w,
                "concentration": c,
                "ln_e": stats.betabinom.logpmf(k, n, c * w, c * (1 - w)) - stats.binom.logpmf(k, n, p),
            }
            for k, n, p, w, c in [
                (50, 1000, 0.05, 0.05, 1e4),
                (700, 10000, 0.05, 0.05, 1e4),
                (30, 100, 0.073, 0.05, 10),
                (0, 500, 0.2, 0.25, 10),
            ]
        ],
        "pairs_of_labels": [
            pairs_of_labels(t) for t in ([[20, 5], [10, 15]], [[0, 50], [40, 0]], [[30, 2, 1], [0, 25, 4], [3, 3, 60]])
        ],
    }
    parts = (f'"{name}": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]" for name, cases in reference.items())
    print("{\n" + ",\n".join(parts) + "\n}")


if __name__ == "__main__":
    main()
