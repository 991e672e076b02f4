#!/usr/bin/env python3
"""Reference values of a classifier's figures, by scikit-learn, SciPy, statsmodels and NumPy instead of our own code.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install scikit-learn scipy statsmodels
    /tmp/venv/bin/python scripts/evaluation-reference.py > crates/corpus/fixtures/evaluation.json

crates/corpus/src/metrics/tests.rs compares them.
"""

import json
import warnings

import numpy as np
from scipy import optimize, special, stats
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

BINS = 15


def draw(rng, classes, n, strength, decimals=None):
    """Logits that know something of the truth; rounded, some scores are equal."""
    shares = rng.dirichlet(np.full(classes, 3.0))
    truth = np.concatenate([np.arange(classes), rng.choice(classes, n - classes, p=shares)])
    logits = rng.normal(0, 1.5, (n, classes)) + strength * np.eye(classes)[truth]
    if decimals is not None:
        logits = np.round(logits, decimals)
    return truth, logits.astype(np.float32)


def areas(truth, probabilities, weights=None):
    classes = probabilities.shape[1]
    roc = [metrics.roc_auc_score(truth == c, probabilities[:, c], sample_weight=weights) for c in range(classes)]
    pr = [
        metrics.average_precision_score(truth == c, probabilities[:, c], sample_weight=weights) for c in range(classes)
    ]
    return [float(x) for x in roc], [float(x) for x in pr]


def brier(truth, probabilities, weights=None):
    classes = probabilities.shape[1]
    squares = ((probabilities - np.eye(classes)[truth]) ** 2).sum(axis=1)
    value = float(np.average(squares, weights=weights)) / (2 if classes == 2 else 1)
    if classes == 2:
        own = metrics.brier_score_loss(truth == 1, probabilities[:, 1], sample_weight=weights)
        assert abs(value - own) < 1e-6, (value, own)
    return value


def figures(truth, probabilities, weights=None):
    said = probabilities.argmax(axis=1)
    roc, pr = areas(truth, probabilities, weights)
    return {
        "accuracy": float(metrics.accuracy_score(truth, said, sample_weight=weights)),
        "f1": float(metrics.f1_score(truth, said, average="macro", sample_weight=weights)),
        "roc_auc": roc[1] if len(roc) == 2 else float(np.mean(roc)),
        "pr_auc": float(np.mean(pr)),
        "log_loss": float(metrics.log_loss(truth, probabilities, sample_weight=weights)),
        "brier": brier(truth, probabilities, weights),
    }


def calibration(truth, probabilities):
    said, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = said == truth
    # (a, b], as the bins of the crate are.
    bins = np.clip(np.ceil(confidence * BINS).astype(int), 1, BINS) - 1
    rows, gaps = [], []
    for b in range(BINS):
        inside = bins == b
        if inside.any():
            low, high = proportion_confint(right[inside].sum(), inside.sum(), method="wilson")
            rows.append(
                [b, int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()), low, high]
            )
            gaps.append((inside.mean(), right[inside].mean() - confidence[inside].mean()))
    return {
        "ece": float(sum(w * abs(g) for w, g in gaps)),
        "mce": float(max(abs(g) for _, g in gaps)),
        "overconfidence": float(confidence.mean() - right.mean()),
        "bins": rows,
    }


def temperature(truth, logits):
    def loss(ln):
        return metrics.log_loss(truth, special.softmax(logits.astype(np.float64) / np.exp(ln), axis=1))

    best = optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
    return {"temperature": float(np.exp(best.x)), "before": float(loss(0.0)), "after": float(best.fun)}


def curves(truth, probabilities, c):
    false_share, true_share, _ = metrics.roc_curve(truth == c, probabilities[:, c], drop_intermediate=False)
    precision, recall, _ = metrics.precision_recall_curve(truth == c, probabilities[:, c], drop_intermediate=False)
    # scikit-learn ends at recall 0 with precision 1, which no threshold gives.
    pr = list(zip(recall[:-1].tolist(), precision[:-1].tolist()))[::-1]
    return {"roc": list(zip(false_share.tolist(), true_share.tolist())), "precision_recall": pr}


def case(rng, classes, n, strength, decimals=None):
    truth, logits = draw(rng, classes, n, strength, decimals)
    probabilities = special.softmax(logits, axis=1).astype(np.float32)
    weights = np.bincount(rng.integers(0, n, n), minlength=n)
    roc, pr = areas(truth, probabilities)
    return {
        "truth": truth.tolist(),
        "logits": logits.tolist(),
        "probabilities": probabilities.tolist(),
        "weights": weights.tolist(),
        "figures": figures(truth, probabilities),
        "weighted": figures(truth, probabilities, weights),
        "roc_auc": roc,
        "pr_auc": pr,
        "calibration": calibration(truth, probabilities),
        "temperature": temperature(truth, logits),
        "curves": curves(truth, probabilities, 1) if decimals == 0 else None,
    }


def interval(rng, n, share):
    """SciPy's percentile bootstrap of a mean; the two draw differently, so the ends agree but roughly."""
    right = rng.random(n) < share
    result = stats.bootstrap((right,), np.mean, n_resamples=20_000, method="percentile", rng=rng)
    ends = result.confidence_interval
    return {"right": right.astype(int).tolist(), "low": float(ends.low), "high": float(ends.high)}


def main():
    rng = np.random.default_rng(6)
    warnings.simplefilter("error")
    values = rng.normal(0, 1, 37)
    p = [0.01, 0.04, 0.03, 0.005, 0.5, 0.04]
    pairs = [(8, 1), (0, 6), (5, 5), (0, 0), (30, 12), (25, 52), (1_000, 900), (20_000, 19_500)]
    reference = {
        "cases": [
            case(rng, 2, 60, 2.5),
            case(rng, 2, 40, 1.5, 0),
            case(rng, 3, 60, 2.0),
            case(rng, 5, 70, 2.0, 1),
        ],
        "mcnemar": [
            {"only_first": a, "only_second": b, "p": float(mcnemar([[0, a], [b, 0]], exact=True).pvalue)}
            for a, b in pairs
            if a + b > 0
        ],
        "holm": {"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()},
        "quantile": {"values": values.tolist(), "interval": np.quantile(values, [0.025, 0.975]).tolist()},
        "bootstrap": interval(rng, 400, 0.88),
    }
    print(json.dumps(reference))


if __name__ == "__main__":
    main()
