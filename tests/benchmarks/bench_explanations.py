"""What heatmaps cost beside one forward pass and the usual loop, and whether they find what phantoms have.

`pytest tests/benchmarks/bench_explanations.py -s`; some minutes on two cores.
"""

from collections.abc import Callable, Sized
from statistics import median
from time import perf_counter

import cv2
import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from pneumokeras.data.from_path import load_splits
from pneumokeras.data.phantoms.masks import read_masks
from pneumokeras.data.phantoms.nuisance import NO_NUISANCE, Nuisance
from pneumokeras.data.phantoms.write import write_phantoms
from pneumokeras.explain.faithfulness import hits, pointing_game
from pneumokeras.explain.gradcam import METHODS, explained_layer, heatmap_function
from pneumokeras.explain.sanity_checks import check_explanations
from pneumokeras.models.forward import compiled
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.training.evaluate import evaluate
from pneumokeras.training.fit import fit
from pneumokeras.training.loop import set_seed

IMAGES, LOOPED_IMAGES, ROUNDS = 16, 4, 7
LARGEST_RATIO_TO_FORWARD = 1.4
LEAST_RATIO_TO_LOOP = 2

PHANTOMS = 2000
SIDE = 64
LARGEST_MASK = 0.06
LEAST_AUC, LEAST_HITS = 0.95, 0.9


def seconds_per_image(work: Callable[[], Sized]) -> float:
    start = perf_counter()
    done = len(work())
    return (perf_counter() - start) / done


def looped(model: keras.Model, layer: str, images: np.ndarray) -> list[np.ndarray]:
    """Grad-CAM as tutorials write it: each image is asked about twice, for the call and for the map."""
    inspected = keras.Model(model.inputs, [model.get_layer(layer).output, model.get_layer("logit").output])
    heatmaps = []
    for image in images:
        batch = tf.constant(image[np.newaxis])
        model(batch, training=False)
        with tf.GradientTape() as tape:
            tape.watch(batch)  # the backbone is frozen
            features, logit = inspected(batch, training=False)
            score = logit[:, 0]
        gradients = tape.gradient(score, features)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        heatmap = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))[0].numpy()
        heatmaps.append(cv2.resize(heatmap, image.shape[1::-1]))
    return heatmaps


@pytest.mark.parametrize("name", ["resnet50", "efficientnetb0"])
def test_heatmaps_cost_little_more_than_a_forward_pass(name):
    model = TransferHyperModel(name, weights="none").build(keras_tuner.HyperParameters())
    images = np.random.default_rng(0).uniform(0, 255, (IMAGES, 224, 224, 1)).astype(np.float32)
    forward = compiled(model)
    last = explained_layer(model)
    sides = {
        "forward pass": lambda: forward(images).numpy(),
        "loop": lambda: looped(model, last, images[:LOOPED_IMAGES]),
    }
    for method in METHODS:
        heatmaps_of = heatmap_function(model, method=method)
        sides[method] = lambda heatmaps_of=heatmaps_of: heatmaps_of(images)
    for work in sides.values():
        work()
    rounds = [{side: seconds_per_image(work) for side, work in sides.items()} for _ in range(ROUNDS)]
    print(f"\n{name}, 224 pixels, {IMAGES} images, float32{'':<8}ms/image  of a forward pass  of the loop")
    ratios = {}
    for side in sides:
        to_forward, to_loop = (
            median(one[side] / one[other] for one in rounds) for other in ("forward pass", "loop")
        )
        ratios[side] = to_forward, to_loop
        cost = 1000 * median(one[side] for one in rounds)
        layer = f"{side}, {explained_layer(model, method=side)}" if side in METHODS else side
        print(f"  {layer:<42}{cost:>8.1f}{to_forward:>19.2f}{to_loop:>13.2f}")
    for method in METHODS:
        assert ratios[method][0] <= LARGEST_RATIO_TO_FORWARD
        assert ratios[method][1] <= 1 / LEAST_RATIO_TO_LOOP


def trained(folder, nuisance=NO_NUISANCE):
    """The demo's network, its widest, on phantoms of seed 0."""
    write_phantoms(folder, count=PHANTOMS, seed=0, size=128, nuisance=nuisance)
    splits = load_splits(folder, seed=0)
    hyperparameters = keras_tuner.HyperParameters()
    for setting, value in {"width": 24, "depth": 3, "dropout": 0.2, "learning_rate": 2e-3}.items():
        hyperparameters.Fixed(setting, value)
    set_seed(0)
    model = CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)).build(hyperparameters)
    return fit(model, splits.train, splits.val, epochs=10, seed=0).model


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("honest") / "phantoms")


def drawn_anew(folder, nuisance=NO_NUISANCE):
    """Phantoms of another seed, which neither the network nor the choice of layer and method has seen."""
    write_phantoms(folder, count=1000, seed=2026, size=128, nuisance=nuisance)
    return load_splits(folder, keep_val=True).test


def test_hirescam_finds_the_opacities_of_phantoms_of_another_seed(honest, tmp_path):
    test = drawn_anew(tmp_path / "phantoms")
    auc = evaluate(honest, test).roc_auc
    sick = test.subset(np.flatnonzero(test.require_labels() == 1))
    masks = read_masks(sick.images, (SIDE, SIDE)).opacities
    small = masks.mean(axis=(1, 2)) <= LARGEST_MASK
    print(f"\nAUC {auc}; {len(sick)} with opacities, {small.sum()} of at most 6% of the image")
    found = {}
    for method in METHODS:
        heatmaps = heatmap_function(honest, method=method)(sick.pixels((SIDE, SIDE)))
        everywhere = pointing_game(heatmaps, masks, patients=sick.patients)
        found[method] = pointing_game(heatmaps[small], masks[small], patients=sick.patients[small])
        layer = explained_layer(honest, method=method)
        print(
            f"  {method}, {layer}: hits {found[method]}, of other radiographs {found[method].of_others:.3f};"
        )
        print(f"    with the larger ones {everywhere}")
        assert hits(heatmaps, masks).mean() == everywhere.figure.estimate
    assert auc.estimate >= LEAST_AUC
    assert found["hirescam"].figure.estimate >= LEAST_HITS
    assert found["hirescam"].of_others < 0.5


def test_a_learned_marker_raises_the_attention_outside_the_thorax(honest, tmp_path):
    shortcut = trained(tmp_path / "train", Nuisance(marker=1.0))
    test = drawn_anew(tmp_path / "test", Nuisance(marker=1.0))
    outside = {}
    for name, model in (("without the marker", honest), ("with the marker", shortcut)):
        for method in METHODS:
            masks = check_explanations(model, test, method=method).masks
            outside[name, method] = masks.outside_thorax
            print(f"\n  trained {name}, {method}: outside the thorax {masks.outside_thorax}", end="")
    assert (
        outside["with the marker", "hirescam"].figure.low
        > outside["without the marker", "hirescam"].figure.high
    )
