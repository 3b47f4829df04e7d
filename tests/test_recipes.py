"""Published systems are data: what their files say, what is built of them, what a table makes of them."""

import json
import math
import re
import shutil
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

import pneumokeras as pk
from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.evaluation import Interval, Predictions
from pneumokeras.recipes.catalog import recipe_names, recipe_text, reference_names
from pneumokeras.recipes.configuration import Configuration, with_changes
from pneumokeras.recipes.recipe import AS_PUBLISHED, CORRECTED, FIGURES, ON_LITE0, VARIANTS, load_recipe
from pneumokeras.recipes.reproduce import (
    CHOSEN_ON_TEST,
    Reproduction,
    _evaluate_at,
    _mean_of_seeds,
    published_intervals,
    reproduce,
)
from pneumokeras.recipes.rows import Row
from pneumokeras.recipes.table import figure, spread
from pneumokeras.recipes.train import build, parameters, train
from pneumokeras.runs.folder import open_run
from pneumokeras.runs.result import load_run
from pneumokeras.training.callbacks import Schedule
from pneumokeras.training.fit import fit
from pneumokeras.training.settings import Stage
from pneumokeras.training.stages import kept_epoch, require_parts
from tests.calling import call, error_line

REFERENCES = reference_names()
BOTH = [(name, variant) for name in REFERENCES for variant in VARIANTS]
WITH_STAGES = [(name, variant) for name, variant in BOTH if load_recipe(name).variants[variant].stages]

TINY = """
title = "Tiny <b>"
source = "a | test"
about = "A network of a few filters at 16 pixels."
assumed = ["Five * is | <i>ours</i>."]

[published]
accuracy = 0.9
sensitivity = 0.95
specificity = 0.8
balanced_accuracy = 0.875
f1 = 0.92
roc_auc = 0.95
parameters = 1000
footnotes = ["No count of 624 gives it."]

[as_published]
model = "compact-cnn"
image_size = 16
hyperparameters = { width = 4, depth = 2, dropout = 0.2 }
views = 1
keep_val = true
objective = "val_accuracy"
stages = [{ trainable = "all", epochs = 2, learning_rate = 1e-3, batch_norm = "update", optimizer = "adam" }]
schedule = { patience = false, plateau = false, keep = "last" }
threshold = { policy = "balanced_accuracy", among = "sweep", chosen_on = "test" }

[corrected]
mended = ["The threshold is chosen on validation."]
keep_val = false
objective = "val_auc"
schedule = { keep = "best" }
threshold = { among = [], chosen_on = "val" }
"""


def written(folder, text=TINY, name="tiny"):
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def tiny(tmp_path):
    return load_recipe(written(tmp_path))


def offline(configuration):
    """The same with random weights, which is all that can be had without a network."""
    return with_changes(configuration, weights="none" if configuration.has_backbone else None)


class TestReferenceSystems:
    def test_there_are_eleven_of_five_documents(self):
        assert len(REFERENCES) == 11
        assert {load_recipe(name).source for name in REFERENCES} == {"R1", "R2", "R3", "R4", "R5"}

    def test_every_file_is_listed(self):
        folder = Path(load_recipe.__code__.co_filename).parent
        assert {path.stem for path in folder.glob("*.toml")} - {"order"} == set(recipe_names())

    @pytest.mark.parametrize("name", recipe_names())
    def test_every_recipe_says_what_it_is(self, name):
        recipe = load_recipe(name)
        sentences = [recipe.about, *recipe.assumed, *recipe.corrections]
        sentences += recipe.published.footnotes if recipe.published else ()
        assert all(sentence.endswith(".") for sentence in sentences)
        assert CORRECTED in recipe.variants

    @pytest.mark.parametrize("name", REFERENCES)
    def test_a_reference_has_both_variants_and_what_it_was_published_with(self, name):
        recipe = load_recipe(name)
        assert tuple(recipe.variants)[:2] == VARIANTS
        assert recipe.published.figures or recipe.published.footnotes
        assert recipe.corrections

    def test_three_run_on_a_backbone_whose_imagenet_weights_can_be_had(self):
        on_lite0 = [name for name in REFERENCES if ON_LITE0 in load_recipe(name).variants]
        assert on_lite0 == ["resnet50-tuner", "efficientnet-b0-mlp", "efficientnetb0-staged"]
        for name in on_lite0:
            corrected, other = (load_recipe(name).variant(one).settings() for one in (CORRECTED, ON_LITE0))
            different = {key for key in corrected if corrected[key] != other[key]}
            assert (different, other["weights"]) == ({"model"}, "imagenet")

    @pytest.mark.parametrize(("name", "variant"), WITH_STAGES)
    def test_its_model_can_be_built_and_has_the_parts_that_are_trained(self, name, variant):
        configuration = offline(load_recipe(name).variant(variant))
        model = build(configuration)
        assert model.input_shape == (None, configuration.image_size, configuration.image_size, 1)
        require_parts(model, configuration.stages)

    @pytest.mark.parametrize(
        ("name", "count", "size"),
        [
            ("customcnn", 25_783_873, 224),
            ("pneumoniamnist-cnn", 615_521, 28),
            ("pneumoniamnist-resnet18", 11_177_025, 28),
            ("resnet18-finetuned", 11_177_025, 224),
        ],
    )
    def test_parameters_are_those_of_the_document(self, name, count, size):
        configuration = offline(load_recipe(name).variant(CORRECTED))
        assert parameters(build(configuration)) == count
        assert configuration.image_size == size

    @pytest.mark.parametrize("name", REFERENCES)
    def test_as_published_keeps_the_16_validation_images_and_ranks_by_accuracy(self, name):
        published = load_recipe(name).variant(AS_PUBLISHED)
        assert published.keep_val
        assert published.objective == "val_accuracy"

    @pytest.mark.parametrize("name", REFERENCES)
    def test_corrected_mends_what_cannot_be_right(self, name):
        corrected = load_recipe(name).variant(CORRECTED)
        assert not corrected.keep_val
        assert corrected.objective == "val_auc"
        assert corrected.threshold_on == "val"
        assert corrected.threshold.name != "fixed"
        assert corrected.preprocessing == "native"
        assert corrected.schedule.keep == "best"
        below_the_head = [stage for stage in corrected.stages if corrected.has_backbone]
        assert {stage.batch_norm for stage in below_the_head} <= {"keep"}

    @pytest.mark.parametrize("name", REFERENCES)
    def test_every_change_is_told(self, name):
        """What is different between the variants is in `mended`, and nothing is mended that is the same."""
        recipe = load_recipe(name)
        before, after = (recipe.variant(variant).settings() for variant in VARIANTS)
        different = {key for key in before | after if before.get(key) != after.get(key)}
        told = {
            "keep_val": "Validation is a tenth|val split",
            "objective": "AUC",
            "threshold": "threshold",
            "threshold_on": "not on test",
            "preprocessing": "Pixels come",
            "class_weights": "Class weights",
            "augmentation": "upside down",
            "views": "augmented",
            "schedule": "epoch",
            "stages": "BatchNorm",
        }
        assert different <= told.keys()
        for key, words in told.items():
            mentioned = any(re.search(words, sentence) for sentence in recipe.corrections)
            assert mentioned == (key in different) or key in ("schedule", "views"), (key, recipe.corrections)

    def test_mistakes_stay_where_the_document_made_them(self):
        def published(name):
            return load_recipe(name).variant(AS_PUBLISHED)

        wrongly_scaled = [name for name in REFERENCES if published(name).preprocessing == "rescale"]
        assert wrongly_scaled == ["resnet50-tuner", "efficientnetb0-staged"]
        swept_on_test = [name for name in REFERENCES if published(name).threshold_on == "test"]
        assert swept_on_test == ["pneumoniamnist-cnn", "pneumoniamnist-resnet18"]
        assert published(swept_on_test[0]).threshold.among[0] == 0.3
        assert {name for name in REFERENCES if published(name).oversample} == {
            *("cnn-94", "cnn-v2", "efficientnet-b0-mlp")
        }

    def test_the_last_block_learns_at_a_tenth_of_the_heads_rate(self):
        last = load_recipe("resnet18-finetuned").variant(AS_PUBLISHED).stages[-1]
        assert last.trainable == "stage5"
        assert last.learning_rate == {"head": 1e-3, "backbone": 1e-4}


class TestFootnotes:
    """What they say of a document's figures, computed again from 234 normals and 390 pneumonias."""

    tp, tn = np.meshgrid(np.arange(391), np.arange(235), indexing="ij")
    accuracy = (tp + tn) / 624
    with np.errstate(invalid="ignore"):
        precision = tp / (tp + 234 - tn)
    sensitivity = tp / 390
    f1 = 2 * tp / (tp + 624 - tn)

    def matrices(self, **figures):
        """Every (TN, TP) that rounds to these figures, given in percent with two decimals."""
        fits = np.ones_like(self.tp, dtype=bool)
        for name, value in figures.items():
            fits &= abs(100 * getattr(self, name) - value) <= 0.005 + 1e-9
        return list(zip(self.tn[fits].tolist(), self.tp[fits].tolist(), strict=True))

    def note(self, name):
        return " ".join(load_recipe(name).published.footnotes)

    def test_customcnns_accuracy_and_precision_fit_one_matrix(self):
        assert self.matrices(accuracy=81.57, precision=91.79) == [(207, 302)]
        assert "[[207, 27], [88, 302]]" in self.note("customcnn")
        assert (f"{100 * 302 / 390:.2f}", f"{100 * 604 / (604 + 27 + 88):.2f}") == ("77.44", "84.01")
        called = 0.6462 * 390 / 0.9179
        assert f"{100 * (234 - called + 2 * 0.6462 * 390) / 624:.1f}" == "74.3"

    def test_fine_tuned_resnet18s_figures_fit_one_matrix(self):
        assert self.matrices(accuracy=93.27, precision=95.79, sensitivity=93.33, f1=94.55) == [(218, 364)]
        assert "[[218, 16], [26, 364]]" in self.note("resnet18-finetuned")

    def test_no_count_gives_cnn_v2s_accuracy(self):
        assert not any(f"{100 * count / 624:.1f}" == "75.7" for count in range(625))
        assert (f"{100 * 472 / 624:.2f}", f"{100 * 473 / 624:.2f}") == ("75.64", "75.80")

    @pytest.mark.parametrize(
        ("name", "tn", "tp", "accuracy", "f1"),
        [
            ("pneumoniamnist-cnn", 162, 385, "87.66", "0.9091"),
            ("pneumoniamnist-resnet18", 171, 389, "89.74", "0.9240"),
        ],
    )
    def test_pneumoniamnists_matrices_have_other_f1s(self, name, tn, tp, accuracy, f1):
        assert f"TN {tn}, FP {234 - tn}, FN {390 - tp}, TP {tp}" in self.note(name)
        assert (f"{100 * (tn + tp) / 624:.2f}", f"{self.f1[tp, tn]:.4f}") == (accuracy, f1)
        figures = load_recipe(name).published.figures
        assert f1 in self.note(name)
        assert figures["f1"] != float(f1)
        assert figures["specificity"] == pytest.approx(tn / 234, abs=5e-5)
        assert figures["sensitivity"] == pytest.approx(tp / 390, abs=5e-5)

    def test_pneumoniamnists_other_thresholds_and_weights(self):
        rows = [(53.42, 100.0), (60.68, 99.49), (67.09, 98.97), (71.37, 96.41)]
        means = ", ".join(f"{(234 * normal + 390 * sick) / 624:.2f}" for normal, sick in rows[:3])
        assert means + " and 87.02%" in self.note("pneumoniamnist-cnn")
        assert f"{(234 * 71.37 + 390 * 96.41) / 624:.2f}" == "87.02"
        assert f"{(234 * 68.80 + 390 * 99.74) / 624:.2f}" == "88.14"
        assert f"{1583 / 3125:.3f} {1583 / 3125 / 2:.3f} {1214 / 3494 / 2:.3f}" == "0.507 0.253 0.174"

    def test_resnet50s_figures_are_its_matrix(self):
        tn, fp, fn, tp = 219, 15, 184, 206
        figures = load_recipe("resnet50-tuner").published.figures
        assert figures == {
            "accuracy": round((tn + tp) / 624, 2),
            "sensitivity": round(tp / 390, 3),
            "specificity": round(tn / 234, 3),
            "precision": round(tp / (tp + fp), 3),
            "f1": round(2 * tp / (2 * tp + fp + fn), 3),
            "balanced_accuracy": round((tp / 390 + tn / 234) / 2, 3),
            "roc_auc": 0.83,
        }


def changed(old, new):
    assert old in TINY
    return TINY.replace(old, new)


class TestAFileOfYourOwn:
    def test_it_is_read(self, tiny):
        assert tiny.name == "tiny"
        published, corrected = (tiny.variant(variant) for variant in VARIANTS)
        assert published.threshold_on == "test"
        assert corrected.threshold_on == "val"
        assert published.schedule == Schedule(plateau=None, patience=None, keep="last")
        assert corrected.schedule == Schedule(plateau=None, patience=None, keep="best")
        assert corrected.threshold.among == ()

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (changed("views = 1", "view = 1"), "Unknown key 'view' in as_published"),
            (changed("about =", "abuot ="), "Unknown key 'abuot' in the file"),
            (changed('source = "a | test"', ""), "the file lacks 'source'"),
            (changed("image_size = 16", 'image_size = "16"'), "image_size in as_published as a whole number"),
            (changed("image_size = 16", "image_size = 16.5"), "a whole number. Received 16.5"),
            (changed("epochs = 2", 'epochs = "two"'), "epochs in stages as a whole number"),
            (changed("epochs = 2", "epochs = true"), "epochs in stages as a whole number"),
            (changed("keep_val = true", "keep_val = 1"), "keep_val in as_published as true or false"),
            (changed('mended = ["The threshold is chosen on validation."]', 'mended = "x"'), "as a list"),
            (changed("accuracy = 0.9\n", "accuracy = 90\n"), "the published accuracy in [0, 1]"),
            (changed("parameters = 1000", "paramters = 1000"), "Unknown key 'paramters' in published"),
            (changed('"compact-cnn"', '"vgg16"'), "Unknown model 'vgg16'"),
            (changed('"val_accuracy"', '"val_f1"'), "Unknown objective 'val_f1'"),
            (changed("views = 1", 'class_weights = "even"'), "class_weights as balanced, none"),
            (changed("views = 1", "class_weights = { NORMAL = 2 }"), "class_weights as balanced, none"),
            (changed("views = 1", "oversample = 1.2"), "oversample or balanced"),
            (changed("views = 1", "threshold_on = 'test'"), "Unknown key 'threshold_on'"),
            (changed('chosen_on = "test"', 'chosen_on = "train"'), "chosen on val or test"),
            (changed('policy = "balanced_accuracy"', 'policy = "best"'), "Unknown threshold policy 'best'"),
            (changed('policy = "balanced_accuracy"', "policy = ['youden']"), "Unknown threshold policy"),
            (
                changed('among = "sweep"', "sensitivity_floor = 95"),
                "sensitivity_floor in [0, 1]. Received 95",
            ),
            (changed('among = "sweep"', "among = [0.5, 50]"), "among in [0, 1]. Received 50"),
            (changed("views = 1", "augmentation = 3"), "augmentation in as_published as a table"),
            (changed("views = 1", "augmentation = { zoom_range = 'x' }"), "zoom_range in augmentation"),
            (changed("views = 1", "search = 3"), "search in as_published as a table"),
            (changed("views = 1", "search = {}"), "either stages or a search"),
            (changed("views = 1", "search = { units = [8, 64] }"), "units in search as a list of 3"),
            (changed("width = 4", "width = 'wide'"), "width in hyperparameters as a number"),
            (
                changed("learning_rate = 1e-3", "learning_rate = { head = 'x' }"),
                "head in learning_rate as a number",
            ),
            (changed("footnotes = [", "footnotes = [5, "), "footnotes in published as text. Received 5"),
            (re.sub("stages = .*", "stages = [3]", TINY), "stages in as_published as a table"),
            (re.sub("stages = .*", "stages = 3", TINY), "stages in as_published as a list"),
            (changed("title =", "title "), "is no recipe"),
            (changed("width = 4", "widht = 4"), "Unknown key 'widht' in hyperparameters"),
            (
                changed("learning_rate = 1e-3", "learning_rate = inf"),
                "learning_rate as a finite number above 0",
            ),
            (changed("depth = 2", "depth = 0"), "depth in hyperparameters as a whole number of at least 1"),
            (
                changed("dropout = 0.2", "dropout = 2"),
                "dropout in hyperparameters as a number from 0 to below 1",
            ),
            (changed('"compact-cnn"', '"baseline-cnn"'), "Expected hyperparameters beside compact-cnn"),
            (changed("views = 1", "head = 'linear'"), "head belongs to a backbone, not to compact-cnn"),
            (changed("views = 1", "weights = 'none'"), "weights belongs to a backbone"),
            (changed("views = 1", "two_logits = true"), "compact-cnn has no two logits"),
            (
                changed("views = 1", "class_weights = { NORMAL = -1, PNEUMONIA = 1 }"),
                "a weight of at least 0",
            ),
            ("published = 3\n" + TINY.replace("[published]", "[other]"), "Unknown key 'other'"),
        ],
    )
    def test_what_is_wrong_in_it_is_one_line(self, text, said, tmp_path):
        path = written(tmp_path, text)
        with pytest.raises(DataError) as raised:
            load_recipe(path)
        assert said in str(raised.value)
        assert str(raised.value).startswith(f"{path} is no recipe: ")
        assert "\n" not in str(raised.value)

    def test_an_unknown_recipe_is_refused_with_those_there_are(self):
        with pytest.raises(SettingsError, match=r"Unknown recipe 'resnet50'.*resnet50-tuner"):
            load_recipe("resnet50")

    def test_a_variant_that_is_not_there_is_refused(self):
        with pytest.raises(SettingsError, match="has no variant 'as published'"):
            load_recipe("pretrain-resnet18").variant(AS_PUBLISHED)

    def test_a_search_refuses_what_it_would_leave_out(self):
        searched = load_recipe("resnet50-tuner").variant(CORRECTED)
        with pytest.raises(SettingsError, match="A search has its own head"):
            replace(searched, head="linear")
        with pytest.raises(SettingsError, match="a backbone to search a head for"):
            replace(searched, model="compact-cnn")
        with pytest.raises(SettingsError, match="Expected `threshold_on` as val"):
            replace(searched, threshold_on="test")

    def test_the_command_shows_a_file_that_is_a_beginning_for_ones_own(self, tmp_path):
        shown = call("recipes", "customcnn")
        assert shown.stdout.rstrip() == recipe_text("customcnn").rstrip()
        own = written(tmp_path, shown.stdout, "customcnn")
        assert load_recipe(own) == load_recipe("customcnn")

    def test_the_command_lists_every_recipe(self):
        listed = call("recipes").stdout.splitlines()
        assert [line.split()[0] for line in listed] == list(recipe_names())


@pytest.fixture(scope="module")
def runs(phantom_folder, tmp_path_factory):
    """Both variants, by the command."""
    folder = tmp_path_factory.mktemp("recipes")
    recipe = written(folder)
    done = {}
    for variant, flag in ((AS_PUBLISHED, ["--as-published"]), (CORRECTED, [])):
        run = folder / variant
        result = call("train", "--data", phantom_folder, "--recipe", recipe, *flag, "--run", run)
        assert result.exit_code == 0, result.output
        done[variant] = (run, result)
    return recipe, done


class TestTraining:
    def test_a_run_says_which_recipe_it_is(self, runs):
        for variant, (run, _) in runs[1].items():
            settings = open_run(run).record()["settings"]
            assert (settings["recipe"], settings["variant"]) == ("tiny", variant)

    def test_the_same_command_shows_the_finished_run(self, runs, phantom_folder):
        recipe, done = runs
        run, result = done[CORRECTED]
        again = call("train", "--data", phantom_folder, "--recipe", recipe, "--run", run)
        assert again.stdout == result.stdout
        assert "epoch" not in again.stderr.lower()

    def test_other_settings_in_a_named_run_are_refused(self, runs, phantom_folder):
        recipe, done = runs
        run = done[CORRECTED][0]
        result = call("train", "--data", phantom_folder, "--recipe", recipe, "--run", run, "--image-size", 20)
        assert "image_size 16, not 20" in error_line(result)

    def test_another_seed_deals_other_radiographs_out(self, runs, phantom_folder):
        recipe, done = runs
        run = done[CORRECTED][0]
        result = call("train", "--data", phantom_folder, "--recipe", recipe, "--run", run, "--seed", 1)
        assert "is a run on the same radiographs, split otherwise" in error_line(result)

    def test_the_last_epoch_is_kept_where_the_recipe_says_so(self, runs):
        assert open_run(runs[1][AS_PUBLISHED][0]).record()["best_epoch"] == 2
        assert "Epoch 2 of 2 kept" in runs[1][AS_PUBLISHED][1].stdout

    def test_a_rule_that_the_document_applied_to_test_is_applied_to_validation(self, runs):
        point = load_run(runs[1][AS_PUBLISHED][0]).operating_points["validation"]
        assert point.chosen_on == "val"
        assert point.threshold in load_recipe(runs[0]).variant(AS_PUBLISHED).threshold.among

    def test_settings_given_beside_a_recipe_stand_for_its_own(self, runs, phantom_folder, tmp_path):
        arguments = ["--recipe", runs[0], "--stage", "all:1:1e-4", "--image-size", 20, "--views", 2]
        result = call("train", "--data", phantom_folder, *arguments, "--run", tmp_path / "run")
        assert result.exit_code == 0, result.output
        settings = open_run(tmp_path / "run").record()["settings"]
        assert settings["image_size"] == 20
        assert settings["views"] == 2
        # A network from scratch has no pretrained statistics to keep.
        assert settings["stages"] == [
            {"trainable": "all", "epochs": 1, "learning_rate": 1e-4, "batch_norm": "update"}
        ]

    def test_a_model_needs_no_recipe(self, phantom_folder, tmp_path):
        arguments = ["--model", "compact-cnn", "--image-size", 16, "--epochs", 1, "--run", tmp_path / "run"]
        result = call("train", "--data", phantom_folder, *arguments)
        assert result.exit_code == 0, result.output
        assert "recipe" not in open_run(tmp_path / "run").record()["settings"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "either --recipe or --model"),
            (["--recipe", "customcnn", "--model", "resnet50"], "either --recipe or --model"),
            (["--model", "resnet50", "--as-published"], "--as-published needs --recipe"),
            (["--model", "vgg16"], "Unknown model 'vgg16'"),
            (["--recipe", "none-such"], "Unknown recipe 'none-such'"),
            (["--recipe", "customcnn", "--weights", "none"], "--weights belongs to a backbone"),
            (["--recipe", "customcnn", "--image-size", "64"], "customcnn takes 224 pixels"),
            (["--recipe", "resnet50-tuner", "--stage", "head"], "either --stage or a search"),
            (["--model", "compact-cnn", "--image-size", "16", "--stage", "stage5"], "stage5"),
        ],
    )
    def test_wrong_usage_is_one_line(self, arguments, said, phantom_folder, in_tmp):
        assert said in error_line(call("train", "--data", phantom_folder, *arguments))

    def test_heads_begin_otherwise_with_another_seed(self, spot_splits, in_tmp, monkeypatch):
        begun = []

        def stopped(model, *_, **__):
            begun.append(model.get_layer("logit").get_weights()[0])
            raise DataError("far enough")

        monkeypatch.setattr("pneumokeras.training.pipeline.fit_stages", stopped)
        configuration = Configuration.for_model("mobilenetv3small", weights="none", image_size=32)
        for seed in (0, 0, 1):
            with pytest.raises(DataError, match="far enough"):
                train(configuration, spot_splits, seed=seed, cache=False)
        np.testing.assert_array_equal(begun[0], begun[1])
        assert not np.allclose(begun[0], begun[2])

    @pytest.mark.slow
    def test_a_searched_run_says_which_recipe_it_is(self, phantom_folder, tmp_path):
        text = recipe_text("resnet50-tuner").replace("image_size = 224", "image_size = 32")
        text = text.replace("max_trials = 10\nepochs = 10", "max_trials = 1\nepochs = 1\nunits = [8, 8, 8]")
        recipe = written(tmp_path, text, "searched")
        arguments = ["--recipe", recipe, "--weights", "none", "--run", tmp_path / "run", "--seed", 3]
        result = call("train", "--data", phantom_folder, *arguments)
        assert result.exit_code == 0, result.output
        record = open_run(tmp_path / "run").record()
        assert (record["recipe"], record["variant"]) == ("searched", CORRECTED)
        assert record["settings"]["head_seed"] == 3
        assert load_run(tmp_path / "run").best_hyperparameters["units"] == 8


class TestTheKeptEpoch:
    @pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("best of last stage", 3), ("last", 4)])
    def test_it_is_the_one_whose_weights_are_kept(self, keep, epoch):
        configuration = Configuration.for_model("compact-cnn", schedule=Schedule(keep=keep))
        history = {"stage": [1.0, 1.0, 2.0, 2.0, 2.0], "val_auc": [0.7, 0.9, 0.6, 0.8, 0.5]}
        assert kept_epoch(history, configuration.fit_settings(seed=0)) == epoch

    @pytest.mark.parametrize("keep", ["best", "best of last stage", "last"])
    def test_the_model_scores_what_the_history_says_of_it(self, keep, spot_splits):
        """The second stage only does harm: so `best` keeps the first's, the others do not."""
        from pneumokeras.evaluation.metrics import roc_auc
        from pneumokeras.training.predict import predict

        stages = (
            Stage("all", 3, 3e-3, batch_norm="update", optimizer="adam"),
            Stage("all", 2, 1000.0, batch_norm="update", optimizer="adam"),
        )
        schedule = Schedule(plateau=None, patience=None, keep=keep)
        configuration = Configuration.for_model(
            "compact-cnn",
            image_size=32,
            hyperparameters={"width": 4, "depth": 2, "dropout": 0.2},
            stages=stages,
            schedule=schedule,
            objective="val_loss",
        )
        model = build(configuration)
        fitted = fit(
            model,
            spot_splits.train,
            spot_splits.val,
            stages=stages,
            views=1,
            schedule=schedule,
            objective="val_loss",
        )
        kept = kept_epoch(fitted.history, configuration.fit_settings(seed=0))
        assert (kept < 3) == (keep == "best")
        scores = predict(fitted.model, spot_splits.val)
        assert roc_auc(scores.labels, scores.probabilities) == pytest.approx(fitted.history["val_auc"][kept])


@pytest.fixture(scope="module")
def made(phantom_folder, tmp_path_factory):
    """A recipe that can be run with two seeds, and one that cannot."""
    folder = tmp_path_factory.mktemp("reproduction")
    recipe = written(folder)
    unreachable = written(folder, recipe_text("resnet18"), "unreachable")
    arguments = ["reproduce", recipe, unreachable, "--data", phantom_folder, "--out", folder / "out"]
    arguments += ["--epochs", 1, "--seeds", 2, "--weights", folder / "absent.safetensors"]
    return folder, arguments, call(*arguments)


@pytest.fixture(scope="module")
def table(made):
    return json.loads((made[0] / "out" / "table.json").read_text())


class TestReproducing:
    def test_what_cannot_be_run_is_a_row_with_its_reason_and_status_1(self, made, table):
        assert made[2].exit_code == 1, made[2].output
        failed = [row for row in table["rows"] if "reason" in row]
        assert [(row["recipe"], row["variant"]) for row in failed] == [
            ("unreachable", variant) for variant in VARIANTS
        ]
        assert all("absent.safetensors" in row["reason"] for row in failed)

    def test_each_recipe_has_a_row_as_published_and_corrected_beside_what_was_published(self, table):
        assert [row["variant"] for row in table["rows"]] == ["published", *VARIANTS] * 2

    def test_a_row_has_its_figures_with_intervals_its_cost_and_what_was_changed(self, table):
        row = table["rows"][2]
        assert set(row["figures"]) == set(FIGURES)
        assert row["seeds"] == 2
        assert row["changes"] == {"epochs": 1}
        assert len(row["thresholds"]) == 2
        assert row["chosen_on"] == "val"
        assert row["parameters"] > 0
        assert row["size"] > 0
        assert row["minutes"] > 0
        low, high = row["spread"]["roc_auc"]
        assert low <= row["figures"]["roc_auc"]["estimate"] <= high

    def test_a_threshold_chosen_on_test_is_called_not_achievable(self, made, table):
        assert "not achievable" in table["rows"][1]["chosen_on"]
        for name in ("table.md", "table.html"):
            page = (made[0] / "out" / name).read_text()
            assert "chosen on test (not achievable; for comparison only)" in page

    def test_a_finished_run_is_found_again(self, made):
        folder, arguments, first = made
        models = list((folder / "out").rglob("model.keras"))
        assert len(models) == 4
        before = {path: path.stat().st_mtime_ns for path in models}
        again = call(*arguments)
        assert again.stdout == first.stdout
        assert {path: path.stat().st_mtime_ns for path in models} == before

    def test_seeds_that_ran_keep_their_figures_and_the_table_grows_row_by_row(
        self, made, table, phantom_folder
    ):
        folder, (_, recipe, *_), _ = made
        blocked = folder / "out" / recipe.stem / "corrected-2-epochs-1"
        blocked.mkdir()
        (blocked / "notes.txt").write_text("mine")
        tables = []
        try:
            reproduction = pk.reproduce(
                [recipe],
                phantom_folder,
                out=folder / "out",
                seeds=(0, 1, 2),
                variants=["corrected"],
                epochs=1,
                on_row=tables.append,
            )
        finally:
            shutil.rmtree(blocked)
        assert tables == [reproduction]
        (row,) = reproduction.failed
        assert row.seeds == 2
        assert "something other than a run" in row.reason
        assert row.json()["figures"] == table["rows"][2]["figures"]
        for page in (reproduction.markdown(), reproduction.html()):
            assert "further seeds not run: " in page
            assert f"{row.figures['roc_auc'].estimate:.3f}" in page

    def test_markdown_json_and_html_agree_and_nothing_in_a_name_is_markup(self, made, table):
        markdown = (made[0] / "out" / "table.md").read_text()
        page = (made[0] / "out" / "table.html").read_text()
        for row in table["rows"]:
            for reached in row.get("figures", {}).values():
                estimate = f"{reached['estimate']:.3f}"
                ends = "" if reached["low"] is None else f"[{reached['low']:.3f}, {reached['high']:.3f}]"
                assert f"{estimate} {ends}".strip() in markdown
                assert f">{estimate}<" in page
                assert ends in page
        assert "Tiny &lt;b&gt;" in markdown
        assert "Tiny &lt;b&gt;" in page
        assert "<b>" not in markdown
        assert "<i>" not in page + markdown
        assert r"Five \* is \| &lt;i&gt;ours" in markdown
        lines = [line for line in markdown.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
        assert len(lines) == 2 + len(table["rows"])

    def test_the_command_prints_the_table_and_where_it_lies(self, made):
        folder, _, result = made
        assert (folder / "out" / "table.md").read_text().strip() in result.stdout
        assert f"Table: {folder / 'out' / 'table.html'}" in result.stdout

    def test_the_page_needs_no_network(self, made):
        page = (made[0] / "out" / "table.html").read_text()
        assert not re.search(r"""(src|href)=["']?http""", page)

    @pytest.mark.slow
    def test_reference_systems_run_as_published_and_corrected(self, phantom_folder, tmp_path):
        names = ["cnn-94", "pneumoniamnist-cnn", "pneumoniamnist-resnet18"]
        arguments = [
            "--data",
            phantom_folder,
            "--out",
            tmp_path,
            "--epochs",
            1,
            "--weights",
            "none",
            "--views",
            2,
        ]
        result = call("reproduce", *names, *arguments)
        assert result.exit_code == 0, result.output
        rows = json.loads((tmp_path / "table.json").read_text())["rows"]
        here = [row for row in rows if row["variant"] != "published"]
        assert len(here) == 6
        assert {row["parameters"] for row in here if row["recipe"] == names[1]} == {615_521}
        assert {row["parameters"] for row in here if row["recipe"] == names[2]} == {11_177_025}
        assert all(row["changes"]["epochs"] == 1 for row in here)
        assert ["views" in row["changes"] for row in here] == [True, False, False, False, True, True]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["none-such"], "Unknown recipe 'none-such'"),
            (["resnet18", "--weights", "a=b", "--weights", "none"], "BACKBONE=... for each"),
            ([], "Missing argument"),
        ],
    )
    def test_wrong_usage_is_one_line(self, arguments, said, phantom_folder, in_tmp):
        assert said in error_line(call("reproduce", *arguments, "--data", phantom_folder))

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"weights": {"resnet99": "none"}}, "Unknown backbone 'resnet99'"),
            ({"variants": ["as-published"]}, "Unknown variant 'as-published'"),
            ({"variants": [AS_PUBLISHED]}, "pretrain-resnet18 has no variant as published"),
        ],
    )
    def test_what_would_be_left_out_of_account_is_refused(self, options, said, in_tmp):
        with pytest.raises(SettingsError, match=said):
            reproduce(["pretrain-resnet18"], "anywhere", **options)

    def test_two_recipes_of_one_name_are_refused(self, tiny, phantom_folder, in_tmp):
        with pytest.raises(SettingsError, match="Two recipes are called tiny"):
            reproduce([tiny, tiny], phantom_folder)

    def test_data_without_test_radiographs_are_refused(self, tiny, spot_splits, in_tmp, monkeypatch):
        empty = replace(spot_splits, test=spot_splits.test.subset([]))
        monkeypatch.setattr("pneumokeras.recipes.reproduce.load_splits", lambda *_, **__: empty)
        with pytest.raises(DataError, match="no test radiographs"):
            reproduce([tiny], "anywhere")

    def test_no_weights_are_put_on_a_recipe_that_asks_for_random_ones(self):
        from pneumokeras.recipes.reproduce import _changed

        random = load_recipe("pretrain-resnet18").variant(CORRECTED)
        assert _changed(random, weights="file.keras").weights == "none"
        frozen = load_recipe("resnet18").variant(CORRECTED)
        assert _changed(frozen, weights={"resnet18": "a.keras"}).weights == "a.keras"
        assert _changed(frozen, weights={"resnet50": "a.keras"}).weights == "imagenet"
        assert _changed(load_recipe("customcnn").variant(CORRECTED), views=2).views is None

    def test_a_test_threshold_is_judged_on_test_alone(self, tiny, monkeypatch):
        labels = np.array([0, 0, 1, 1])
        names = np.array(list("abcd"))
        predictions = Predictions(names, names, labels, np.array([0.1, 0.62, 0.66, 0.9]))
        evaluation, name = _evaluate_at(predictions, None, tiny.variant(AS_PUBLISHED))
        assert name == CHOSEN_ON_TEST
        assert evaluation.operating_points[name].point.threshold == 0.65

    def test_of_several_seeds_estimates_and_ends_are_means(self):
        rows = [
            Row(
                "a",
                "A",
                CORRECTED,
                {"f1": Interval(x, x - 0.1, x + 0.1, "w")},
                1,
                None,
                (x,),
                "val",
                minutes=x,
            )
            for x in (0.4, 0.6)
        ]
        both = _mean_of_seeds(rows)
        assert both.figures["f1"] == Interval(0.5, pytest.approx(0.4), pytest.approx(0.6), "w")
        assert both.spread == {"f1": (0.4, 0.6)}
        assert both.thresholds == (0.4, 0.6)
        assert both.minutes == 0.5
        assert _mean_of_seeds(rows[:1]).spread is None

    def test_a_figure_that_a_seed_lacks_has_no_spread_and_is_called_undefined(self):
        undefined = Interval(math.nan, math.nan, math.nan, "w")
        figures = [{"precision": undefined, "roc_auc": Interval(x, x, x, "w")} for x in (0.4, 0.6)]
        both = _mean_of_seeds([Row("a", "A", CORRECTED, of_seed, 1, minutes=1.0) for of_seed in figures])
        assert json.loads(json.dumps(both.json(), allow_nan=False))["spread"] == {"roc_auc": [0.4, 0.6]}
        assert (figure(both, "precision"), spread(both, "precision")) == ("undefined", "")

    def test_a_row_without_an_interval_is_plain_json(self):
        row = Row("a", "A", "published", {"f1": Interval(0.5, math.nan, math.nan, "none")})
        table = Reproduction((row,), (), "data", (1, 1))
        assert (
            json.loads(json.dumps(table.json(), allow_nan=False))["rows"][0]["figures"]["f1"]["low"] is None
        )


class TestPublishedIntervals:
    def test_proportions_are_wilsons_on_the_published_numbers(self):
        figures = {"accuracy": 0.9327, "sensitivity": 0.9, "specificity": 0.8, "precision": 0.9}
        found = published_intervals(figures)
        # Newcombe's formula, by hand, of 582/624, 351/390, 187.2/234 and 351/390 again.
        expected = {
            "accuracy": (0.9103, 0.9498),
            "sensitivity": (0.8663, 0.9260),
            "specificity": (0.7441, 0.8463),
            "precision": (0.8663, 0.9260),
        }
        for name, (low, high) in expected.items():
            assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=1e-4)
            assert found[name].estimate == pytest.approx(figures[name])

    def test_precision_is_a_share_of_the_predicted_positives(self):
        """Wilson's interval of 304.2/338: 0.78 of 390 are found, which is 0.9 of the predicted positives."""
        found = published_intervals({"sensitivity": 0.78, "precision": 0.9})["precision"]
        assert (found.low, found.high) == pytest.approx((0.8634, 0.9276), abs=1e-4)

    def test_f1_and_balanced_accuracy_have_some_if_the_figures_they_need_are_printed(self):
        found = published_intervals(load_recipe("pneumoniamnist-cnn").published.figures)
        assert all(interval.low < interval.estimate < interval.high for interval in found.values())
        without = published_intervals({"f1": 0.9, "balanced_accuracy": 0.8, "precision": 0.9})
        assert all(math.isnan(interval.low) for interval in without.values())

    def test_f1s_agrees_with_resampling_the_matrix(self):
        """CNN_94's accuracy and F1, among others of [[212, 22], [12, 378]]."""
        drawn = np.random.default_rng(0).multinomial(624, np.array([212, 22, 12, 378]) / 624, size=20_000)
        _, fp, fn, tp = drawn.T
        low, high = np.percentile(2 * tp / (2 * tp + fp + fn), [2.5, 97.5])
        found = published_intervals({"accuracy": 590 / 624, "f1": 756 / 790})["f1"]
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)


def test_the_page_names_every_recipe_and_every_key():
    page = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    keys = set(signature(Configuration).parameters) - {"threshold_on"}
    assert [name for name in (*recipe_names(), *sorted(keys)) if f"`{name}`" not in page] == []
