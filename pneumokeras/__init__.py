"""From a folder of chest radiographs to a tuned, honestly evaluated and explained pneumonia classifier.

    import pneumokeras as pk

    splits = pk.load_splits("chest_xray", seed=7)
    result = pk.tune(pk.ResNet50HyperModel(), splits, max_trials=10)
    pk.evaluate(result.model, splits.test).report()

Names are loaded when they are first used, so that importing the package imports no TensorFlow.
Research software, not a medical device.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pneumokeras.core.errors import DataError, ModelError, PneumokerasError, RunError, TuningError
    from pneumokeras.data.audit import Audit, audit
    from pneumokeras.data.augmentation import RadiographDataGenerator
    from pneumokeras.data.dataset import RadiographSet
    from pneumokeras.data.download import download_kaggle, download_pneumoniamnist
    from pneumokeras.data.from_path import load_radiographs, load_splits
    from pneumokeras.data.loader import RadiographLoader
    from pneumokeras.data.phantoms.nuisance import Nuisance
    from pneumokeras.data.phantoms.write import write_phantoms
    from pneumokeras.data.splits import Splits, write_manifest
    from pneumokeras.data.splitting import split
    from pneumokeras.evaluation import (
        Comparison,
        Evaluation,
        Interval,
        OperatingPoint,
        Predictions,
        choose_operating_point,
        compare,
    )
    from pneumokeras.explain.activations import activations, class_activations
    from pneumokeras.explain.gradcam import grad_cam, overlay
    from pneumokeras.explain.projections import Projection, pca, project_radiographs, tsne
    from pneumokeras.explain.sanity_checks import ExplanationChecks, check_explanations
    from pneumokeras.models.hypermodels import (
        CompactCNNHyperModel,
        EfficientNetB0HyperModel,
        ResNet50HyperModel,
        TransferHyperModel,
    )
    from pneumokeras.models.saving import load_model, save_model
    from pneumokeras.recipes.recipe import Recipe, load_recipe
    from pneumokeras.recipes.reproduce import Reproduction, reproduce
    from pneumokeras.recipes.train import train
    from pneumokeras.report.report_run import report_run
    from pneumokeras.runs.result import TuningResult, load_run
    from pneumokeras.training.callbacks import Plateau, Schedule
    from pneumokeras.training.ensemble import ensemble
    from pneumokeras.training.evaluate import evaluate
    from pneumokeras.training.fit import fit
    from pneumokeras.training.loop import FitResult, set_seed
    from pneumokeras.training.predict import predict
    from pneumokeras.training.progress import TuningProgress
    from pneumokeras.training.stages import Stage
    from pneumokeras.training.tune import tune

__version__ = "0.1.0"

_HOMES = {
    "data.audit": ("Audit", "audit"),
    "data.datasets": ("RadiographSet", "Splits", "load_radiographs", "load_splits"),
    "data.dealing": ("split", "write_manifest"),
    "data.download": ("download_kaggle", "download_pneumoniamnist"),
    "data.loaders": ("RadiographDataGenerator", "RadiographLoader"),
    "data.nuisance": ("Nuisance",),
    "data.phantoms": ("write_phantoms",),
    "ensembling": ("ensemble",),
    "errors": ("DataError", "ModelError", "PneumokerasError", "RunError", "TuningError"),
    "evaluation": (
        "Comparison",
        "Evaluation",
        "Interval",
        "OperatingPoint",
        "Predictions",
        "choose_operating_point",
        "compare",
    ),
    "explain.activations": ("activations", "class_activations"),
    "explain.checks": ("ExplanationChecks", "check_explanations"),
    "explain.gradcam": ("grad_cam", "overlay"),
    "explain.projections": ("Projection", "pca", "project_radiographs", "tsne"),
    "fitting": ("Stage", "fit"),
    "inference": ("evaluate", "predict"),
    "keeping": ("TuningResult", "load_run"),
    "models.saved": ("load_model", "save_model"),
    "models.small_cnns": ("CompactCNNHyperModel",),
    "models.transfer": ("EfficientNetB0HyperModel", "ResNet50HyperModel", "TransferHyperModel"),
    "recipes.recipe": ("Recipe", "load_recipe"),
    "recipes.reproducing": ("Reproduction", "reproduce"),
    "recipes.training": ("train",),
    "report.making": ("report_run",),
    "schedules": ("Plateau", "Schedule"),
    "training": ("FitResult", "set_seed"),
    "searching": ("TuningProgress",),
    "tuning": ("tune",),
}
_HOME_OF = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}

__all__ = [
    "Audit",
    "CompactCNNHyperModel",
    "Comparison",
    "DataError",
    "EfficientNetB0HyperModel",
    "Evaluation",
    "ExplanationChecks",
    "FitResult",
    "Interval",
    "ModelError",
    "Nuisance",
    "OperatingPoint",
    "Plateau",
    "PneumokerasError",
    "Predictions",
    "Projection",
    "RadiographDataGenerator",
    "RadiographLoader",
    "RadiographSet",
    "Recipe",
    "Reproduction",
    "ResNet50HyperModel",
    "RunError",
    "Schedule",
    "Splits",
    "Stage",
    "TransferHyperModel",
    "TuningError",
    "TuningProgress",
    "TuningResult",
    "activations",
    "audit",
    "check_explanations",
    "choose_operating_point",
    "class_activations",
    "compare",
    "download_kaggle",
    "download_pneumoniamnist",
    "ensemble",
    "evaluate",
    "fit",
    "grad_cam",
    "load_model",
    "load_radiographs",
    "load_recipe",
    "load_run",
    "load_splits",
    "overlay",
    "pca",
    "predict",
    "project_radiographs",
    "report_run",
    "reproduce",
    "save_model",
    "set_seed",
    "split",
    "train",
    "tsne",
    "tune",
    "write_manifest",
    "write_phantoms",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
