"""The public names and where they live; `__init__.py` loads each from here when it is first used."""

from . import evaluation
from .core.errors import DataError, ModelError, PneumokerasError, RunError, SettingsError, TuningError
from .data.audit import Audit, audit
from .data.augmentation import RadiographDataGenerator
from .data.dataset import RadiographSet
from .data.download import download_kaggle, download_pneumoniamnist
from .data.from_path import load_radiographs, load_splits
from .data.loader import RadiographLoader
from .data.phantoms.nuisance import Nuisance
from .data.phantoms.write import write_phantoms
from .data.splits import Splits, write_manifest
from .data.splitting import split
from .evaluation import (
    Comparison,
    Evaluation,
    Interval,
    OperatingPoint,
    Predictions,
    choose_operating_point,
    compare,
)
from .explain.activations import activations, class_activations
from .explain.gradcam import grad_cam, overlay
from .explain.projections import Projection, pca, project_radiographs, tsne
from .explain.sanity_checks import ExplanationChecks, check_explanations
from .models.hypermodels import (
    CompactCNNHyperModel,
    EfficientNetB0HyperModel,
    ResNet50HyperModel,
    TransferHyperModel,
)
from .models.saving import load_model, save_model
from .recipes.recipe import Recipe, load_recipe
from .recipes.reproduce import Reproduction, reproduce
from .recipes.train import train
from .report.report_run import report_run
from .runs.result import RunResult, TuningResult, load_run
from .training.callbacks import Plateau, Schedule
from .training.ensemble import ensemble
from .training.evaluate import evaluate
from .training.fit import fit
from .training.loop import FitResult, set_seed
from .training.predict import predict
from .training.progress import TuningProgress
from .training.settings import Stage
from .training.tune import tune

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
    "RunResult",
    "Schedule",
    "SettingsError",
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
    "evaluation",
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

__version__: str
