"""Figures in the manner of scikit-learn's Displays: each draws what it holds and computes nothing.

`plot(ax=None, **kwargs)` draws into the given axes or into a new figure, keeps `ax_` and `figure_`, and
returns the display; `kwargs` go to Matplotlib. Displays of several pictures take and keep a grid, `axes_`.
`from_predictions` computes what a display holds from labels and probabilities, and draws it.

As the last expression of a notebook cell a display shows itself once. Only Matplotlib's object interface is
used: nothing is registered with pyplot.
"""

from pneumokeras.evaluation.charts import LabeledRocCurve
from pneumokeras.evaluation.displays.curves import (
    ConfusionMatrixDisplay,
    NetBenefitDisplay,
    PerturbationDisplay,
    PrecisionRecallDisplay,
    ReliabilityDisplay,
    RocComparisonDisplay,
    RocCurveDisplay,
    ScoreDistributionDisplay,
    SubgroupsDisplay,
)
from pneumokeras.evaluation.displays.pictures import (
    GradCamDisplay,
    PredictionSamplesDisplay,
    SampleRadiographsDisplay,
)
from pneumokeras.evaluation.displays.style import Display, save
from pneumokeras.evaluation.displays.training import (
    AccuracyCurvesDisplay,
    ClassDistributionDisplay,
    LossCurvesDisplay,
)

__all__ = [
    "AccuracyCurvesDisplay",
    "ClassDistributionDisplay",
    "ConfusionMatrixDisplay",
    "Display",
    "GradCamDisplay",
    "LabeledRocCurve",
    "LossCurvesDisplay",
    "NetBenefitDisplay",
    "PerturbationDisplay",
    "PrecisionRecallDisplay",
    "PredictionSamplesDisplay",
    "ReliabilityDisplay",
    "RocComparisonDisplay",
    "RocCurveDisplay",
    "SampleRadiographsDisplay",
    "ScoreDistributionDisplay",
    "SubgroupsDisplay",
    "save",
]
