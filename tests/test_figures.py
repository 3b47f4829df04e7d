"""Each Display draws what it is given, where it is told, and computes nothing."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.evaluation import (
    Curve,
    Interval,
    OperatingPoint,
    OperatingPointResult,
    evaluate_predictions,
)
from pneumokeras.evaluation.charts import learning_rate_reductions, score_histogram, stage_starts
from pneumokeras.evaluation.displays import (
    AccuracyCurvesDisplay,
    ClassDistributionDisplay,
    ConfusionMatrixDisplay,
    GradCamDisplay,
    LabeledRocCurve,
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
    save,
)
from pneumokeras.evaluation.displays.pictures import RIGHT_GREEN, WRONG_RED, heatmap_pixels
from pneumokeras.evaluation.displays.style import picture_axes
from tests.reporting import compared, scattered

HISTORY = {
    "loss": [1.0, 0.8, 0.7],
    "val_loss": [0.9, 0.6, 0.65],
    "accuracy": [0.7, 0.8, 0.85],
    "val_accuracy": [0.65, 0.82, 0.8],
    "learning_rate": [1e-3, 1e-3, 5e-4],
}


def interval(estimate):
    return Interval(estimate, estimate - 0.02, estimate + 0.02, "wilson")


def result(threshold=0.5, sensitivity=0.95, specificity=0.75, precision=0.8):
    scores = {"sensitivity": sensitivity, "specificity": specificity, "precision": precision}
    return OperatingPointResult(
        OperatingPoint(threshold), 86, 31, 5, 190, {name: interval(score) for name, score in scores.items()}
    )


def pictures(count=3, side=16):
    return np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)


def roc_curve_of(evaluation, name):
    return LabeledRocCurve(name, evaluation.roc, evaluation.roc_auc, evaluation.chosen_result)


CURVE = Curve(np.array([0, 0.25, 1]), np.array([0, 0.95, 1]), np.array([np.inf, 0.5, 0.1]))
POINTS = {"default": result(), "validation": result(0.3), "oracle": result(0.4)}
EVALUATION = scattered(columns={"ward": np.array(["east", "west"])[np.arange(60) % 2]})
OTHER = compared(EVALUATION).comparison.first
CHARTS = [
    ClassDistributionDisplay({"train": {"NORMAL": 1214, "PNEUMONIA": 3496}, "test": {"NORMAL": 117}}),
    ConfusionMatrixDisplay(result()),
    RocCurveDisplay(CURVE, interval(0.97), POINTS),
    PrecisionRecallDisplay(CURVE, interval(0.97), 0.625, POINTS),
    AccuracyCurvesDisplay(HISTORY, best_epoch=2),
    LossCurvesDisplay(HISTORY, best_epoch=2),
    ScoreDistributionDisplay(EVALUATION.predictions, EVALUATION.operating_points),
    ReliabilityDisplay(EVALUATION.calibration.bins, EVALUATION.calibration_error),
    NetBenefitDisplay(EVALUATION.net_benefit),
    SubgroupsDisplay(EVALUATION.subgroups),
    RocComparisonDisplay(roc_curve_of(OTHER, "other"), roc_curve_of(EVALUATION, "this")),
    PerturbationDisplay("deletion", np.linspace(0, 1, 5), np.linspace(1, 0.2, 5), np.linspace(1, 0.4, 5)),
]
PANELS = [
    SampleRadiographsDisplay(pictures(), ["NORMAL", "PNEUMONIA", "NORMAL"]),
    PredictionSamplesDisplay(pictures(), np.array([0, 1, 1]), np.array([0.1, 0.9, 0.2])),
    GradCamDisplay(pictures(), pictures() / 255, np.stack([pictures()] * 3, axis=-1), ["a", "b", "c"]),
]


def name_of(display):
    return type(display).__name__


def texts(ax):
    legend = ax.get_legend()
    labels = legend.get_texts() if legend else []
    return [text.get_text() for text in [*ax.texts, *labels]]


def lines_by_label(ax):
    return {line.get_label(): line for line in ax.lines}


@pytest.mark.parametrize("display", CHARTS, ids=name_of)
def test_a_chart_draws_into_the_axes_it_is_given(display):
    figure = Figure()
    ax = figure.add_subplot()
    assert display.plot(ax) is display
    assert display.ax_ is ax
    assert display.figure_ is figure


@pytest.mark.parametrize("display", PANELS, ids=name_of)
def test_a_panel_draws_into_the_grid_it_is_given(display):
    figure = Figure()
    rows = 3 if isinstance(display, GradCamDisplay) else 1
    grid = figure.subplots(rows, 3, squeeze=False)
    assert display.plot(grid) is display
    assert display.axes_.tolist() == grid.tolist()
    assert display.figure_ is figure
    assert all(len(ax.images) == 1 for ax in grid.flat)


@pytest.mark.parametrize("display", PANELS, ids=name_of)
def test_a_grid_that_is_too_small_is_refused(display):
    with pytest.raises(ValueError, match=r"Expected at least \d `axes`, received 2"):
        display.plot(Figure().subplots(1, 2))


@pytest.mark.parametrize("display", [*CHARTS, *PANELS], ids=name_of)
def test_a_figure_of_its_own_is_saved_as_png_and_svg(display, tmp_path):
    save(display, tmp_path / "figure.png", dpi=40)
    save(display, tmp_path / "figure.svg")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "figure.svg").read_bytes()


def test_pyplot_tensorflow_and_keras_stay_away():
    code = (
        "import sys; from pneumokeras.evaluation.displays import ClassDistributionDisplay;"
        "ClassDistributionDisplay({'test': {'A': 1}}).plot();"
        "print({'matplotlib.pyplot', 'tensorflow', 'keras'} & sys.modules.keys())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"


def test_no_figure_is_registered_with_pyplot():
    from matplotlib import pyplot

    for display in [*CHARTS, *PANELS]:
        display.plot()
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("display", [*CHARTS, *PANELS], ids=name_of)
def test_a_display_shows_itself_as_one_picture_and_says_its_name(display):
    png, size = display._repr_png_()
    assert png.startswith(b"\x89PNG")
    width, height = display.figure_.get_size_inches()
    assert (size["width"], size["height"]) == (round(96 * width), round(96 * height))
    assert repr(display) == f"<{name_of(display)}>"
    assert not hasattr(display, "_repr_html_")


def test_what_pyplot_shows_is_not_shown_twice():
    from matplotlib import pyplot

    display = RocCurveDisplay(CURVE, interval(0.97))
    figure, ax = pyplot.subplots()
    assert display.plot(ax)._repr_png_() is None
    pyplot.close(figure)
    assert display._repr_png_() is not None
    part = Figure().subfigures(1, 2)[0]
    assert display.plot(part.add_subplot())._repr_png_() is not None
    assert display.plot()._repr_png_() is not None


@pytest.mark.parametrize("display", [*CHARTS, *PANELS], ids=name_of)
def test_every_plot_takes_options_for_matplotlib(display):
    display.plot(alpha=0.5)
    axes = np.ravel(getattr(display, "axes_", getattr(display, "ax_", None)))
    artists = [artist for ax in axes for artist in (*ax.lines, *ax.images, *ax.patches)]
    assert 0.5 in {artist.get_alpha() for artist in artists}


@pytest.mark.parametrize(
    "display", [RocCurveDisplay, PrecisionRecallDisplay], ids=lambda display: display.__name__
)
def test_a_curve_from_predictions_is_that_of_the_evaluation(display):
    predictions = EVALUATION.predictions
    whole = evaluate_predictions(predictions)
    ax = Figure().add_subplot()
    drawn = display.from_predictions(
        predictions.labels, predictions.probabilities, patients=predictions.patients, ax=ax, color="#123456"
    )
    expected = display(
        *(
            (whole.roc, whole.roc_auc)
            if display is RocCurveDisplay
            else (whole.precision_recall, whole.average_precision, whole.prevalence)
        )
    ).plot()
    assert drawn.ax_ is ax
    assert lines_by_label(ax).keys() == lines_by_label(expected.ax_).keys()
    assert "#123456" in {line.get_color() for line in ax.lines}
    with pytest.raises(DataError, match="both classes"):
        display.from_predictions([1, 1], [0.2, 0.3])


def test_other_displays_from_predictions_are_those_of_the_evaluation():
    predictions = EVALUATION.predictions
    pair = predictions.labels, predictions.probabilities
    matrix = ConfusionMatrixDisplay.from_predictions(*pair, threshold=0.3)
    assert matrix.result.counts == EVALUATION.operating_points["validation"].counts
    assert ConfusionMatrixDisplay.from_predictions([0, 1], [1, 1]).result.counts == (0, 1, 0, 1)
    reliable = ReliabilityDisplay.from_predictions(*pair, patients=predictions.patients)
    assert [bin_.images for bin_ in reliable.bins] == [bin_.images for bin_ in EVALUATION.calibration.bins]
    benefit = NetBenefitDisplay.from_predictions(*pair).benefit
    np.testing.assert_array_equal(benefit.model, EVALUATION.net_benefit.model)


def test_what_holds_no_counts_is_refused():
    with pytest.raises(SettingsError, match="Received list"):
        ClassDistributionDisplay([1, 2])


def test_each_bar_carries_its_number():
    display = CHARTS[0].plot()
    assert {"1,214", "3,496", "117", "0"} == {text.get_text() for text in display.ax_.texts}


def test_a_confusion_matrix_has_truth_in_rows_and_counts_with_row_percentages():
    ax = CHARTS[1].plot().ax_
    said = {(text.get_position()[0], round(text.get_position()[1])): "" for text in ax.texts}
    for text in ax.texts:
        said[(text.get_position()[0], round(text.get_position()[1]))] += text.get_text() + " "
    assert said[(0, 0)].startswith("86 73.5%")  # true NORMAL, predicted NORMAL
    assert said[(1, 0)].startswith("31 26.5%")
    assert said[(0, 1)].startswith("5 2.6%")
    assert said[(1, 1)].startswith("190 97.4%")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")


def test_a_confusion_matrix_without_a_class_says_so():
    missing = OperatingPointResult(OperatingPoint(0.5), 0, 0, 2, 3)
    said = [text.get_text() for text in ConfusionMatrixDisplay(missing).plot().ax_.texts]
    assert said.count("no such radiographs") == 2


def test_operating_points_lie_where_their_scores_say():
    roc = lines_by_label(CHARTS[2].plot().ax_)["chosen on validation"].get_xydata()
    recall = lines_by_label(CHARTS[3].plot().ax_)["chosen on validation"].get_xydata()
    assert roc == pytest.approx(np.array([[0.25, 0.95]]))
    assert recall == pytest.approx(np.array([[0.95, 0.8]]))


@pytest.mark.parametrize("display", CHARTS[2:4], ids=name_of)
def test_the_oracle_is_hollow_and_called_not_achievable(display):
    lines = lines_by_label(display.plot().ax_)
    assert lines["chosen on these radiographs, not achievable"].get_markerfacecolor() == "none"
    assert lines["chosen on validation"].get_markerfacecolor() != "none"


def test_options_for_matplotlib_go_to_the_models_curve():
    lines = lines_by_label(CHARTS[2].plot(color="#123456", label="mine").ax_)
    assert lines["mine"].get_color() == "#123456"
    assert lines["chance"].get_color() != "#123456"


def test_a_legend_covers_no_curve():
    for display in CHARTS[2:]:
        ax = display.plot().ax_
        if legend := ax.get_legend():
            display.figure_.canvas.draw()
            assert not legend.get_window_extent().overlaps(ax.bbox)


def test_an_operating_point_whose_precision_is_undefined_is_not_drawn():
    points = {"default": result(precision=np.nan)}
    lines = lines_by_label(PrecisionRecallDisplay(CURVE, interval(0.97), 0.625, points).plot().ax_)
    assert set(lines) == {"prevalence 0.625", "average precision 0.970 [0.950, 0.990]"}


def test_what_guessing_would_reach_is_drawn():
    assert lines_by_label(CHARTS[2].plot().ax_)["chance"].get_xydata().tolist() == [[0, 0], [1, 1]]
    assert list(lines_by_label(CHARTS[3].plot().ax_)["prevalence 0.625"].get_ydata()) == [0.625, 0.625]


def test_the_loss_figure_says_that_its_lines_are_different_quantities():
    said = texts(CHARTS[5].plot().ax_)
    assert "training (class-weighted, with penalty)" in said
    assert "validation (plain cross-entropy)" in said


def test_the_epoch_kept_and_a_lower_learning_rate_are_marked():
    lines = lines_by_label(CHARTS[4].plot().ax_)
    assert lines["epoch kept (2)"].get_xydata().tolist() == [[2, 0.82]]
    assert list(lines["learning rate reduced"].get_xdata()) == [2.5, 2.5]  # before epoch 3


def test_epochs_are_whole_numbers_even_if_there_is_one():
    once = {name: values[:1] for name, values in HISTORY.items() if name != "learning_rate"}
    for history in (HISTORY, once):
        ax = LossCurvesDisplay(history).plot().ax_
        low, high = ax.get_xlim()
        ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
        assert ticks == list(range(1, len(history["loss"]) + 1))


def test_stages_are_marked_and_what_they_do_to_the_learning_rate_is_not():
    history = HISTORY | {"stage": [1.0, 1.0, 2.0]}
    assert stage_starts(history) == [(3, 2.0)]
    assert learning_rate_reductions(history) == []
    assert learning_rate_reductions(HISTORY) == [3]
    lines = lines_by_label(LossCurvesDisplay(history).plot().ax_)
    assert list(lines["next stage of fine-tuning"].get_xdata()) == [2.5, 2.5]
    assert "learning rate reduced" not in lines


def test_every_score_is_in_one_bin_of_its_class():
    counts = score_histogram(EVALUATION.predictions)
    labels = EVALUATION.predictions.labels
    assert counts.sum(axis=1).tolist() == [(labels == 0).sum(), (labels == 1).sum()]


def test_a_reliability_curve_has_a_point_for_each_bin_with_radiographs():
    display = ReliabilityDisplay(EVALUATION.calibration.bins, EVALUATION.calibration_error).plot()
    points = display.ax_.lines[1].get_xydata()
    bins = [bin_ for bin_ in EVALUATION.calibration.bins if bin_.images]
    assert points.tolist() == [[bin_.mean_probability, bin_.observed.estimate] for bin_ in bins]


def test_a_subgroup_of_few_patients_is_hollow():
    ax = SubgroupsDisplay(EVALUATION.subgroups).plot().ax_
    marks = [line for line in ax.lines if line.get_marker() != "None"]
    assert [line.get_markerfacecolor() for line in marks] == ["white"] * 4
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "ward: east\n30 radiographs",
        "ward: west\n30 radiographs",
    ]


def test_compared_curves_are_named_with_their_areas_and_differ_in_dashes():
    display = RocComparisonDisplay(roc_curve_of(OTHER, "other $"), roc_curve_of(EVALUATION, "this")).plot()
    lines = [line for line in display.ax_.lines if "AUC" in str(line.get_label())]
    assert [line.get_label().split(",")[0] for line in lines] == [r"other \$", "this"]
    assert len({line.get_linestyle() for line in lines}) == 2


def test_the_same_display_gives_the_same_file(tmp_path):
    for name in ("first", "second"):
        save(NetBenefitDisplay(EVALUATION.net_benefit), tmp_path / f"{name}.svg", tmp_path / f"{name}.png")
    for kind in ("svg", "png"):
        assert (tmp_path / f"first.{kind}").read_bytes() == (tmp_path / f"second.{kind}").read_bytes()


def test_right_is_green_with_a_tick_and_wrong_is_red_with_a_cross():
    titles = [ax.title for ax in PANELS[1].plot().axes_.flat]
    assert [to_hex(title.get_color()) for title in titles] == [
        RIGHT_GREEN,
        RIGHT_GREEN,
        WRONG_RED,
    ]
    assert titles[0].get_text() == "✓ true NORMAL\npredicted NORMAL\nconfidence 90%"
    assert titles[2].get_text() == "✗ true PNEUMONIA\npredicted NORMAL\nconfidence 80%"


def test_a_probability_at_the_threshold_is_called():
    display = PredictionSamplesDisplay(pictures(1), np.array([1]), np.array([0.3]), threshold=0.3)
    assert display.plot().axes_[0, 0].get_title() == "✓ true PNEUMONIA\npredicted PNEUMONIA\nconfidence 30%"


def test_grad_cam_shows_radiograph_overlay_and_heatmap_from_above():
    display = PANELS[2].plot()
    assert display.axes_.shape == (3, 3)
    shown = [ax.images[0].get_array() for ax in display.axes_[:, 1]]
    expected = (display.images[1], display.overlays[1], display.heatmaps[1])
    assert all(np.array_equal(a, b) for a, b in zip(shown, expected, strict=True))
    assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == ["radiograph", "overlay", "heatmap"]


def test_a_title_with_dollars_is_no_mathematics(tmp_path):
    title = r"$\frac{$ a_b"
    save(SampleRadiographsDisplay(pictures(1), [title]), tmp_path / "figure.png", dpi=40)
    save(ClassDistributionDisplay({title: {title: 1}}), tmp_path / "chart.png", dpi=40)


def test_heatmap_pixels_go_from_black_to_bright():
    pixels = heatmap_pixels(np.array([[0.0, 1.0]]))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (1, 2, 3)
    assert pixels[0, 0].sum() < 10 < 500 < pixels[0, 1].sum()


@pytest.mark.parametrize("ax", [3, "axes", []])
def test_what_are_no_axes_is_refused_in_one_line(ax):
    with pytest.raises(SettingsError, match="`ax` as Matplotlib's axes") as refused:
        EVALUATION.plot_roc(ax=ax)
    assert refused.value.parameter == "ax"
    with pytest.raises(SettingsError, match="Expected at least 1 `axes`"):
        picture_axes([ax], 1, 1, row_height=1)
