"""The learning rate falls when it should, by Keras' count of epochs or by PyTorch's."""

from types import SimpleNamespace

import keras
import pytest

from pneumokeras.core.errors import SettingsError
from pneumokeras.training.callbacks import Plateau, Schedule


def rates(plateau, losses, *starts):
    """The learning rates after each epoch, for each optimizer."""
    optimizers = [keras.optimizers.SGD(start) for start in starts or (1.0,)]
    whole = SimpleNamespace(optimizers=optimizers) if len(optimizers) > 1 else optimizers[0]
    callback = plateau.callback()
    callback.set_model(SimpleNamespace(optimizer=whole))
    callback.on_train_begin()
    history = []
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        history.append([float(optimizer.learning_rate) for optimizer in optimizers])
    return [each if len(each) > 1 else each[0] for each in history]


def torch_rates(losses, patience, factor):
    """`torch.optim.lr_scheduler.ReduceLROnPlateau.step` with its defaults, from a rate of 1."""
    rate, best, bad = 1.0, float("inf"), 0
    for loss in losses:
        if loss < best * (1 - 1e-4):
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            rate, bad = rate * factor, 0
        yield rate


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize(
    "losses",
    [
        [1.0] * 10,
        [3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1],
        [1, 0.5, 0.7, 0.4, 0.6, 0.6, 0.6, 0.6, float("nan")],
    ],
    ids=["flat", "steps", "noisy"],
)
def test_the_torch_count_is_torchs(losses, patience):
    plateau = Plateau(patience=patience, min_learning_rate=0, counting="torch")
    assert rates(plateau, losses) == pytest.approx(list(torch_rates(losses, patience, 0.5)))


def test_keras_waits_one_epoch_less():
    flat = [1.0] * 6
    assert rates(Plateau(patience=3), flat) == [1, 1, 1, 0.5, 0.5, 0.5]
    assert rates(Plateau(patience=3, counting="torch"), flat) == [1, 1, 1, 1, 0.5, 0.5]


def test_lower_means_by_a_share_of_the_best_to_torch_and_by_a_fixed_step_to_keras():
    large, small = [10, 9.9995, 9.999], [0.1, 0.09995, 0.0999]
    assert rates(Plateau(patience=1), large)[-1] == 1
    assert rates(Plateau(patience=1, counting="torch"), large)[-1] == 0.5
    assert rates(Plateau(patience=1), small)[1] == 0.5
    assert rates(Plateau(patience=1, counting="torch"), small)[-1] == 1


@pytest.mark.parametrize("counting", ["keras", "torch"])
def test_the_rates_of_both_parts_fall_alike(counting):
    backbone, head = rates(Plateau(patience=1, counting=counting), [1.0] * 4, 0.01, 1.0)[-1]
    assert head < 1
    assert backbone == pytest.approx(head / 100)


@pytest.mark.parametrize("counting", ["keras", "torch"])
def test_no_rate_falls_below_the_least_or_rises_to_it(counting):
    plateau = Plateau(patience=1, factor=0.1, min_learning_rate=0.05, counting=counting)
    assert rates(plateau, [1.0] * 8, 0.01, 1.0)[-1] == pytest.approx([0.01, 0.05])


@pytest.mark.parametrize(
    "options",
    [
        {"patience": -1},
        {"factor": 1},
        {"factor": 0},
        {"min_learning_rate": float("nan")},
        {"counting": "jax"},
    ],
)
def test_a_plateau_that_makes_no_sense_is_refused(options):
    with pytest.raises(SettingsError, match=next(iter(options))):
        Plateau(**options)


@pytest.mark.parametrize("options", [{"patience": 0}, {"keep": "all"}])
def test_a_schedule_that_makes_no_sense_is_refused(options):
    with pytest.raises(SettingsError, match=next(iter(options))):
        Schedule(**options)


def test_without_a_plateau_nothing_lowers_the_rate():
    (only,) = Schedule(plateau=None).callbacks("val_auc", "max")
    assert isinstance(only, keras.callbacks.EarlyStopping)
