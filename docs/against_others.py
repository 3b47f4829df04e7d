"""Print the largest differences between our statistics and established implementations over random sets.

python docs/against_others.py
"""

import warnings

import numpy as np
from scipy.special import expit
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.proportion import proportion_confint

from pneumokeras import evaluation as ours
from pneumokeras.evaluation.calibration import brier_decomposition, fit_scalings, reliability
from pneumokeras.evaluation.comparison import mcnemar
from pneumokeras.evaluation.delong import delong_interval

SETS = 100


def random_set(rng):
    """Draw a set of 20 to 2,000 radiographs, sometimes with ties, and the predictions of a second model."""
    count = int(rng.integers(20, 2000))
    labels = rng.permutation(np.arange(count) % 4 > 0).astype(int)
    probabilities = expit(rng.normal(1.5 * labels - 0.7, 1.5))
    if rng.random() < 0.3:
        probabilities = probabilities.round(2)
    return labels, probabilities, rng.random(count) < 0.6


def delong_by_pairs(labels, probabilities):
    """Return the standard error computed from all pairs, as DeLong et al. define it."""
    sick, healthy = probabilities[labels == 1], probabilities[labels == 0]
    wins = (sick[:, None] > healthy) + 0.5 * (sick[:, None] == healthy)
    variance = wins.mean(1).var(ddof=1) / sick.size + wins.mean(0).var(ddof=1) / healthy.size
    return np.sqrt(variance)


def differences(labels, probabilities, other):
    """Yield the name of each comparison with our figure minus the other's."""
    predicted = probabilities >= 0.5
    counts = ours.confusion_counts(labels, probabilities, 0.5)
    yield (
        "ROC AUC, scikit-learn",
        ours.roc_auc(labels, probabilities) - sk.roc_auc_score(labels, probabilities),
    )
    yield (
        "average precision, scikit-learn",
        ours.average_precision(labels, probabilities) - sk.average_precision_score(labels, probabilities),
    )
    yield (
        "Brier score, scikit-learn",
        ours.brier_score(labels, probabilities) - sk.brier_score_loss(labels, probabilities),
    )
    yield "MCC, scikit-learn", float(ours.mcc(counts)) - sk.matthews_corrcoef(labels, predicted)
    yield "F1, scikit-learn", float(ours.f1(counts)) - sk.f1_score(labels, predicted)
    yield (
        "balanced accuracy, scikit-learn",
        float(ours.balanced_accuracy(counts)) - sk.balanced_accuracy_score(labels, predicted),
    )
    wilson = ours.wilson(int(predicted.sum()), predicted.size)
    theirs = proportion_confint(predicted.sum(), predicted.size, method="wilson")
    yield "Wilson's interval, statsmodels", np.abs(np.subtract((wilson.low, wilson.high), theirs)).max()
    right, other_right = predicted == labels, other == labels
    table = [[np.sum(first & second) for second in (other_right, ~other_right)] for first in (right, ~right)]
    yield "McNemar's p, statsmodels", mcnemar(labels, predicted, other).p_value - sm_mcnemar(table).pvalue
    interval = delong_interval(labels, probabilities)
    area, error = interval.estimate, delong_by_pairs(labels, probabilities)
    half = 1.959963984540054 * error / (area * (1 - area))
    yield "DeLong's upper end, all pairs, directly", interval.high - expit(np.log(area / (1 - area)) + half)
    inside = probabilities * 10 % 1 > 0  # scikit-learn counts a probability on an edge to the bin below
    observed, mean_probability = calibration_curve(labels[inside], probabilities[inside], n_bins=10)
    bins = [one for one in reliability(labels[inside], probabilities[inside]) if one.images]
    yield (
        "reliability curve, scikit-learn",
        max(
            np.abs([one.observed.estimate for one in bins] - observed).max(),
            np.abs([one.mean_probability for one in bins] - mean_probability).max(),
        ),
    )
    parts = brier_decomposition(labels, probabilities)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    yield "Brier score's decomposition, its sum", total - ours.brier_score(labels, probabilities)
    platt = fit_scalings(labels, probabilities)["platt"]
    targets = (labels.sum() + 1) / (labels.sum() + 2), 1 / ((1 - labels).sum() + 2)
    logits = np.log(np.clip(probabilities, 2.0**-24, 1 - 2.0**-24))
    logits = logits - np.log1p(-np.clip(probabilities, 2.0**-24, 1 - 2.0**-24))
    weights = np.where(labels == 1, *targets)
    regression = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.tile(logits, 2)[:, None],
        np.repeat([1, 0], labels.size),
        sample_weight=np.concatenate([weights, 1 - weights]),
    )
    yield "Platt's slope, scikit-learn", platt.slope - float(regression.coef_[0, 0])


def main():
    """Print the largest difference of each comparison."""
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    largest = {}
    for _ in range(SETS):
        for name, difference in differences(*random_set(rng)):
            largest[name] = max(largest.get(name, 0.0), abs(float(difference)))
    for name, difference in largest.items():
        print(f"| {name.replace(', ', ' | ', 1)} | {difference:.1e} |")


if __name__ == "__main__":
    main()
