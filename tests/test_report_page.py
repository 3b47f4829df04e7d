"""The report's page in a real browser: its figures are report.json's, all can use it, no name is obeyed."""

import shutil

import numpy as np
import pytest

from pneumokeras.evaluation import OperatingPoint, evaluate_predictions
from pneumokeras.report import ReportContents, write_report
from pneumokeras.report.page import LARGEST_PAGE, render_page
from tests.reporting import EVIL, POINT, evaluation, full_contents, pictures, scattered

playwright = pytest.importorskip("playwright.sync_api", reason="browser: playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="browser: axe is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (360, 1280)
HALVES = np.array(["east", "west"])
SCORES = ("sensitivity", "specificity", "precision", "npv")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("browser: no Chromium; install it, as with apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def contents():
    names = [f"data/{i}{EVIL}" for i in range(60)]
    halves = HALVES[np.arange(60) % 2]
    this = scattered(names=names, columns={"ward": halves}, prevalence=0.1)
    return full_contents(this, columns={"ward": halves})


@pytest.fixture(scope="module")
def path(contents, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(render_page(contents), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, path):
    yield from open_page(browser, path)


def open_page(browser, path, **options):
    """A page whose complaints, dialogs and requests fail the test that opened it."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: asked.append(request.url))
    asked = []
    page.goto(path.as_uri())
    yield page
    context.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def choose(page, threshold):
    page.locator("#threshold-exact").fill(repr(float(threshold)))


def shown_counts(page):
    return {name: int(page.locator(f"[data-count={name}]").inner_text()) for name in ("tn", "fp", "fn", "tp")}


def shown_interval(page, name):
    value = page.locator(f"[data-score={name}]").inner_text()
    return value, page.locator(f"[data-range={name}]").inner_text()


def written(interval):
    """An interval of report.json as the page writes it."""
    if interval["estimate"] is None:
        return "undefined", ""
    ends = (interval["low"], interval["high"])
    return f"{interval['estimate']:.3f}", "no interval" if None in ends else "{:.3f} to {:.3f}".format(*ends)


def test_at_ten_thresholds_the_figures_are_those_of_report_json(opened, contents):
    rng = np.random.default_rng(3)
    predictions = contents.evaluation.predictions
    told = rng.choice(predictions.probabilities, 4)  # at a probability itself it is called
    thresholds = [0.5, 0.3, *rng.uniform(0, 1, 4), *told]
    assert len(thresholds) == 10
    points = {f"point {i}": OperatingPoint(threshold) for i, threshold in enumerate(thresholds)}
    content = evaluate_predictions(predictions, operating_points=points, replicates=10).json()
    for name, threshold in zip(points, thresholds, strict=True):
        choose(opened, threshold)
        result = content["operating_points"][name]
        called = predictions.probabilities >= threshold
        positive = predictions.labels == 1
        assert shown_counts(opened) == {
            "tn": (~called & ~positive).sum(),
            "fp": (called & ~positive).sum(),
            "fn": (~called & positive).sum(),
            "tp": (called & positive).sum(),
        }
        assert shown_counts(opened) == {count: result[count] for count in ("tn", "fp", "fn", "tp")}
        assert {score: shown_interval(opened, score) for score in SCORES} == {
            score: written(result[score]) for score in SCORES
        }


def test_it_opens_at_the_threshold_that_was_chosen(opened, contents):
    result = contents.json()["operating_points"]["validation"]
    assert shown_counts(opened) == {count: result[count] for count in ("tn", "fp", "fn", "tp")}
    assert opened.locator("[data-threshold='0.3']").get_attribute("aria-pressed") == "true"
    assert opened.locator("[data-threshold='0.5']").get_attribute("aria-pressed") == "false"
    opened.locator("[data-threshold='0.5']").click()
    assert shown_counts(opened)["fn"] == contents.evaluation.operating_points["default"].fn


def test_predictive_values_follow_the_prevalence_box(opened, contents):
    stated = contents.json()["operating_points"]["validation"]["predictive_values"]
    assert shown_interval(opened, "ward-ppv") == written(stated["ppv"])
    assert shown_interval(opened, "ward-npv") == written(stated["npv"])
    other = evaluate_predictions(
        contents.evaluation.predictions,
        operating_points={"validation": POINT},
        prevalence=0.015,
        replicates=10,
    ).json()["operating_points"]["default"]["predictive_values"]
    opened.locator("#prevalence").fill("1.5")
    choose(opened, 0.5)
    assert shown_interval(opened, "ward-ppv") == written(other["ppv"])
    assert shown_interval(opened, "ward-npv") == written(other["npv"])
    assert opened.locator("#ward-sentence").inner_text().startswith("Of 1,000 examined, 15 have pneumonia:")
    opened.locator("#prevalence").fill("0")
    assert "between 0 and 100" in opened.locator("#ward-sentence").inner_text()


def test_the_slider_is_moved_by_keys_and_everything_follows(opened):
    slider = opened.locator("#threshold-slider")
    slider.focus()
    opened.keyboard.press("Home")
    assert shown_counts(opened)["fn"] == shown_counts(opened)["tn"] == 0
    for _ in range(3):
        opened.keyboard.press("ArrowRight")
    assert opened.locator("#threshold-exact").input_value() == "0.003"
    opened.keyboard.press("End")
    assert shown_counts(opened)["tp"] == shown_counts(opened)["fp"] == 0
    assert shown_interval(opened, "precision") == ("undefined", "")
    assert "At 1:" in opened.locator("#threshold-sentence").inner_text()
    assert opened.locator("#radiographs [data-threshold-now]").inner_text() == "1"


def test_the_marks_lie_on_the_curves(opened, contents):
    choose(opened, 0.5)
    scores = contents.evaluation.operating_points["default"].scores
    sensitivity, specificity = scores["sensitivity"].estimate, scores["specificity"].estimate

    def place(follows):
        return opened.eval_on_selector(
            f"[data-follows={follows}]",
            """mark => {
                const dot = mark.querySelector(".now-dot");
                const left = mark.transform.baseVal[0].matrix.e;
                return [left, dot ? Number(dot.getAttribute("cy")) : null];
            }""",
        )

    frame = {"left": 46, "width": 302, "top": 12, "height": 274}
    expected = {
        "roc": (1 - specificity, sensitivity),
        "precision-recall": (sensitivity, scores["precision"].estimate),
    }
    for follows, (x, y) in expected.items():
        left, top = place(follows)
        assert left == pytest.approx(frame["left"] + x * frame["width"], abs=0.1)
        assert top == pytest.approx(frame["top"] + (1 - y) * frame["height"], abs=0.1)
    assert place("scores")[0] == pytest.approx(frame["left"] + 0.5 * frame["width"], abs=0.1)
    benefit = contents.evaluation.net_benefit
    at = int(np.flatnonzero(benefit.thresholds == 0.5)[0])
    highest = max(benefit.model.max(), benefit.treat_all.max(), 0.05)
    share = (benefit.model[at] + 0.25 * highest) / (1.33 * highest)
    assert place("net-benefit")[1] == pytest.approx(frame["top"] + (1 - share) * frame["height"], abs=0.1)


def rows(page):
    return [row.inner_text().split("\t") for row in page.locator("[data-part=rows] tr").all()]


def names_in_order(page):
    return [cell.inner_text() for cell in page.locator("[data-part=rows] th").all()]


def test_names_from_outside_are_shown_and_never_obeyed(opened):
    assert any(EVIL in name for name in names_in_order(opened))
    assert opened.locator("img[src='x']").count() == 0
    assert opened.locator("h1").inner_text() == f"Report {EVIL}"


def test_the_table_begins_with_the_gravest_mistake_and_is_sorted_by_its_headers(opened, contents):
    predictions = contents.evaluation.predictions
    gravest = np.argmax(np.abs(predictions.labels - predictions.probabilities))
    assert names_in_order(opened)[0] == f"{gravest}{EVIL}"
    header = opened.get_by_role("columnheader", name="P(PNEUMONIA)")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert names_in_order(opened)[0] == f"{predictions.probabilities.argmax()}{EVIL}"
    header.get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert names_in_order(opened)[0] == f"{predictions.probabilities.argmin()}{EVIL}"
    opened.get_by_role("columnheader", name="Radiograph").get_by_role("button").click()
    assert names_in_order(opened)[:3] == [f"{i}{EVIL}" for i in range(3)]  # 2 before 10


def test_filters_let_through_what_they_say(opened, contents):
    count = opened.locator("#radiographs [data-part=count]")
    assert count.inner_text() == "1 to 25 of 60 radiographs"
    wrong = contents.evaluation.misclassified("validation")
    opened.get_by_label("Show", exact=True).select_option("missed")
    assert f"of {len(wrong.false_negatives)} radiographs" in count.inner_text()
    choose(opened, 1)  # then all of them are missed
    assert f"of {(contents.evaluation.predictions.labels == 1).sum()} radiographs" in count.inner_text()
    opened.get_by_label("Show", exact=True).select_option("all")
    opened.get_by_label("Ward").select_option("west")
    assert "of 30 radiographs" in count.inner_text()
    opened.get_by_label("Name or patient").fill("Q5")
    assert {row[2] for row in rows(opened)} == {f"q{i}" for i in (51, 53, 55, 57, 59)}
    opened.get_by_label("Name or patient").fill("nobody")
    assert count.inner_text() == "No radiograph matches."


def test_the_table_turns_its_pages(opened):
    section = opened.locator("#radiographs")
    first = names_in_order(opened)
    assert section.get_by_role("button", name="Previous").is_disabled()
    section.get_by_role("button", name="Next").click()
    section.get_by_role("button", name="Next").press("Enter")
    assert section.locator("[data-part=count]").inner_text() == "51 to 60 of 60 radiographs"
    assert section.get_by_role("button", name="Next").is_disabled()
    assert not set(first) & set(names_in_order(opened))


def test_a_picture_opens_large_with_its_heatmap_and_closes_by_a_key(opened):
    opened.get_by_label("Name or patient").fill("1<")
    button = opened.locator(".thumbnail").first
    assert button.get_attribute("aria-label").endswith(f"{EVIL} with its heatmap")
    button.focus()
    opened.keyboard.press("Enter")
    viewer = opened.locator("#viewer")
    assert EVIL in viewer.locator("h2").inner_text()
    opened.wait_for_function("document.querySelector('[data-part=heatmap]').width === 448")
    alpha = opened.evaluate(
        """() => {
            const canvas = document.querySelector("[data-part=heatmap]");
            const alpha = (x, y) => canvas.getContext("2d").getImageData(x, y, 1, 1).data[3];
            return [alpha(168, 168), alpha(400, 400)];
        }"""
    )
    assert alpha[0] > 200
    assert alpha[1] < 30
    first = viewer.locator("h2").inner_text()
    viewer.get_by_role("button", name="Next").click()
    assert viewer.locator("[data-part=count]").inner_text() == "2 of 2"
    opened.keyboard.press("ArrowLeft")
    assert viewer.locator("h2").inner_text() == first
    opened.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert opened.evaluate("document.activeElement.className") == "thumbnail"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing(browser, path, scheme, width):
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    for page in open_page(browser, path, **options):
        assert faults(page) == []
        page.locator(".thumbnail").first.click()
        assert faults(page) == []


def faults(page):
    found = axe.Axe().run(page).response["violations"]
    return [(fault["id"], fault["impact"], node["target"]) for fault in found for node in fault["nodes"]]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(browser, path, width):
    for page in open_page(browser, path, viewport={"width": width, "height": 900}):
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_without_a_script_the_figures_of_the_chosen_threshold_stand(browser, path, contents):
    for page in open_page(browser, path, java_script_enabled=False):
        result = contents.evaluation.operating_points["validation"]
        assert shown_counts(page) == {name: getattr(result, name) for name in ("tn", "fp", "fn", "tp")}
        assert not page.locator("#threshold-slider").is_visible()
        assert page.locator("noscript p").last.is_visible()


def test_a_print_has_no_controls_and_all_sections(opened):
    opened.emulate_media(media="print")
    assert not opened.locator("#threshold-slider").is_visible()
    assert not opened.locator("nav").is_visible()
    assert opened.locator("#threshold-sentence").is_visible()
    assert opened.pdf().startswith(b"%PDF")


def test_without_pictures_there_is_a_table_and_no_image(browser, contents, tmp_path):
    bare = ReportContents("Bare", contents.evaluation, columns=contents.columns)
    for page in open_page(browser, write_report(bare, tmp_path)):
        assert page.locator("img").count() == 0
        assert len(names_in_order(page)) == 25
        assert "This report holds no pictures." in page.locator("#radiographs").inner_text()
    assert not any("sample" in path.name or "grad" in path.name for path in tmp_path.rglob("*"))


def test_a_set_of_one_class_leaves_undefined_what_needs_both(browser, tmp_path):
    path = tmp_path / "index.html"
    path.write_text(render_page(ReportContents("One class", evaluation(tn=0, fp=0, fn=1, tp=9))))
    for page in open_page(browser, path):
        choose(page, 0.9)
        assert shown_counts(page) == {"tn": 0, "fp": 0, "fn": 10, "tp": 0}
        assert shown_interval(page, "specificity") == ("undefined", "")
        assert shown_interval(page, "ward-ppv") == ("undefined", "")
        choose(page, 0)
        page.locator("#prevalence").fill("10")
        assert shown_counts(page)["tp"] == 10
        assert {shown_interval(page, f"ward-{value}") for value in ("ppv", "npv")} == {("undefined", "")}
        assert page.locator("[data-follows=roc]").count() == 0


@pytest.mark.slow
def test_ten_thousand_radiographs_are_there_within_two_seconds(browser, tmp_path):
    path = tmp_path / "index.html"
    this = scattered(10_000, names=[f"a/hospital/{'folder' * 4}/{i:06}{EVIL}" for i in range(10_000)])
    path.write_text(render_page(ReportContents("Many", this, pictures=pictures(300, side=224))))
    assert 2_000_000 < path.stat().st_size < LARGEST_PAGE
    waited = []
    for _ in range(3):
        for page in open_page(browser, path):
            assert "of 10,000 radiographs" in page.locator("#radiographs [data-part=count]").inner_text()
            waited.append(
                page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
            )
        if waited[-1] < 2000:
            return
    raise AssertionError(f"Expected under 2000 ms, the page took {waited}.")
