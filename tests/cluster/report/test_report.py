"""The report: what it says, and how it behaves in a browser that has no network."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.report.best_policy import best_policies, best_policy, winners
from coldfleet.cluster.report.epochs import read_epochs
from coldfleet.cluster.report.figures import Axis, Figures, read_figures
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.summary import summarise
from coldfleet.cluster.stats.statistics import grouped_means, mean_interval
from coldfleet.cluster.study.reader import read_study
from tests.cluster.conftest import STUDY, Said

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

for package in ("altair", "jinja2", "vl_convert"):
    pytest.importorskip(package, reason='needs the extra "report"')

Command = Callable[..., Said]
NASTY = "</script><img src=x onerror=alert(1)> & \"quotes\" 'apostrophes' {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("report")
    study = STUDY.replace('"a small study"', json.dumps(NASTY)).replace("overcommit = 1.5\n", "")
    (folder / "small.toml").write_text(study + "overcommit = [1.5, 2]\n")
    return sweep(read_study(folder / "small.toml"), folder / "out", SerialExecutor())


@pytest.fixture(scope="module")
def file(swept: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from coldfleet.cluster.report.page import page

    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(swept), encoding="utf-8")
    return path


def test_groups_have_the_means_and_intervals_of_the_summary(swept: Results) -> None:
    figures = read_figures(swept)
    for row in summarise(swept):
        for metric in figures.metrics:
            found = [e for e in figures.group_means(metric.key, list(row.axes)) if e.at == row.axes]
            assert len(found) == 1
            mean, half = row.means[metric.key]
            assert found[0].mean == pytest.approx(mean)
            assert found[0].half_width == pytest.approx(half)


def test_grouped_means_are_those_of_each_group() -> None:
    groups = np.array([0, 2, 2, 0, 2, 3])
    values = np.array([1.0, 2.0, 4.0, 5.0, 9.0, 7.0])
    means, halves = grouped_means(groups, values, 4)
    for group in (0, 2):
        mean, half = mean_interval(values[groups == group].tolist())
        assert (means[group], halves[group]) == (pytest.approx(mean), pytest.approx(half))
    assert np.isnan(means[1])
    assert means[3] == 7
    assert np.isnan(halves[3])


def test_best_policy_and_its_ties() -> None:
    noise = np.array([0.0, 5.0, -5.0, 1.0])
    answer = best_policy({"far": 100 + noise, "near": 10.1 + noise, "best": 10 + noise, "like": 10 + noise[::-1]})
    assert answer.best == "best"
    assert answer.ties == ("like",)  # "near" is always 0.1 more on the same accesses
    assert list(answer.means) == ["best", "like", "near", "far"]
    assert best_policy({"one": np.array([1.0]), "other": np.array([9.0])}).ties == ("other",)


def only(figures: Figures, kept: npt.NDArray[np.bool_]) -> Figures:
    """Those of some runs."""
    axes = {path: Axis(path, axis.labels, axis.codes[kept]) for path, axis in figures.axes.items()}
    values = {key: value[kept] for key, value in figures.values.items()}
    return Figures(figures.cells[kept], figures.replicates[kept], axes, figures.metrics, figures.details, values)


def test_a_page_says_that_settings_have_unequally_many_replicates(
    swept: Results, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coldfleet.cluster.report import page

    figures = read_figures(swept)
    assert figures.replicates_of_settings == (3, 3)
    uneven = only(figures, (figures.replicates == 0) | (figures.axes["nested_ratio"].codes == 0))
    assert uneven.replicates_of_settings == (1, 3)
    monkeypatch.setattr(page, "read_figures", lambda results: uneven)
    assert "Some settings have 1 of 3 replicates." in page.page(swept)
    assert "Some settings have" not in file.read_text()


def test_only_settings_that_every_policy_has_are_compared(swept: Results) -> None:
    figures = read_figures(swept)
    assert figures.fair.all()
    kept = np.ones(len(figures.cells), bool)
    kept[0] = False
    partial = only(figures, kept)
    assert (~partial.fair).sum() == 1
    assert best_policies(partial).keys() == best_policies(figures).keys()


def test_winners_are_found_at_each_setting(swept: Results) -> None:
    found = winners(read_figures(swept), "refaults", ["nested_ratio", "overcommit"])
    assert [tuple(at.values()) for at, _ in found] == [(ratio, more) for ratio in (0, 0.5, 1) for more in (1.5, 2)]


def test_axis_with_many_values_is_put_into_bins() -> None:
    axis = Axis("overcommit", tuple(float(v) for v in range(100)), np.arange(100)).binned()
    assert len(axis.labels) == 20
    assert np.bincount(axis.codes).tolist() == [5] * 20


@pytest.mark.parametrize("every", [1, 3])
def test_ticks_add_up_to_each_run_and_none_is_negative(tmp_path: Path, every: int) -> None:
    output = f'output.epochs = "on"\noutput.every_ticks = {every}\n[fleet]'
    (tmp_path / "s.toml").write_text(STUDY.replace("[fleet]", output))
    results = sweep(read_study(tmp_path / "s.toml"), tmp_path / "out", SerialExecutor())
    figures = read_figures(results)
    series = {each.title: each.rows for each in read_epochs(results, figures)}
    assert list(series) == ["refaults in a tick", "pages evicted in a tick", "reclaim CPU in a tick (ms)"]
    points = [1, 2, 3, 4] if every == 1 else [3, 4]  # the last row is that of the last tick
    lengths = np.diff(points, prepend=0)
    for found in figures.group_means("refaults", ["policy"]):
        ticks = [row for row in series["refaults in a tick"] if row["policy"] == found.at["policy"]]
        assert [row["x"] for row in ticks] == points
        assert np.dot([row["mean"] for row in ticks], lengths) == pytest.approx(found.mean)
        assert all(row["low"] <= row["mean"] <= row["high"] for row in ticks)
    final = {
        (row["cell_id"], row["replicate"]): (row["refaults"], row["pgsteal"], row["reclaim_cpu_ns"] / 1e6)
        for row in results.table("cells").to_pylist()
    }
    assert len(final) == len(figures.cells) == 18
    for cell, replicate in zip(figures.cells, figures.replicates, strict=True):
        figures.fair[:] = (figures.cells == cell) & (figures.replicates == replicate)
        drawn = {each.title: [row["mean"] for row in each.rows] for each in read_epochs(results, figures)}
        for title, total in zip(series, final[results.plan.cell_ids[cell], replicate], strict=True):
            values = drawn.get(title, [0.0] * len(points))  # what is 0 throughout isn't drawn
            assert min(values) >= 0
            assert np.dot(values, lengths) == pytest.approx(total)


def test_kills_are_a_figure_where_there_are_any(swept: Results, tmp_path: Path) -> None:
    text = STUDY.replace('mode = "limit"', 'mode = "host"\nswappiness = 0').replace("ticks = 4", "ticks = 1")
    (tmp_path / "s.toml").write_text(text)
    results = sweep(read_study(tmp_path / "s.toml"), tmp_path / "out", SerialExecutor())
    assert "oom_kills" in [metric.key for metric in read_figures(results).metrics]
    assert "oom_kills" not in [metric.key for metric in read_figures(swept).metrics]


def test_page_needs_nothing_else_and_escapes_its_input(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert NASTY not in text
    assert html.escape(NASTY, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    own = text[: text.index('<script type="module">')]
    assert not re.search(r"""(src|href)\s*=|url\(|@import""", re.sub(r"src=x onerror", "", own))


def test_packed_cells_are_the_means(file: Path, swept: Results) -> None:
    packed = re.search(r'<script id="packed" type="text/plain">(.*?)</script>', file.read_text(), re.S)
    assert packed is not None
    plain = gzip.decompress(base64.b64decode(packed[1]))
    line, _, columns = plain.partition(b"\n")
    head = json.loads(line)
    assert head["rows"] == swept.plan.cell_count
    assert head["ids"] == "".join(swept.plan.cell_ids)
    assert len(columns) == 4 * head["rows"] * sum(1 if "labels" in c else 2 for c in head["columns"])


def test_pictures_become_files(swept: Results, tmp_path: Path, coldfleet: Command) -> None:
    said = coldfleet("report", swept.storage, "--export", tmp_path / "p", "--picture", "map", "--picture", "locks")
    assert said.code == 0
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["locks.png", "locks.svg", "map.png", "map.svg"]
    assert (tmp_path / "p" / "map.svg").read_text().startswith("<svg")
    assert (tmp_path / "p" / "map.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--export", "p", "--picture", "mapp"], "did you mean 'map'"), (["--picture", "map"], "--export DIR"),
     (["--export", "p", "--out", "f"], "choose one"), (["--observe", "zzz"], "no cell 'zzz'"),
     (["--out", "/nowhere/f.html"], "/nowhere/f.html")],
)  # fmt: skip
def test_mistake_is_one_line(
    arguments: list[str], expected: str, swept: Results, coldfleet: Command, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    said = coldfleet("report", swept.storage, *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark", "print"])
def opened(browser: Browser, file: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report in a browser; at the end it must have asked for no other file and complained of nothing."""
    scheme: Literal["dark", "light"] = "dark" if request.param == "print" else request.param
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1250, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    if request.param == "print":
        page.emulate_media(media="print")
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    yield page
    assert asked == [file.as_uri()]
    assert said == []
    page.close()


def test_answers_come_first_and_every_picture_is_drawn(opened: Page) -> None:
    assert opened.title() == NASTY
    assert opened.locator("h1").inner_text() == NASTY
    assert opened.locator("section h2").first.inner_text() == "Which policy is best?"
    charts = opened.locator(".chart")
    assert charts.count() >= 6
    assert all(charts.nth(number).locator("svg path").count() > 2 for number in range(charts.count()))
    headings = " ".join(opened.locator("h2").all_inner_texts())
    for part in ("wins", "By nested_ratio", "Locks", "Where time goes", "tick by tick", "True ages", "All cells"):
        assert part in headings


def test_text_stands_out_from_the_paper(opened: Page) -> None:
    colours = opened.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
                  getComputedStyle(document.querySelector(".chart .role-axis-label text")).fill]"""
    )
    paper, ink, label = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert abs(paper - ink) > 500
    assert abs(paper - label) > 500


def test_sorting(opened: Page) -> None:
    rows = opened.locator("#rows tr")
    assert rows.count() == 12
    opened.get_by_role("button", name="refaults").click()
    shown = [opened.evaluate("text => parseFloat(text) * (text.match(/^[0-9.]+k/) ? 1000 : 1)", text)
             for text in opened.locator("#rows td:nth-child(5)").all_inner_texts()]  # fmt: skip
    assert shown == sorted(shown)
    assert opened.locator("th[aria-sort=ascending]").inner_text() == "refaults"
    opened.get_by_role("button", name="refaults").click()
    assert float(rows.first.locator("td").nth(4).inner_text().split("k")[0]) * 1000 >= shown[-1] * 0.99


@pytest.mark.parametrize("opened", ["light"], indirect=True)
def test_filter_takes_headings_names_axes_and_units(opened: Page, swept: Results) -> None:
    middle = sorted(row.means["missed_young"].mean for row in summarise(swept))[6]
    small = sum(row.means["missed_young"].mean < middle for row in summarise(swept))
    rows, field, count = opened.locator("#rows tr"), opened.locator("#filter"), opened.locator("#count")
    for text, expected in [
        ("six-steps", 6), ("policy=six-steps", 6), ("POLICY = Six-Steps", 6), ("policy!=six-steps", 6),
        ("six-steps nested_ratio>0.1 overcommit=2", 2), ("nested_ratio >= 50%", 8), ("refaults<900k", 12),
        ("refaults > 1G", 0), (f"missed young<{middle}", small), (f"missed_young<{middle}", small),
        (f"missed young < {middle / 1000}k six-steps overcommit=1.5 overcommit=2", 0), ("reclaim_cpu_s<5 s", 12),
        ("reclaim CPU s<1 ns", 0), ("mmu_lock writes>=0 nested_ratio=0", 4), ("", 12),
    ]:  # fmt: skip
        field.fill(text)
        assert (text, rows.count()) == (text, expected)
        assert count.inner_text().startswith(f"{expected} of 12 cells")
        assert field.get_attribute("aria-invalid") == "false"


@pytest.mark.parametrize("opened", ["light"], indirect=True)
def test_filter_says_what_it_cannot_read_and_leaves_the_rows(opened: Page) -> None:
    rows, field, count = opened.locator("#rows tr"), opened.locator("#filter"), opened.locator("#count")
    for text, expected in [
        ("refalts<900k", "no column “refalts”: did you mean “refaults”?"),
        ("policy=six-step", "no policy is “six-step”: did you mean “six-steps”?"),
        ("policy<3", "compare it by = or !="), ("refaults<", "what? Write a value"), ("refaults<many", "is no number"),
        ("<3", "write a name before it"), ("evict-onyl", "did you mean “evict-only”?"),
        ("notifier_calls<3 MiB", "no cell has “MiB”"),
        ("reclaim_cpu_s<3 sec", "“sec” is no unit of reclaim CPU s: us, ms or s"),
    ]:  # fmt: skip
        field.fill(text)
        assert expected in count.inner_text()
        assert rows.count() == 12
        assert field.get_attribute("aria-invalid") == "true"
    field.fill("")
    assert count.inner_text() == "12 of 12 cells"


@pytest.mark.parametrize("opened", ["light"], indirect=True)
def test_legend_shows_one_policy_by_pointer_and_by_key(opened: Page) -> None:
    line = opened.locator("#curves-nested_ratio .mark-line path")
    button = opened.locator("#curves-nested_ratio .legend button", has_text="six-steps")

    def opacities() -> set[str]:
        opened.wait_for_timeout(100)
        return {line.nth(number).get_attribute("opacity") or "1" for number in range(line.count())}

    assert opacities() == {"1"}
    button.hover()
    assert opacities() == {"1", "0.12"}
    opened.locator("h1").hover()
    assert opacities() == {"1"}
    button.focus()
    opened.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert opacities() == {"1", "0.12"}
    opened.keyboard.press("Escape")
    assert button.get_attribute("aria-pressed") == "false"
    assert opacities() == {"1"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1250])
def test_page_is_accessible_and_fits(
    browser: Browser, file: Path, scheme: Literal["light", "dark"], width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="checks accessibility")
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 15
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    widest = page.evaluate(
        "Math.max(...[...document.querySelectorAll('.panels:not(.wide) svg')].map(e => e.clientWidth))"
    )
    assert 250 < widest <= width
    page.close()


@pytest.mark.parametrize("opened", ["light"], indirect=True)
def test_hover_tells_the_figures(opened: Page) -> None:
    point = opened.locator(".chart .mark-symbol.role-mark path").first
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    tooltip = opened.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "policy" in tooltip.inner_text()
    assert "±" in tooltip.inner_text()
