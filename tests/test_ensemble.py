"""An ensemble is one model by the contract: the exact mean, from runs that nothing leaks between."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from scipy.special import expit

import pneumokeras as pk
from pneumokeras.core.errors import ModelError, PneumokerasError, RunError, SettingsError
from pneumokeras.core.files import read_csv, write_csv
from pneumokeras.data.dataset import CLASS_NAMES, RadiographSet
from pneumokeras.evaluation import TemperatureScaling
from pneumokeras.explain.gradcam import explained_layers, heatmap_function
from pneumokeras.explain.projections import features
from pneumokeras.explain.randomization import randomization_check, reinitialized
from pneumokeras.models.averaging import averaged, is_area_mean, members_of
from pneumokeras.models.head import probability, sigmoid
from pneumokeras.models.saving import description_of, save_model, set_description
from pneumokeras.runs.folder import begin_run, open_run
from pneumokeras.runs.result import keep_run
from pneumokeras.training.ensemble import _joint_splits, _Member
from tests.calling import call, error_line

SIDE = 16
RADIOGRAPHS = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 1)).astype(np.float32)


def small_model(seed, *, side=SIDE, **description):
    """With all that makes a copy go wrong: statistics, dropout, an operation, a list of inputs."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((side, side, 1), name="radiograph")
    tensor = keras.layers.Concatenate(name="three")([inputs] * 3)
    tensor = keras.ops.flip(tensor, axis=-1)
    tensor = keras.layers.Normalization(name="normalize")(tensor)
    tensor = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(tensor)
    tensor = keras.layers.BatchNormalization(name="norm")(tensor)
    tensor = keras.layers.GlobalAveragePooling2D(name="features")(tensor)
    tensor = keras.layers.Dropout(0.5, name="dropout")(tensor)
    model = keras.Model(inputs, probability(tensor), name="small")
    norm = model.get_layer("norm")
    norm.set_weights([np.random.default_rng(seed).uniform(0.5, 2, w.shape) for w in norm.get_weights()])
    normalize = model.get_layer("normalize")
    normalize.set_weights([np.array([100, 110, 120]), np.array([900, 800, 700]), np.array(0)])
    normalize.finalize_state()
    set_description(model, architecture="small", **description)
    return model


def constant_model(logit):
    inputs = keras.Input((SIDE, SIDE, 1), name="radiograph")
    last = keras.layers.Dense(
        1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(logit), name="logit"
    )
    return keras.Model(inputs, sigmoid(last(keras.layers.Flatten(name="flat")(inputs))))


@pytest.fixture(scope="module")
def members():
    return {"first": small_model(1), "second": small_model(2), "third": small_model(3)}


@pytest.fixture(scope="module")
def mean(members):
    return averaged(members)


@pytest.fixture(scope="module")
def splits(phantom_folder):
    return pk.load_splits(phantom_folder, seed=1)


def logits_of(model, radiographs):
    return keras.Model(model.inputs[0], model.layers[-1].input)(radiographs).numpy()


class TestAveraged:
    def test_it_gives_the_mean_of_the_probabilities(self, members, mean):
        expected = np.mean([model(RADIOGRAPHS).numpy() for model in members.values()], axis=0)
        assert expected.std() > 1e-3
        np.testing.assert_allclose(mean(RADIOGRAPHS).numpy(), expected, rtol=0, atol=1e-6)

    def test_dropout_and_statistics_stand_still_in_training_too(self, mean):
        trained = mean(RADIOGRAPHS, training=True).numpy()
        np.testing.assert_array_equal(trained, mean(RADIOGRAPHS).numpy())
        assert not mean.trainable_weights

    def test_members_are_left_as_they_are(self, members, mean):
        for model in members.values():
            assert model.get_layer("dropout").rate == 0.5
            assert model.trainable_weights

    def test_it_is_one_flat_graph_that_ends_as_every_model_does(self, mean):
        assert not any(isinstance(layer, keras.Model) for layer in mean.layers)
        logit, last = mean.layers[-2:]
        assert (type(logit), logit.name, logit.units) == (keras.layers.Dense, "logit", 1)
        assert (last.name, last.dtype) == ("probability", "float32")
        assert mean.get_layer("member2_conv").name == "member2_conv"

    @pytest.mark.parametrize(
        "logits", [(-20.7, -20.7), (-40, -60), (30, 50), (100, 90), (-30, 30), (-2000, 3), (0.1, -0.2)]
    )
    def test_a_probability_too_near_0_or_1_for_float32_has_its_logit(self, logits):
        model = averaged(dict(zip("ab", map(constant_model, logits), strict=True)))
        z = np.array(logits, np.float64)
        expected = np.logaddexp.reduce(-np.logaddexp(0, -z)) - np.logaddexp.reduce(-np.logaddexp(0, z))
        np.testing.assert_allclose(logits_of(model, RADIOGRAPHS[:1])[0, 0], expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(model(RADIOGRAPHS[:1]), np.mean(expit(z)), rtol=3e-6)

    def test_plain_keras_loads_it_in_safe_mode_without_pneumokeras(self, members, tmp_path):
        model = averaged({**members, "small": small_model(4, side=10)}, temperatures=(1, 2, 3, 0.5))
        save_model(model, tmp_path / "model.keras")
        np.save(tmp_path / "radiographs.npy", RADIOGRAPHS)
        code = (
            "import keras, numpy as np, sys\n"
            "model = keras.models.load_model('model.keras', safe_mode=True)\n"
            "assert not model.compiled and 'pneumokeras' not in sys.modules\n"
            "np.save('probabilities.npy', model(np.load('radiographs.npy')))"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
        received = np.load(tmp_path / "probabilities.npy")
        np.testing.assert_allclose(received, model(RADIOGRAPHS).numpy(), atol=1e-6)

    def test_temperatures_divide_the_members_logits(self, members):
        model = averaged(members, temperatures=(0.5, 2, 4))
        logits = [
            logits_of(one, RADIOGRAPHS) / t for one, t in zip(members.values(), (0.5, 2, 4), strict=True)
        ]
        expected = np.mean(expit(logits), axis=0)
        np.testing.assert_allclose(model(RADIOGRAPHS).numpy(), expected, atol=1e-6)

    def test_the_description_says_what_it_is_made_of(self, members, mean):
        assert description_of(mean).architecture == "ensemble of small, small, small"
        assert description_of(mean).weights == "trained from scratch"
        random = averaged({"a": members["first"], "b": small_model(5, weights="random, calibrated")})
        assert description_of(random).weights == "by member: 1 trained from scratch; 2 random, calibrated"
        assert not description_of(random).began_random
        both = averaged({name: small_model(seed, weights="random") for seed, name in enumerate("ab")})
        assert description_of(both).began_random

    @pytest.mark.parametrize(
        ("other", "what"),
        [
            (
                lambda: small_model(5, classes=("HEALTHY", "ILL")),
                "classes NORMAL, PNEUMONIA and HEALTHY, ILL",
            ),
            (lambda: small_model(5, pad=True), "padding off and on"),
        ],
    )
    def test_models_that_do_not_go_together_are_refused(self, members, other, what):
        with pytest.raises(ModelError, match=f"first and other cannot be averaged: they have {what}"):
            averaged({"first": members["first"], "other": other()})

    def test_padded_models_of_other_proportions_are_refused(self):
        wide = keras.Model(
            inputs := keras.Input((8, 16, 1)), sigmoid(keras.layers.Dense(1)(keras.layers.Flatten()(inputs)))
        )
        set_description(wide, pad=True)
        with pytest.raises(ModelError, match=r"height by width 1\.0 and 0\.5"):
            averaged({"square": small_model(1, pad=True), "wide": wide})

    def test_one_model_is_no_ensemble(self, members):
        with pytest.raises(ModelError, match=r"two or more models to average\. Received 1"):
            averaged({"first": members["first"]})

    def test_a_model_that_ends_otherwise_is_refused(self, members):
        inputs = keras.Input((SIDE, SIDE, 1))
        softmax = keras.Model(
            inputs, keras.layers.Dense(2, activation="softmax", name="two")(keras.layers.Flatten()(inputs))
        )
        with pytest.raises(ModelError, match=r"softmax ends in Dense 'two'\. Expected the sigmoid"):
            averaged({"first": members["first"], "softmax": softmax})

    def test_a_sigmoid_inside_the_last_dense_layer_is_averaged_too(self, members, tmp_path):
        keras.utils.set_random_seed(5)
        fused = keras.Sequential(
            [
                keras.Input((SIDE, SIDE, 1)),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Conv2D(4, 3, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(1, activation="sigmoid", name="p", bias_initializer="ones"),
            ]
        )
        ensemble = averaged({"fused": fused, "first": members["first"]})
        save_model(ensemble, tmp_path / "model.keras")
        plain = keras.models.load_model(tmp_path / "model.keras")
        expected = fused(RADIOGRAPHS).numpy()
        np.testing.assert_allclose(expit(members_of(plain)[0](RADIOGRAPHS)), expected, atol=1e-6)
        for model in (ensemble, plain):
            mean = (expected + members["first"](RADIOGRAPHS).numpy()) / 2
            np.testing.assert_allclose(model(RADIOGRAPHS).numpy(), mean, atol=1e-6)
        assert fused.get_layer("p").activation is keras.activations.sigmoid
        assert pk.grad_cam(plain, RADIOGRAPHS).shape == (len(RADIOGRAPHS), SIDE, SIDE)


class TestDifferentSizes:
    @pytest.mark.parametrize(
        ("large", "small", "mean_off", "most_off"), [(48, 16, 0.3, 1.5), (48, 36, 2.5, 25.0)]
    )
    def test_a_smaller_member_sees_nearly_what_a_loader_reads(self, large, small, mean_off, most_off, splits):
        ensemble = averaged({"large": small_model(1, side=large), "small": small_model(2, side=small)})
        assert ensemble.input_shape == (None, large, large, 1)
        resized = keras.Model(ensemble.inputs[0], ensemble.get_layer("member2_area_means_of_columns").output)
        read, wanted = (splits.test.pixels((side, side)).astype(np.float32) for side in (large, small))
        off = np.abs(resized(read[..., None]).numpy()[..., 0] - wanted)
        assert off.mean() < mean_off
        assert off.max() < most_off

    def test_the_mean_is_nearly_that_of_members_that_read_for_themselves(self, splits):
        sides = {"large": 48, "middle": 36, "small": 16}
        models = {name: small_model(seed, side=sides[name]) for seed, name in enumerate(sides)}
        own = [pk.predict(model, splits.test).probabilities for model in models.values()]
        received = pk.predict(averaged(models), splits.test).probabilities
        assert np.mean(own, axis=0).std() > 0.01
        np.testing.assert_allclose(received, np.mean(own, axis=0), atol=0.01)


class TestHeatmaps:
    def test_the_heatmap_of_equal_members_is_theirs(self, members):
        model = members["first"]
        twice = averaged({"one": model, "other": keras.models.clone_model(model)})
        for layer in model.layers:
            if layer.weights:
                twice.get_layer(f"member2_{layer.name}").set_weights(layer.get_weights())
        np.testing.assert_allclose(
            pk.grad_cam(twice, RADIOGRAPHS), pk.grad_cam(model, RADIOGRAPHS), atol=1e-4
        )

    def test_a_member_too_sure_to_be_moved_has_no_say(self, members):
        sure, other = small_model(8), small_model(9, side=12)
        kernel, bias = sure.get_layer("logit").get_weights()
        sure.get_layer("logit").set_weights([kernel, bias + 60])
        alone = averaged({"other": other, "first": members["first"]})
        received = pk.grad_cam(
            averaged({"sure": sure, "other": other, "first": members["first"]}), RADIOGRAPHS
        )
        np.testing.assert_allclose(received, pk.grad_cam(alone, RADIOGRAPHS), atol=1e-4)
        assert received.max() == 1

    def test_a_map_counts_by_the_area_of_its_cells(self):
        """One member sees the left half on 8 x 8 cells, the other the right half on 4 x 4."""

        def half(side, left):
            inputs = keras.Input((side, side, 1))
            cells = keras.layers.AveragePooling2D(4)(inputs)
            other = ((0, 0), (0, side // 8) if left else (side // 8, 0))
            kept = keras.layers.ZeroPadding2D(other)(keras.layers.Cropping2D(other)(cells))
            last = keras.layers.Dense(1, kernel_initializer="ones", name="logit")
            return keras.Model(inputs, sigmoid(last(keras.layers.GlobalAveragePooling2D()(kept))))

        both = averaged({"left": half(32, left=True), "right": half(16, left=False)})
        heatmap = pk.grad_cam(both, np.ones((1, 32, 32, 1), np.float32))[0]
        np.testing.assert_allclose(heatmap[:, :8], heatmap[:, 24:], atol=0.05)
        assert heatmap[:, :8].min() > 0.7

    def test_one_members_layer_can_be_asked_for(self, mean, members):
        heatmap = pk.grad_cam(mean, RADIOGRAPHS, layer="member2_conv")
        np.testing.assert_allclose(
            heatmap, pk.grad_cam(members["second"], RADIOGRAPHS, layer="conv"), atol=1e-4
        )

    def test_members_are_found_in_a_saved_ensemble(self, mean, members, tmp_path):
        save_model(mean, tmp_path / "model.keras")
        plain = keras.models.load_model(tmp_path / "model.keras")
        found = members_of(plain)
        assert len(found) == 3
        for one, model in zip(found, members.values(), strict=True):
            np.testing.assert_allclose(one(RADIOGRAPHS), logits_of(model, RADIOGRAPHS), atol=1e-5)
        assert members_of(members["first"]) == [members["first"]]

    def test_the_checks_are_of_the_map_that_is_shown(self, monkeypatch):
        """Not of one member's alone, whose layer has a name to ask for."""
        models = {"large": small_model(1), "small": small_model(2, side=14)}
        model, asked = averaged(models), []

        def remembered(model, **arguments):
            asked.append(arguments)
            return heatmap_function(model, **arguments)

        monkeypatch.setattr("pneumokeras.explain.sanity_checks.heatmap_function", remembered)
        monkeypatch.setattr("pneumokeras.explain.randomization.heatmap_function", remembered)
        radiographs = RadiographSet.from_arrays(RADIOGRAPHS[..., 0].astype(np.uint8), np.ones(6, int))
        checks = pk.check_explanations(model, radiographs)
        assert checks.layer == "member1_norm, member2_norm"
        assert [arguments["layer"] for arguments in asked] == [None, None]

    def test_new_weights_leave_what_members_see_alone(self):
        model = averaged({"large": small_model(1), "small": small_model(2, side=12)})
        fresh = reinitialized(model, seed=0)
        means = [layer for layer in model.layers if is_area_mean(layer)]
        assert len(means) == 2
        for layer in means:
            np.testing.assert_array_equal(fresh.get_layer(layer.name).kernel, layer.kernel)
        check = randomization_check(model, RADIOGRAPHS, steps=99)
        assert check.steps[-1].layers == 1 + 2 * len(["conv", "norm", "logit"])

    def test_its_features_are_the_members_side_by_side(self, mean, members):
        expected = np.concatenate([features(model, RADIOGRAPHS) for model in members.values()], axis=1)
        np.testing.assert_allclose(features(mean, RADIOGRAPHS), expected, atol=1e-5)

    def test_every_member_of_a_member_is_explained(self, members):
        inner = averaged({name: members[name] for name in ("first", "second")})
        nested = averaged({"inner": inner, "third": members["third"]})
        halves = [inner(RADIOGRAPHS), members["third"](RADIOGRAPHS)]
        np.testing.assert_allclose(nested(RADIOGRAPHS), np.mean(halves, axis=0), atol=1e-6)
        for one, model in zip(members_of(nested), members.values(), strict=True):
            np.testing.assert_allclose(one(RADIOGRAPHS), logits_of(model, RADIOGRAPHS), atol=1e-5)
        assert explained_layers(nested) == ["member1_member1_norm", "member1_member2_norm", "member2_norm"]
        assert pk.grad_cam(nested, RADIOGRAPHS).shape == (6, SIDE, SIDE)


def keep(folder, model, splits):
    with begin_run(folder, splits, settings={"model": "small", "objective": "val_auc"}, seed=1) as run:
        keep_run(run, model, pk.predict(model, splits.val), timings={"fit": 1.0})
    return folder


@pytest.fixture(scope="module")
def runs(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    sides = {"first": 32, "second": 32, "third": 16}
    return {
        name: keep(folder / name, small_model(seed, side=side), splits)
        for seed, (name, side) in enumerate(sides.items(), start=1)
    }


@pytest.fixture(scope="module")
def made(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensembles") / "mean"
    before = {path: path.read_bytes() for run in runs.values() for path in run.rglob("*") if path.is_file()}
    result = call("ensemble", *runs.values(), "--run", folder, "--calibrate")
    assert result.exit_code == 0, result.output
    assert before == {
        path: path.read_bytes() for run in runs.values() for path in run.rglob("*") if path.is_file()
    }
    return folder, result


class TestRuns:
    def test_it_says_what_members_and_mean_reach(self, made, runs):
        for name in runs:
            assert f"{name}: validation AUC 0." in made[1].stdout
        assert "Mean of 3: validation AUC 0." in made[1].stdout
        assert f"Next: pneumokeras report {made[0]}" in made[1].stdout

    def test_the_same_command_shows_the_finished_run(self, made, runs):
        written = (made[0] / "model.keras").stat().st_mtime_ns
        again = call("ensemble", *runs.values(), "--run", made[0], "--calibrate")
        assert again.stdout == made[1].stdout
        assert (made[0] / "model.keras").stat().st_mtime_ns == written

    def test_other_settings_in_a_named_run_are_refused(self, made, runs):
        line = error_line(call("ensemble", *runs.values(), "--run", made[0]))
        assert "is a run with calibrate True, not False" in line
        two = error_line(call("ensemble", runs["first"], runs["second"], "--run", made[0], "--calibrate"))
        assert "member3" in two

    @pytest.mark.parametrize(
        ("rules", "expected"),
        [(["by hand"] * 3, "by hand"), ([None] * 3, None), (["by hand", None, ""], None)],
    )
    def test_the_rule_of_the_splits_is_its_members_if_they_share_one(self, rules, expected, runs, tmp_path):
        members = [_Member.read(shutil.copytree(run, tmp_path / name)) for name, run in runs.items()]
        for member, rule in zip(members, rules, strict=True):
            data = member.run.record()["data"] | {"split_rule": rule}
            member.run.note(data={name: value for name, value in data.items() if value is not None})
        splits = _joint_splits(members, CLASS_NAMES)
        assert splits.record().get("split_rule") == expected

    def test_its_temperatures_are_fitted_on_validation(self, made, runs):
        record = open_run(made[0]).record()
        for name, run in zip(record["members"], runs.values(), strict=True):
            rows = read_csv(run / "predictions" / "val.csv")
            labels = [int(row["label"] == "PNEUMONIA") for row in rows]
            fitted = TemperatureScaling.fit(labels, [float(row["probability"]) for row in rows])
            assert record["members"][name]["temperature"] == fitted.temperature
        assert record["settings"]["members"]["member1"]["run"] == "first"

    def test_the_run_is_given_back_without_a_history(self, made, splits):
        result = pk.load_run(made[0])
        assert (dict(result.history), result.trials, dict(result.best_hyperparameters)) == ({}, (), {})
        point = result.operating_points["validation"]
        assert (point.chosen_on, point.images) == ("val", len(splits.val))
        rows = read_csv(made[0] / "predictions" / "val.csv")
        said = pk.predict(result.model, splits.val).probabilities
        np.testing.assert_allclose([float(row["probability"]) for row in rows], said, atol=1e-6)
        assert description_of(result.model).operating_points["validation"]["threshold"] == point.threshold

    def test_its_splits_are_the_members(self, made, runs):
        assert read_csv(made[0] / "splits.csv") == read_csv(runs["first"] / "splits.csv")
        assert (
            open_run(made[0]).record()["data"]["fingerprint"]
            == (open_run(runs["first"]).record()["data"]["fingerprint"])
        )

    def test_a_report_is_made_of_it(self, made):
        result = call("report", made[0])
        assert result.exit_code == 0, result.output
        page = (made[0] / "report" / "index.html").read_text()
        assert "ensemble of small, small, small" in page
        assert "Heatmaps" in page
        assert json.loads((made[0] / "report" / "report.json").read_text())["split"] == "test"

    def test_radiographs_are_predicted_and_explained_with_it(self, made, splits, tmp_path):
        names = splits.test.names[:2]
        result = call("predict", made[0], *names, "--heatmaps", tmp_path / "maps", "--format", "json")
        assert result.exit_code == 0, result.output
        rows = json.loads(result.stdout)
        expected = pk.predict(pk.load_run(made[0]).model, splits.test).probabilities[:2]
        np.testing.assert_allclose([row["probability"] for row in rows], expected, atol=1e-6)
        assert all(cv2.imread(row["heatmap"]) is not None for row in rows)

    def test_by_default_it_is_named_after_settings_and_data(self, runs, in_tmp):
        result = pk.ensemble([runs["first"], runs["second"]])
        assert result.run.parts[0] == "tuner_runs"
        assert result.run.name.startswith("ensemble-")
        assert pk.ensemble([runs["first"], runs["second"]]).run == result.run


class TestRefusals:
    def test_one_run_is_not_enough(self, runs, in_tmp):
        assert "Expected two or more" in error_line(call("ensemble", runs["first"]))
        assert not list(in_tmp.iterdir())

    def test_a_run_stands_in_it_once(self, runs):
        with pytest.raises(RunError, match="hold the same model"):
            pk.ensemble([runs["first"], runs["first"]])

    @pytest.mark.parametrize("wrong", ["first", Path("first"), [None, "first"], ["first", 3], None, 3])
    def test_what_is_no_list_of_runs_is_one_line(self, wrong):
        with pytest.raises(SettingsError, match=r"Expected `runs` as a list .* Received") as caught:
            pk.ensemble(wrong)
        assert caught.value.parameter == "runs"

    def test_a_folder_that_is_no_run_is_one_line(self, runs, tmp_path):
        assert "is no run folder" in error_line(call("ensemble", runs["first"], tmp_path))

    def test_a_held_out_radiograph_that_another_trained_on_is_named(self, runs, splits, tmp_path):
        val, train = splits.val, splits.train
        swapped = replace(splits, train=replace(val, split="train"), val=replace(train, split="val"))
        other = keep(tmp_path / "other", small_model(7, side=32), swapped)
        line = error_line(call("ensemble", runs["first"], other, "--run", tmp_path / "mean"))
        assert f"is in the val of {runs['first']} and in the train of {other} ({len(val)} such)" in line
        assert not (tmp_path / "mean").exists()

    def test_other_validation_radiographs_are_refused(self, runs, splits, tmp_path):
        fewer = replace(splits, val=splits.val.subset(np.arange(1, len(splits.val))))
        other = keep(tmp_path / "other", small_model(7, side=32), fewer)
        with pytest.raises(RunError, match=r"is in the val of .*first, not in that of .*other \(1 such\)"):
            pk.ensemble([runs["first"], other])

    def test_other_labels_are_refused(self, runs, splits, tmp_path):
        labels = splits.val.require_labels().copy()
        labels[0] = 1 - labels[0]
        other = keep(
            tmp_path / "other",
            small_model(7, side=32),
            replace(splits, val=replace(splits.val, labels=labels)),
        )
        with pytest.raises(
            RunError, match=r"is NORMAL in .*first and PNEUMONIA in|is PNEUMONIA in .*first and"
        ):
            pk.ensemble([runs["first"], other])

    def test_runs_on_other_training_radiographs_go_together(self, runs, splits, tmp_path):
        half = replace(splits, train=splits.train.subset(np.arange(0, len(splits.train), 2)))
        other = keep(tmp_path / "other", small_model(7, side=32), half)
        result = pk.ensemble([other, runs["first"]], run=tmp_path / "mean")
        kept = [row["digest"] for row in read_csv(result.run / "splits.csv") if row["split"] == "train"]
        assert sorted(kept) == sorted(splits.train.digests)

    def test_predictions_that_are_not_of_all_validation_radiographs_are_refused(self, splits, runs, tmp_path):
        other = keep(tmp_path / "other", small_model(7, side=32), splits)
        path = other / "predictions" / "val.csv"
        rows = read_csv(path)
        write_csv(path, list(rows[0]), rows[1:])
        with pytest.raises(PneumokerasError, match=r"report of .*other with split val"):
            pk.ensemble([runs["first"], other], run=tmp_path / "mean")
