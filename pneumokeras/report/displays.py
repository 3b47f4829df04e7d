"""Choose the figures of a report: a Display for everything that its contents hold."""

from __future__ import annotations

from collections.abc import Mapping

from pneumokeras.evaluation import Evaluation
from pneumokeras.evaluation.displays import (
    AccuracyCurvesDisplay,
    ClassDistributionDisplay,
    ConfusionMatrixDisplay,
    Display,
    GradCamDisplay,
    LossCurvesDisplay,
    NetBenefitDisplay,
    PerturbationDisplay,
    PrecisionRecallDisplay,
    PredictionSamplesDisplay,
    ReliabilityDisplay,
    RocComparisonDisplay,
    RocCurveDisplay,
    SampleRadiographsDisplay,
    ScoreDistributionDisplay,
    SubgroupsDisplay,
)
from pneumokeras.evaluation.vocabulary import capitalized, format_threshold, point_label
from pneumokeras.report.contents import Examples, ReportContents

CONFUSION_POINTS = ("default", "validation")
FIGURES = (
    "class_distribution",
    "sample_radiographs",
    *(f"confusion_matrix_{point}" for point in CONFUSION_POINTS),
    "roc_curve",
    "precision_recall_curve",
    "score_distribution",
    "reliability",
    "net_benefit",
    "subgroups",
    "roc_comparison",
    "accuracy_curve",
    "loss_curve",
    "sample_predictions",
    "confident_mistakes",
    "grad_cam",
    "heatmap_deletion",
    "heatmap_insertion",
)


def displays(contents: ReportContents) -> dict[str, Display]:
    """Return the report's figures by the names of their files; those without data are left out."""
    return {
        **_class_distribution(contents),
        **_confusion_matrices(contents.evaluation),
        **_curves(contents.evaluation),
        **_probabilities(contents.evaluation),
        **_comparison(contents),
        **_epochs(contents),
        **_pictures(contents),
        **_explanation_checks(contents),
    }


def _class_distribution(contents: ReportContents) -> Mapping[str, Display]:
    if not contents.class_counts:
        return {}
    return {"class_distribution": ClassDistributionDisplay(contents.class_counts)}


def _confusion_matrices(evaluation: Evaluation) -> Mapping[str, Display]:
    return {
        f"confusion_matrix_{point}": ConfusionMatrixDisplay(
            result,
            class_names=evaluation.predictions.class_names,
            title=f"{capitalized(point_label(point))}: {format_threshold(result.point.threshold)}",
        )
        for point, result in evaluation.operating_points.items()
        if point in CONFUSION_POINTS
    }


def _curves(evaluation: Evaluation) -> Mapping[str, Display]:
    if not evaluation.roc.x.size:  # a class is missing
        return {}
    points = evaluation.operating_points
    return {
        "roc_curve": RocCurveDisplay(evaluation.roc, evaluation.roc_auc, points),
        "precision_recall_curve": PrecisionRecallDisplay(
            evaluation.precision_recall, evaluation.average_precision, evaluation.prevalence, points
        ),
    }


def _probabilities(evaluation: Evaluation) -> Mapping[str, Display]:
    figures: dict[str, Display] = {
        "score_distribution": ScoreDistributionDisplay(evaluation.predictions, evaluation.operating_points),
        "reliability": ReliabilityDisplay(
            evaluation.calibration.bins,
            evaluation.calibration_error,
            positive=evaluation.predictions.class_names[1],
        ),
        "net_benefit": NetBenefitDisplay(evaluation.net_benefit),
    }
    if evaluation.subgroups:
        figures["subgroups"] = SubgroupsDisplay(evaluation.subgroups)
    return figures


def _comparison(contents: ReportContents) -> Mapping[str, Display]:
    if contents.compared is None or not contents.evaluation.roc.x.size:
        return {}
    return {"roc_comparison": RocComparisonDisplay(*contents.compared.roc_curves)}


def _explanation_checks(contents: ReportContents) -> Mapping[str, Display]:
    checks = contents.explanation_checks
    if checks is None:
        return {}
    return {
        f"heatmap_{curve.kind}": PerturbationDisplay(curve.kind, curve.shares, curve.scores, curve.control)
        for curve in (checks.deletion, checks.insertion)
    }


def _epochs(contents: ReportContents) -> Mapping[str, Display]:
    history = contents.history or {}
    figures: dict[str, Display] = {}
    if {"accuracy", "val_accuracy"} <= history.keys():
        figures["accuracy_curve"] = AccuracyCurvesDisplay(history, best_epoch=contents.kept_epoch)
    if {"loss", "val_loss"} <= history.keys():
        figures["loss_curve"] = LossCurvesDisplay(history, best_epoch=contents.kept_epoch)
    return figures


def _pictures(contents: ReportContents) -> Mapping[str, Display]:
    class_names = contents.evaluation.predictions.class_names
    figures: dict[str, Display] = {}
    if contents.samples:
        titles = _class_titles(contents.samples, class_names)
        figures["sample_radiographs"] = SampleRadiographsDisplay(contents.samples.images, titles)
    predicted = {"sample_predictions": contents.predictions, "confident_mistakes": contents.mistakes}
    for name, examples in predicted.items():
        if examples:
            figures[name] = PredictionSamplesDisplay(
                examples.images,
                examples.labels,
                examples.probabilities,
                threshold=contents.evaluation.chosen_result.point.threshold,
                class_names=class_names,
            )
    explained = contents.explanations
    if explained and explained.heatmaps is not None and explained.overlays is not None:
        titles = [
            f"{name}\np = {probability:.2f}"
            for name, probability in zip(
                _class_titles(explained, class_names), explained.probabilities, strict=True
            )
        ]
        figures["grad_cam"] = GradCamDisplay(explained.images, explained.heatmaps, explained.overlays, titles)
    return figures


def _class_titles(examples: Examples, class_names: tuple[str, str]) -> list[str]:
    return [class_names[int(label)] for label in examples.labels]
