"""The fit keeps the best weights, judges exactly, and writes down what happened."""

import keras
import keras_tuner
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pneumokeras.core.errors import ModelError
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import Fixed
from pneumokeras.models.head import compile_classifier
from pneumokeras.models.hypermodels import CompactCNNHyperModel
from pneumokeras.runs.folder import begin_run
from pneumokeras.runs.result import keep_run, load_run
from pneumokeras.training.callbacks import Schedule, cross_entropy
from pneumokeras.training.data_adapters import ImageBatches
from pneumokeras.training.evaluate import evaluate
from pneumokeras.training.fit import fit
from pneumokeras.training.loop import fit_on, set_seed
from pneumokeras.training.objectives import best_epoch
from pneumokeras.training.predict import predict
from pneumokeras.training.settings import BatchSettings


@pytest.fixture
def model():
    set_seed(0)
    return CompactCNNHyperModel(input_shape=(32, 32, 1), width=(8, 8, 8), depth=(2, 2)).build(
        keras_tuner.HyperParameters()
    )


def test_the_best_weights_come_back(model, spot_splits):
    result = fit(model, spot_splits.train, spot_splits.val, epochs=4)
    best = best_epoch(result.history)
    probabilities = model.predict(spot_splits.val.images[..., np.newaxis], verbose=0).reshape(-1)
    assert roc_auc_score(spot_splits.val.labels, probabilities) == pytest.approx(
        result.history["val_auc"][best]
    )
    assert cross_entropy(spot_splits.val.labels, probabilities) == pytest.approx(
        result.history["val_loss"][best], rel=1e-4
    )


def test_the_history_has_a_row_an_epoch_with_the_learning_rate(model, spot_splits):
    history = fit(model, spot_splits.train, spot_splits.val, epochs=2).history
    assert {"loss", "val_loss", "val_auc", "val_accuracy", "learning_rate", "seconds"} <= set(history)
    assert {len(values) for values in history.values()} == {2}


def test_the_same_seed_gives_the_same_fit(spot_splits):
    def fitted():
        set_seed(3)
        hypermodel = CompactCNNHyperModel(input_shape=(32, 32, 1), width=(8, 8, 8), depth=(2, 2))
        model = hypermodel.build(keras_tuner.HyperParameters())
        return fit(model, spot_splits.train, spot_splits.val, epochs=2, seed=3).history

    first, second = fitted(), fitted()
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-5)
    np.testing.assert_allclose(first["val_auc"], second["val_auc"], rtol=1e-5)


def test_val_loss_leaves_the_penalty_out(spot_splits):
    set_seed(0)
    inputs = keras.Input((32, 32, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    hidden = keras.layers.Dense(8, activation="relu", kernel_regularizer=keras.regularizers.L2(1.0))(flat)
    penalized = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
    penalized.compile("adam", "binary_crossentropy")
    history = fit(penalized, spot_splits.train, spot_splits.val, epochs=1).history
    images, labels = spot_splits.val.images[..., np.newaxis], spot_splits.val.labels.reshape(-1, 1)
    probabilities = penalized.predict(images, verbose=0)
    expected = keras.losses.BinaryCrossentropy()(labels.astype(np.float32), probabilities).numpy()
    assert history["val_loss"] == [pytest.approx(expected, rel=1e-5)]
    (penalty,) = penalized.losses
    assert float(penalty) > 1
    assert history["loss"][0] > float(penalty)


def test_class_weights_are_balanced_by_default(spot_splits):
    uneven = spot_splits.train.subset(np.r_[np.flatnonzero(spot_splits.train.labels == 1), 0, 2])

    def losses(**options):
        set_seed(0)
        hypermodel = CompactCNNHyperModel(input_shape=(32, 32, 1), width=(8, 8, 8), depth=(2, 2))
        model = hypermodel.build(keras_tuner.HyperParameters())
        return fit(model, uneven, spot_splits.val, epochs=1, **options).history["loss"]

    balanced = losses()
    assert balanced == pytest.approx(losses(class_weights={0: 34 / 4, 1: 34 / 64}), rel=1e-5)
    assert balanced != pytest.approx(losses(class_weights=None), rel=0.1)


def test_the_checkpoint_holds_the_best_weights(model, spot_splits, tmp_path):
    path = tmp_path / "best.weights.h5"
    fit(model, spot_splits.train, spot_splits.val, epochs=3, checkpoint=path)
    expected = model.get_weights()
    model.load_weights(path)
    for before, after in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_it_stops_early_and_lowers_the_learning_rate_when_nothing_improves(spot_splits):
    inputs = keras.Input((32, 32, 1))
    outputs = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(inputs * 0.0))
    constant = keras.Model(inputs, outputs)
    constant.compile("sgd", "binary_crossentropy")
    constant.optimizer.learning_rate = 0.0
    history = fit(constant, spot_splits.train, spot_splits.val, epochs=20).history
    assert len(history["loss"]) == 6
    constant.optimizer.learning_rate = 1e-3
    history = fit(constant, spot_splits.train, spot_splits.val, epochs=20).history
    assert history["learning_rate"][-1] < history["learning_rate"][0]


def test_without_patience_it_goes_on_and_without_a_plateau_the_rate_stays(spot_splits):
    inputs = keras.Input((32, 32, 1))
    outputs = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(inputs * 0.0))
    constant = keras.Model(inputs, outputs)
    constant.compile("sgd", "binary_crossentropy")
    constant.optimizer.learning_rate = 1e-3
    schedule = Schedule(plateau=None, patience=None)
    history = fit(constant, spot_splits.train, spot_splits.val, epochs=12, schedule=schedule).history
    assert history["learning_rate"] == pytest.approx([1e-3] * 12)


def test_a_model_that_is_not_compiled_is_refused(spot_splits):
    model = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    with pytest.raises(ModelError, match="not compiled"):
        fit(model, spot_splits.train, spot_splits.val, epochs=1)


def test_a_model_without_a_known_input_is_refused_in_one_line(spot_splits):
    unbuilt = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")])
    unbuilt.compile("adam", "binary_crossentropy")
    with pytest.raises(ModelError, match="no graph from one image to one output"):
        fit(unbuilt, spot_splits.train, spot_splits.val, epochs=1)


def test_a_run_just_trained_and_the_same_run_found_are_fitted_alike(spot_splits, tmp_path):
    """Both are uncompiled, and the error says how to go on; after a fit none shows the run's threshold."""
    splits = Splits(spot_splits.train[:16], spot_splits.val[:8], spot_splits.test[:4])
    inputs = keras.Input((32, 32, 1))
    model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(keras.layers.GlobalMaxPooling2D()(inputs)))
    compile_classifier(model, learning_rate=1e-3)
    settings = {"model": "tiny", "objective": "val_auc"}
    with begin_run(tmp_path / "run", splits, settings=settings, seed=0) as begun:
        trained = keep_run(begun, model, predict(model, splits.val), policy=Fixed(0.25))
    for run in (trained, load_run(tmp_path / "run")):
        with pytest.raises(ModelError, match=r"not compiled.*compile_classifier.*`stages`"):
            fit(run.model, splits.train, splits.val, epochs=1)
        assert "threshold 0.25>" in repr(run)
        assert "validation point" in run._repr_html_()
        assert evaluate(run, splits.test).chosen_result.point.threshold == 0.25
        compile_classifier(run.model, learning_rate=1e-3)
        fit(run.model, splits.train, splits.val, epochs=1)
        assert evaluate(run, splits.test).chosen_result.point.threshold == 0.5
        assert "threshold 0.5 (the model was fitted since" in repr(run)
        assert "validation point" not in run._repr_html_()
        assert "the model was fitted since" in run._repr_html_()


def test_epochs_show_the_views_in_turn(model, spot_splits):
    splits = Splits(*spot_splits)
    data = ImageBatches.of(splits.train, splits.val, BatchSettings(views=2), image_size=(32, 32))
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(data.train.view))
    fit_on(model, data, epochs=3, callbacks=[watch])
    assert seen == [0, 1, 0]


def test_a_plateau_cannot_lower_a_schedule_of_keras(spot_splits):
    inputs = keras.Input((32, 32, 1))
    outputs = keras.layers.Dense(1, "sigmoid")(
        keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    )
    model = keras.Model(inputs, outputs)
    decay = keras.optimizers.schedules.ExponentialDecay(1e-3, 10, 0.9)
    model.compile(keras.optimizers.Adam(decay), "binary_crossentropy")
    with pytest.raises(ModelError, match="compiled with ExponentialDecay"):
        fit(model, spot_splits.train, spot_splits.val, epochs=1)
    options = {"epochs": 1, "views": 1, "schedule": Schedule(plateau=None)}
    assert fit(model, spot_splits.train, spot_splits.val, **options).history["loss"]
