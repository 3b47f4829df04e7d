"""Evaluate predictions: metrics, intervals, thresholds. NumPy in and out, never a model or a path.

`displays` holds the figures; it is loaded when it is first used, since it imports Matplotlib.

Example:
    >>> float(pk.evaluation.sensitivity(pk.evaluation.confusion_counts([0, 1, 1], [0.2, 0.4, 0.9], 0.5)))
    0.5
    >>> pk.evaluation.displays.RocCurveDisplay.from_predictions([0, 1, 0, 1], [0.2, 0.4, 0.5, 0.9])
    <RocCurveDisplay>
"""

import lazy_loader

from pneumokeras.evaluation.calibration import (
    BrierDecomposition,
    Calibration,
    NoScaling,
    PlattScaling,
    Scaled,
    Scaling,
    TemperatureScaling,
    brier_decomposition,
    calibration_of,
    fit_scalings,
    reliability,
)
from pneumokeras.evaluation.comparison import Comparison, compare, mcnemar, require_same_set
from pneumokeras.evaluation.delong import delong_interval, delong_test
from pneumokeras.evaluation.evaluation import Evaluation, evaluate_predictions, subgroup_results
from pneumokeras.evaluation.intervals import (
    design_effect,
    patient_bootstrap,
    patient_weights,
    percentile_interval,
    proportion_interval,
    wilson,
)
from pneumokeras.evaluation.metrics import (
    ConfusionCounts,
    average_precision,
    balanced_accuracy,
    brier_score,
    confusion_counts,
    expected_calibration_error,
    f1,
    log_loss,
    mcc,
    precision_recall_curve,
    roc_auc,
    roc_curve,
    sensitivity,
    specificity,
)
from pneumokeras.evaluation.net_benefit import DECISION_THRESHOLDS, net_benefit, predictive_values
from pneumokeras.evaluation.presentation import TextReport
from pneumokeras.evaluation.subgroups import SMALL_SUBGROUP
from pneumokeras.evaluation.thresholds import (
    DEFAULT_POINT,
    POLICIES,
    SWEEP,
    BalancedAccuracy,
    Fixed,
    Sensitivity,
    SweptThreshold,
    ThresholdPolicy,
    Youden,
    candidate_thresholds,
    choose_operating_point,
    operating_points_from_json,
    operating_points_to_json,
    oracle_point,
    policy_from_text,
    sweep,
)
from pneumokeras.evaluation.types import (
    Curve,
    Interval,
    McNemar,
    Misclassified,
    NetBenefit,
    OperatingPoint,
    OperatingPointResult,
    PairedTest,
    Predictions,
    PredictiveValues,
    ReliabilityBin,
    Subgroup,
)

__getattr__, _, _ = lazy_loader.attach(__name__, ["displays"])

__all__ = [
    "DECISION_THRESHOLDS",
    "DEFAULT_POINT",
    "POLICIES",
    "SMALL_SUBGROUP",
    "SWEEP",
    "BalancedAccuracy",
    "BrierDecomposition",
    "Calibration",
    "Comparison",
    "ConfusionCounts",
    "Curve",
    "Evaluation",
    "Fixed",
    "Interval",
    "McNemar",
    "Misclassified",
    "NetBenefit",
    "NoScaling",
    "OperatingPoint",
    "OperatingPointResult",
    "PairedTest",
    "PlattScaling",
    "Predictions",
    "PredictiveValues",
    "ReliabilityBin",
    "Scaled",
    "Scaling",
    "Sensitivity",
    "Subgroup",
    "SweptThreshold",
    "TemperatureScaling",
    "TextReport",
    "ThresholdPolicy",
    "Youden",
    "average_precision",
    "balanced_accuracy",
    "brier_decomposition",
    "brier_score",
    "calibration_of",
    "candidate_thresholds",
    "choose_operating_point",
    "compare",
    "confusion_counts",
    "delong_interval",
    "delong_test",
    "design_effect",
    "evaluate_predictions",
    "expected_calibration_error",
    "f1",
    "fit_scalings",
    "log_loss",
    "mcc",
    "mcnemar",
    "net_benefit",
    "operating_points_from_json",
    "operating_points_to_json",
    "oracle_point",
    "patient_bootstrap",
    "patient_weights",
    "percentile_interval",
    "policy_from_text",
    "precision_recall_curve",
    "predictive_values",
    "proportion_interval",
    "reliability",
    "require_same_set",
    "roc_auc",
    "roc_curve",
    "sensitivity",
    "specificity",
    "subgroup_results",
    "sweep",
    "wilson",
]
