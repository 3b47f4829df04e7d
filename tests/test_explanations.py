"""Explanations are themselves tested: against formulas, known masks, random weights and learned shortcuts."""

import json

import cv2
import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from pneumokeras.core.errors import DataError, ModelError, SettingsError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.from_path import load_radiographs
from pneumokeras.data.phantoms.draw import draw_phantom
from pneumokeras.data.phantoms.masks import PhantomMasks, read_masks
from pneumokeras.data.phantoms.nuisance import Nuisance
from pneumokeras.explain.activations import activations, class_activations
from pneumokeras.explain.faithfulness import (
    attention_outside,
    baseline_of,
    center,
    deletion_scores,
    energy,
    energy_inside,
    hits,
    insertion_scores,
    mean_interval,
    peaks,
    perturbation_curve,
    pointing_game,
    random_heatmaps,
)
from pneumokeras.explain.gradcam import METHODS, explained_layer, grad_cam
from pneumokeras.explain.projections import features, pca, project_radiographs, tsne
from pneumokeras.explain.randomization import (
    randomization_check,
    rank_correlations,
    reinitialized,
    structural_similarities,
)
from pneumokeras.explain.sanity_checks import check_explanations
from pneumokeras.models.hypermodels import CompactCNNHyperModel

SIDE = 32
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, SIDE, SIDE)).astype(np.uint8)


def compact_cnn(side=SIDE):
    keras.utils.set_random_seed(0)
    hypermodel = CompactCNNHyperModel(input_shape=(side, side, 1), width=(8, 8, 8), depth=(3, 3))
    return hypermodel.build(keras_tuner.HyperParameters())


def spot_detector():
    """A classifier that sees bright pixels and nothing else: where it looks is known."""
    inputs = keras.Input((SIDE, SIDE, 1))
    bright = layers.Conv2D(1, 1, activation="relu", name="bright")(inputs)
    logit = layers.Dense(1, name="logit")(layers.GlobalAveragePooling2D()(bright))
    model = keras.Model(inputs, layers.Activation("sigmoid")(logit))
    model.get_layer("bright").set_weights([np.ones((1, 1, 1, 1)), np.array([-200.0])])
    model.get_layer("logit").set_weights([np.ones((1, 1)) * 4, np.array([-2.0])])
    return model


def spots(count=12):
    """Gray images with one bright square each, and the masks of the squares."""
    images, masks = np.full((count, SIDE, SIDE), 100, np.uint8), np.zeros((count, SIDE, SIDE), bool)
    for image, mask, (row, column) in zip(
        images, masks, np.random.default_rng(1).integers(2, 22, (count, 2)), strict=True
    ):
        mask[row : row + 8, column : column + 8] = True
        image[mask] = 255
    return images, masks


class TestMethodsAgainstFormulas:
    """One 1x1 convolution, ReLU, then a dense layer on the flattened map: all gradients by hand."""

    @pytest.fixture
    def network(self):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((4, 4, 1))
        tensor = layers.Conv2D(3, 1, activation="relu", name="map")(inputs)
        outputs = layers.Dense(1, activation="sigmoid", name="logit")(layers.Flatten()(tensor))
        return keras.Model(inputs, outputs)

    @pytest.fixture
    def by_hand(self, network):
        """The images, A and G as NumPy arrays: G is the dense layer's weights, laid out as the map is."""
        images = np.random.default_rng(4).uniform(-1, 1, (5, 4, 4)).astype(np.float32)
        kernel, bias = network.get_layer("map").get_weights()
        maps = np.maximum(images[..., np.newaxis] * kernel[0, 0, 0] + bias, 0)
        gradients = network.get_layer("logit").get_weights()[0].reshape(maps.shape[1:])
        return images, maps, np.broadcast_to(gradients, maps.shape)

    @staticmethod
    def scaled(coarse):
        positive = np.maximum(coarse, 0)
        return positive / positive.max(axis=(1, 2), keepdims=True)

    def test_grad_cam_weighs_channels_by_their_mean_gradient(self, network, by_hand):
        images, maps, gradients = by_hand
        expected = (gradients.mean(axis=(1, 2), keepdims=True) * maps).sum(axis=-1)
        np.testing.assert_allclose(grad_cam(network, images), self.scaled(expected), atol=1e-5)

    def test_hirescam_is_gradient_times_activation_pixel_by_pixel(self, network, by_hand):
        images, maps, gradients = by_hand
        expected = self.scaled((gradients * maps).sum(axis=-1))
        np.testing.assert_allclose(grad_cam(network, images, method="hirescam"), expected, atol=1e-5)

    def test_grad_cam_plus_plus_follows_equations_19_and_10_of_its_paper(self, network, by_hand):
        images, maps, gradients = by_hand
        weights = np.zeros((len(images), 1, 1, 3))
        for image in range(len(images)):
            for channel in range(3):
                total = maps[image, ..., channel].sum()
                for gradient in gradients[image, ..., channel].ravel():
                    alpha = gradient**2 / (2 * gradient**2 + total * gradient**3)
                    weights[image, 0, 0, channel] += alpha * max(gradient, 0)
        expected = self.scaled((weights * maps).sum(axis=-1))
        np.testing.assert_allclose(
            grad_cam(network, images, method="grad-cam++"), expected, rtol=1e-3, atol=1e-5
        )

    def test_the_three_differ_where_the_gradient_differs_from_place_to_place(self, network, by_hand):
        ours = [grad_cam(network, by_hand[0], method=method) for method in METHODS]
        assert all(np.abs(ours[one] - ours[two]).max() > 0.05 for one, two in ((0, 1), (0, 2), (1, 2)))


def test_on_global_average_pooling_grad_cam_and_hirescam_are_the_class_activation_map():
    model = compact_cnn()
    maps = activations(model, IMAGES)
    weights = model.get_layer("logit").get_weights()[0][:, 0]
    for target, sign in ((1, 1), (0, -1)):
        class_activation_map = np.maximum(sign * (maps @ weights), 0)
        expected = np.stack(
            [
                cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).clip(0)
                for one in class_activation_map
            ]
        )
        largest = expected.max(axis=(1, 2), keepdims=True)
        expected = np.divide(expected, largest, out=np.zeros_like(expected), where=largest > 0)
        for method in ("grad-cam", "hirescam"):
            heatmaps = grad_cam(model, IMAGES, method=method, target=target, layer="block3b_relu")
            np.testing.assert_allclose(heatmaps, expected, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_bright_square(method):
    images, masks = spots()
    assert hits(grad_cam(spot_detector(), images, method=method), masks).all()


def test_an_unknown_method_is_one_clear_error():
    with pytest.raises(
        SettingsError, match=r"Expected `method` as one of grad-cam, grad-cam\+\+, hirescam. Received 'cam'"
    ):
        grad_cam(spot_detector(), IMAGES, method="cam")


@pytest.mark.parametrize(
    ("side", "fine"), [(32, "block1b_relu"), (64, "block2b_relu"), (128, "block3b_relu")]
)
def test_hirescam_weighs_the_last_fine_map_and_the_others_the_last(side, fine):
    model = compact_cnn(side)
    assert explained_layer(model, method="hirescam") == fine
    assert {explained_layer(model, method=method) for method in ("grad-cam", "grad-cam++")} == {
        "block3b_relu"
    }
    assert explained_layer(model, method="hirescam", layer="block1b_relu") == "block1b_relu"


def test_a_map_that_a_shortcut_passes_by_is_not_weighed_by_default():
    inputs = keras.Input((SIDE, SIDE, 1))
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    branch = layers.Conv2D(4, 3, padding="same", name="branch")(stem)
    branch = layers.Conv2D(4, 3, strides=4, padding="same")(branch)
    merged = layers.Add()([branch, layers.MaxPooling2D(4)(stem)])
    pooled = layers.GlobalAveragePooling2D()(merged)
    model = keras.Model(inputs, layers.Dense(1)(pooled))
    assert explained_layer(model, method="hirescam") == "stem"


def test_where_no_map_is_fine_or_the_network_is_no_graph_the_last_must_do():
    sequential = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(2, 3, name="only"), layers.Flatten(), layers.Dense(1)]
    )
    assert explained_layer(sequential, method="hirescam") == "only"


class TestActivations:
    def test_they_are_what_the_layer_gives(self):
        given = activations(spot_detector(), IMAGES, layer="bright", batch_size=4)
        np.testing.assert_allclose(given[..., 0], np.maximum(IMAGES - 200.0, 0), atol=1e-3)

    def test_the_sick_light_up_where_the_layer_reacts_to_them_and_the_healthy_do_not(self):
        images = np.full((4, SIDE, SIDE), 100, np.uint8)
        images[2:, 4:10, 20:28] = 255
        shown = class_activations(spot_detector(), images, np.array([0, 0, 1, 1]), layer="bright")
        assert shown.counts == (2, 2)
        assert shown.heatmaps[0].max() == 0
        assert shown.heatmaps[1, 4:10, 20:28].min() == 1
        assert shown.means == pytest.approx((0, 55 * 48 / SIDE**2))
        np.testing.assert_array_equal(shown.images[1], images[2])

    def test_both_classes_share_one_scale(self):
        images = np.stack([np.full((SIDE, SIDE), 210), np.full((SIDE, SIDE), 220)]).astype(np.uint8)
        images[:, 0] = 0
        shown = class_activations(spot_detector(), images, np.array([0, 1]), layer="bright")
        assert shown.heatmaps[:, 5, 5] == pytest.approx([0.5, 1.0])

    def test_a_class_without_radiographs_is_refused(self):
        with pytest.raises(DataError, match="Received 6 and 0"):
            class_activations(spot_detector(), IMAGES, np.zeros(6, int))


class TestProjections:
    def test_pca_finds_the_plane_that_was_drawn(self):
        plane = RNG.normal(size=(40, 2)) * (5, 2)
        axes = np.linalg.qr(RNG.normal(size=(10, 2)))[0]
        projection = pca(plane @ axes.T)
        assert sum(projection.explained_variance) == pytest.approx(1)
        ours, drawn = (np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (projection.points, plane))
        np.testing.assert_allclose(ours / ours.max(), drawn / drawn.max(), atol=1e-6)

    def test_tsne_keeps_two_clouds_apart_and_a_seed_gives_the_same(self):
        values = RNG.normal(size=(40, 60)) + np.repeat([0, 8], 20)[:, np.newaxis]
        points = tsne(values, seed=1).points
        centers = points[:20].mean(axis=0), points[20:].mean(axis=0)
        spread = max(points[:20].std(), points[20:].std())
        assert np.linalg.norm(centers[1] - centers[0]) > 2 * spread
        np.testing.assert_array_equal(tsne(values, seed=1).points, points)

    def test_features_are_what_enters_the_last_dense_layer(self):
        model = compact_cnn()
        pooled = activations(model, IMAGES).mean(axis=(1, 2))
        np.testing.assert_allclose(features(model, IMAGES), pooled, atol=1e-5)
        np.testing.assert_allclose(features(model, IMAGES, layer="block3b_relu"), pooled, atol=1e-5)

    def test_pixels_then_features_before_and_after_training(self):
        labels = np.arange(6) % 2
        made = project_radiographs(spot_detector(), IMAGES, labels, untrained=spot_detector())
        assert [(one.source, one.method) for one in made] == [
            (source, method)
            for source in ("pixels", "features before training", "features after training")
            for method in ("PCA", "t-SNE")
        ]
        assert all(one.points.shape == (6, 2) and one.labels is labels for one in made)
        np.testing.assert_array_equal(made[2].points, made[4].points)

    def test_by_default_before_is_the_network_with_new_weights(self):
        model = compact_cnn()
        made = project_radiographs(model, IMAGES, seed=5)
        again = pca(features(reinitialized(model, seed=5), IMAGES))
        np.testing.assert_allclose(made[2].points, again.points, atol=1e-5)
        assert not np.allclose(made[2].points, made[4].points, atol=0.01)

    @pytest.mark.filterwarnings("error")
    def test_radiographs_that_are_all_alike_fall_on_one_point(self):
        same = np.full((8, 3), 7.0)
        np.testing.assert_array_equal(pca(same).points, 0)
        np.testing.assert_array_equal(tsne(same).points, 0)

    def test_too_few_to_project_is_one_clear_error(self):
        with pytest.raises(DataError, match="at least 5 radiographs to project"):
            pca(IMAGES[:3])


class TestPointing:
    def test_a_peak_inside_hits_and_one_outside_misses(self):
        maps, masks = np.zeros((3, 8, 8)), np.zeros((3, 8, 8), bool)
        masks[:, 2:4, 2:4] = True
        maps[0, 3, 3] = maps[1, 4, 3] = 1
        np.testing.assert_array_equal(peaks(maps), [(3, 3), (4, 3), (-1, -1)])
        np.testing.assert_array_equal(hits(maps, masks), [True, False, False])
        np.testing.assert_array_equal(hits(maps, masks, tolerance=1), [True, True, False])

    def test_a_map_with_nothing_in_it_misses_even_a_mask_of_everything(self):
        assert not hits(np.zeros((1, 8, 8)), np.ones((1, 8, 8), bool)).any()

    def test_random_maps_hit_as_often_as_chance_says(self):
        masks = np.zeros((2000, 10, 10), bool)
        masks[:, 3:6, 5:8] = True
        game = pointing_game(np.random.default_rng(0).random(masks.shape), masks)
        assert game.chance == pytest.approx(0.09)
        assert game.figure.estimate == pytest.approx(0.09, abs=0.02)

    def test_what_maps_owe_to_all_being_alike_shows_on_other_radiographs(self):
        images, masks = spots()
        right = grad_cam(spot_detector(), images)
        game = pointing_game(right, masks)
        assert game.figure.estimate == 1
        assert game.of_others < 0.5
        middle = np.zeros((12, SIDE, SIDE))
        middle[:, 16, 16] = 1
        always = np.zeros_like(masks)
        always[:, 12:20, 12:20] = True
        assert pointing_game(middle, always).of_others == 1


class TestEnergy:
    def test_the_share_inside_is_exact_and_undefined_for_an_empty_map(self):
        maps, masks = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), bool)
        maps[0, 0, :] = (1, 2, 3, 4)
        masks[:, :, 2:] = True
        np.testing.assert_allclose(energy_inside(maps, masks), [0.7, np.nan])

    def test_an_empty_map_counts_against_the_energy_and_is_left_out_of_the_outside(self):
        maps, masks = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), bool)
        maps[0], masks[:, :, 2:] = 1, True
        assert energy(maps, masks).figure.estimate == 0.25
        assert attention_outside(maps, masks).figure.estimate == 0.5

    def test_an_even_map_gets_what_chance_says(self):
        masks = RNG.random((5, 8, 8)) < 0.3
        even = np.ones(masks.shape)
        assert energy(even, masks).figure.estimate == pytest.approx(energy(even, masks).chance)
        outside = attention_outside(even, center((8, 8)))
        assert outside.figure.estimate == pytest.approx(outside.chance)

    def test_the_center_leaves_a_tenth_on_each_side(self):
        inner = center((20, 40))
        assert inner[2:18, 4:36].all() and inner.sum() == 16 * 32

    def test_a_set_of_empty_maps_has_no_share_outside(self):
        outside = attention_outside(np.zeros((2, 4, 4)), center((4, 4)))
        assert np.isnan(outside.figure.estimate)
        assert outside.json()["figure"]["estimate"] is None


def brightest(images):
    """A model that says how much of the brightest there is, from 0 to 1."""
    return np.clip((images - 200) / 55, 0, 1).mean(axis=(1, 2)) * SIDE**2 / 64


class TestDeletionAndInsertion:
    def test_deletion_starts_at_the_radiograph_and_ends_at_the_baseline(self):
        images, masks = spots()
        scores = deletion_scores(brightest, images, masks.astype(float), steps=8)
        np.testing.assert_allclose(scores[:, 0], brightest(images.astype(float)))
        np.testing.assert_allclose(scores[:, -1], brightest(baseline_of(images)))

    def test_a_map_of_the_evidence_takes_it_away_at_once_and_brings_it_back_at_once(self):
        images, masks = spots()
        deleted = deletion_scores(brightest, images, masks.astype(float), steps=16, baseline="mean")
        inserted = insertion_scores(brightest, images, masks.astype(float), steps=16, baseline="mean")
        np.testing.assert_allclose(deleted[:, 1:], 0)  # a sixteenth of the image is the square
        np.testing.assert_allclose(inserted[:, 1:], 1)

    def test_a_right_map_gains_on_a_random_one_and_a_wrong_one_loses(self):
        images, masks = spots()
        random = random_heatmaps(len(images), size=(SIDE, SIDE), grain=(8, 8), rng=np.random.default_rng(0))
        for kind, scores in (("deletion", deletion_scores), ("insertion", insertion_scores)):
            control = scores(brightest, images, random)
            right = perturbation_curve(kind, scores(brightest, images, masks.astype(float)), control)
            wrong = perturbation_curve(kind, scores(brightest, images, 1.0 - masks), control)
            assert right.gain.low > 0 > wrong.gain.high
            assert right.area.estimate != right.control_area.estimate

    def test_the_area_is_the_trapezoids(self):
        scores = np.array([[1.0, 0.5, 0.0]])
        curve = perturbation_curve("deletion", scores, np.ones((1, 3)))
        assert (curve.area.estimate, curve.gain.estimate) == (0.5, 0.5)
        np.testing.assert_array_equal(curve.shares, [0, 0.5, 1])

    def test_what_does_not_exist_is_refused(self):
        with pytest.raises(SettingsError, match="blur, mean"):
            baseline_of(IMAGES, baseline="black")
        with pytest.raises(SettingsError, match="deletion or insertion"):
            perturbation_curve("neither", np.ones((1, 3)), np.ones((1, 3)))

    def test_random_maps_are_smooth_and_differ(self):
        maps = random_heatmaps(3, size=(SIDE, SIDE), grain=(4, 4), rng=np.random.default_rng(0))
        assert maps.shape == (3, SIDE, SIDE) and maps.min() >= 0 and maps.max() <= 1
        assert np.abs(np.diff(maps, axis=1)).max() < 0.35
        assert not np.allclose(maps[0], maps[1])


def test_patients_with_many_radiographs_widen_a_mean():
    values = np.repeat(RNG.random(20), 5)
    alone, together = mean_interval(values), mean_interval(values, np.repeat(np.arange(20), 5))
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    assert np.isnan(mean_interval(np.empty(0)).estimate)


class TestRandomization:
    def test_a_seed_gives_the_same_new_weights_and_another_gives_others(self):
        model = compact_cnn()
        ones, again, others = (reinitialized(model, seed=seed).get_weights() for seed in (1, 1, 2))
        for one, same in zip(ones, again, strict=True):
            np.testing.assert_array_equal(one, same)
        assert not np.allclose(ones[0], others[0])
        assert not np.allclose(ones[0], model.get_weights()[0])

    def test_preprocessing_keeps_what_it_knows(self):
        inputs = keras.Input((SIDE, SIDE, 1))
        norm = layers.Normalization(axis=None)
        pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(norm(inputs)))
        model = keras.Model(inputs, layers.Dense(1)(pooled))
        norm.adapt(IMAGES[..., np.newaxis].astype(np.float32))
        fresh = reinitialized(model, seed=0)
        images = IMAGES[..., np.newaxis].astype(np.float32)
        np.testing.assert_allclose(fresh.layers[1](images), norm(images), atol=1e-6)

    def test_it_goes_from_the_score_to_the_whole_network_and_leaves_the_model_alone(self):
        model = compact_cnn()
        before = [array.copy() for array in model.get_weights()]
        check = randomization_check(model, IMAGES, steps=4)
        learned = [layer.name for layer in model.layers if layer.weights]
        assert (check.steps[0].layers, check.steps[0].lowest) == (1, "logit")
        assert (check.steps[-1].layers, check.steps[-1].lowest) == (len(learned), learned[0])
        assert len(check.steps) == 4 and check.images == 6
        for own, kept in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(own, kept)

    def test_the_last_step_is_the_map_of_the_wholly_new_network(self):
        model = compact_cnn()
        check = randomization_check(model, IMAGES, seed=3)
        expected = rank_correlations(
            grad_cam(model, IMAGES), grad_cam(reinitialized(model, seed=3), IMAGES)
        ).mean()
        assert check.steps[-1].rank_correlation == pytest.approx(expected, abs=1e-4)

    def test_a_map_that_does_not_depend_on_the_weights_fails(self):
        """A network that cannot be randomized: its only learned layer has nothing to choose from."""
        inputs = keras.Input((SIDE, SIDE, 1))
        fixed = layers.Conv2D(1, 1, kernel_initializer="ones", use_bias=False)(inputs)
        pooled = layers.GlobalAveragePooling2D()(fixed)
        model = keras.Model(inputs, layers.Dense(1, kernel_initializer="ones")(pooled))
        check = randomization_check(model, IMAGES)
        assert [step.rank_correlation for step in check.steps] == pytest.approx([1, 1])
        assert check.steps[-1].ssim == pytest.approx(1)
        assert not check.passed

    def test_maps_that_were_empty_to_begin_with_prove_nothing(self):
        model = spot_detector()
        dark, (bright, _) = np.full((6, SIDE, SIDE), 100, np.uint8), spots(6)
        alone, mixed = (
            randomization_check(model, images) for images in (bright, np.concatenate([dark, bright]))
        )
        assert mixed.images == 6 and mixed.steps == alone.steps
        nothing = randomization_check(model, dark)
        assert nothing.images == 0 and not nothing.passed
        assert (
            json.loads(json.dumps(nothing.json(), allow_nan=False))["steps"][-1]["rank_correlation"] is None
        )

    def test_similarities_of_a_map_with_itself_its_reverse_and_nothing(self):
        maps = RNG.random((4, SIDE, SIDE))
        np.testing.assert_allclose(rank_correlations(maps, maps), 1)
        np.testing.assert_allclose(rank_correlations(maps, 1 - maps), -1)
        np.testing.assert_array_equal(rank_correlations(maps, np.zeros_like(maps)), 0)
        np.testing.assert_allclose(structural_similarities(maps, maps), 1)
        assert structural_similarities(maps, maps[::-1]).max() < 0.5


def test_masks_are_read_as_they_were_drawn(phantom_folder):
    radiographs = load_radiographs(phantom_folder)
    masks = read_masks(radiographs.images, (64, 64))
    assert masks.opacities.shape == masks.thoraxes.shape == (len(radiographs), 64, 64)
    np.testing.assert_array_equal(masks.opacities.any(axis=(1, 2)), radiographs.labels == 1)
    assert (masks.opacities & ~masks.thoraxes).sum() < 0.02 * masks.opacities.sum()
    assert 0.25 < masks.thoraxes.mean() < 0.75
    halved = read_masks(radiographs.images, (32, 32))
    assert halved.thoraxes.mean() == pytest.approx(masks.thoraxes.mean(), abs=0.03)


def test_a_phantom_without_its_masks_is_one_clear_error(phantom_folder, tmp_path):
    file = tmp_path / "test" / "NORMAL" / "a.jpeg"
    with pytest.raises(DataError, match="Draw the phantoms again"):
        read_masks([file], (64, 64))


class TestChecks:
    def test_on_phantoms_everything_is_checked(self, phantom_folder):
        radiographs = load_radiographs(phantom_folder)
        checks = check_explanations(compact_cnn(64), radiographs, images=5, method="hirescam")
        assert (checks.method, checks.images, checks.layer) == ("hirescam", 5, "block2b_relu")
        assert 0 < checks.masks.pointing.chance < 0.1
        assert checks.masks.largest < 0.15
        assert 0.2 < checks.masks.outside_thorax.chance < 0.8
        written = json.loads(json.dumps(checks.json(), allow_nan=False))
        assert set(written) == set(vars(checks)) - {"randomization"} | {"randomisation"}  # as in report.json
        assert len(written["deletion"]["scores"]) == len(written["deletion"]["shares"])
        assert written["border"]["of_others"] is None

    def test_real_radiographs_have_no_masks_to_be_checked_against(self):
        images, _ = spots()
        checks = check_explanations(spot_detector(), RadiographSet.from_arrays(images, np.ones(12, int)))
        assert checks.masks is None and checks.json()["masks"] is None
        assert checks.deletion.gain.low > 0
        assert checks.insertion.gain.low > 0

    def test_masks_can_be_given_and_follow_the_radiographs_that_are_drawn(self):
        images, masks = spots()
        labels = np.arange(12) % 2
        given = PhantomMasks(masks, np.ones_like(masks))
        checks = check_explanations(
            spot_detector(), RadiographSet.from_arrays(images, labels), masks=given, images=4
        )
        assert checks.masks.pointing.figure.estimate == 1
        assert checks.masks.outside_thorax.figure.estimate == 0

    def test_masks_of_other_radiographs_are_refused(self):
        images, masks = spots()
        with pytest.raises(DataError, match="Expected masks of shape"):
            check_explanations(
                spot_detector(),
                RadiographSet.from_arrays(images, np.ones(12, int)),
                masks=PhantomMasks(masks[:6], masks[:6]),
            )

    def test_a_model_with_several_outputs_is_refused(self):
        inputs = keras.Input((SIDE, SIDE, 1))
        pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(inputs))
        model = keras.Model(inputs, layers.Dense(2, activation="softmax")(pooled))
        with pytest.raises(ModelError, match="one probability"):
            check_explanations(model, RadiographSet.from_arrays(spots()[0], np.ones(12, int)))

    def test_a_single_radiograph_has_no_other_to_be_compared_with(self):
        one = RadiographSet.from_arrays(spots()[0][:1], np.ones(1, int))
        written = json.loads(json.dumps(check_explanations(spot_detector(), one).json(), allow_nan=False))
        assert written["randomisation"]["unrelated"] is None
        assert written["deletion"]["gain"]["low"] is None

    def test_a_set_without_the_sick_is_refused(self):
        with pytest.raises(DataError, match="no PNEUMONIA radiograph to explain"):
            check_explanations(spot_detector(), RadiographSet.from_arrays(IMAGES, np.zeros(6, int)))


def drawn(count, *, seed, marker, side=64):
    """Phantoms in memory, every other one sick, with the masks of their chests."""
    rng = np.random.default_rng(seed)
    nuisance = Nuisance(marker=marker)
    phantoms = [draw_phantom(rng, label=number % 2, size=side, nuisance=nuisance) for number in range(count)]
    images, thoraxes, opacities = (
        np.stack([getattr(phantom, name) for phantom in phantoms]) for name in ("image", "thorax", "mask")
    )
    return images, np.arange(count) % 2, PhantomMasks(opacities > 0, thoraxes > 0)


def fitted(images, labels):
    model = compact_cnn(images.shape[1])
    model.optimizer.learning_rate = 5e-3
    model.fit(images[..., np.newaxis], labels, epochs=10, batch_size=16, verbose=0)
    return model


@pytest.mark.slow
def test_a_learned_marker_raises_the_attention_outside_the_thorax():
    """Two networks on the same marked phantoms; the marker told the class to only one of them in training."""
    networks = {marker: fitted(*drawn(200, seed=0, marker=marker)[:2]) for marker in (0.0, 1.0)}
    images, labels, masks = drawn(60, seed=1, marker=1.0)
    radiographs = RadiographSet.from_arrays(images, labels)
    outside = {
        marker: check_explanations(model, radiographs, masks=masks, method="hirescam").masks.outside_thorax
        for marker, model in networks.items()
    }
    assert outside[1.0].figure.low > outside[0.0].figure.high
