"""The figures: well-formed SVG, themed, described, deterministic, deaf to the user's matplotlib settings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest

from flashdd.core.record import Accuracy, Record, Search
from flashdd.report import figures
from flashdd.report.files import CurveRow
from flashdd.report.svg import SERIES
from flashdd.report.tables import Row, student_rows

SVG = "{http://www.w3.org/2000/svg}"
CURVE = CurveRow(scheme="labeler", images="rded", steps=(0, 100, 500), mean=(0.1, 0.4, 0.5))


@pytest.fixture
def record() -> Record:
    return Record.read(Path(__file__).parent / "record.json")


@pytest.fixture
def capacity(record: Record) -> Search:
    assert record.capacity is not None
    return record.capacity


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def draw_all(record: Record) -> list[str]:
    assert record.capacity is not None
    return [
        figures.accuracy_figure(student_rows(record)),
        figures.capacity_figure(record.capacity, 13408),
        figures.curves_figure([CURVE] * len(SERIES)),
        figures.seconds_figure(record.seconds),
    ]


@pytest.fixture(scope="module")
def every_figure() -> list[str]:
    return draw_all(Record.read(Path(__file__).parent / "record.json"))


def test_chains_are_networks_that_differ_in_width_alone(capacity: Search) -> None:
    first = capacity.candidates[0].model_copy(update={"bits": 8, "num_members": 1})
    names = ["strided-3-w16", "strided-3-w8", "strided-3-w16-ds", "chain-16k5s2-gap"]
    found = [figures._chain_name(first.model_copy(update={"name": name}), 8) for name in names]
    assert found == ["strided-3", "strided-3", "strided-3-ds", "chain-16k5s2-gap"]


def test_every_chain_has_a_style_of_its_own_and_a_stem_one_color() -> None:
    kinds = ["conv-{}", "strided-{}", "patch-{}", "conv-{}-ds", "strided-{}-ds", "patch-{}-ds", "own-{}"]
    names = [kind.format(depth) for kind in kinds for depth in (2, 3)]  # of more stems than there are colors
    styles = figures._chain_styles([*names, "fewer bits", "ensembles"])
    assert len(set(styles.values())) == len(names) + 2
    assert styles["conv-2"] == (styles["conv-3"][0], styles["conv-3"][1], "--")
    assert styles["conv-3"][2] == styles["fewer bits"][2] == "-"
    assert styles["conv-3"][0] != styles["conv-3-ds"][0]
    deep = figures._chain_styles(["conv-10", "conv-9"])
    assert [(chain, style[2]) for chain, style in deep.items()] == [("conv-9", "--"), ("conv-10", "-")]


def test_figures_are_described_and_self_contained(every_figure: list[str]) -> None:
    ids: list[str] = []
    for svg in every_figure:
        root = ElementTree.fromstring(svg)
        assert root.tag == f"{SVG}svg"
        assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
        assert all(child.text for child in list(root)[:2])
        assert not re.search(r"https?://", svg.replace('xmlns="http://www.w3.org/2000/svg"', ""))
        found = re.findall(r'\bid="([^"]+)"', svg)
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) <= set(found)
        ids += found
    assert len(ids) == len(set(ids))


def test_colors_are_left_to_the_page(every_figure: list[str]) -> None:
    style = (Path(figures.__file__).parent / "page.css").read_text()
    for svg in every_figure:
        # matplotlib's own black and white may stand in definitions that nothing shows
        assert not re.search(r"(?:fill|stroke): #(?!000000|ffffff)[0-9a-f]{6}", svg)
        for name in re.findall(r"var\((--[a-z0-9-]+)\)", svg):
            assert style.count(f"{name}: #") == 2, f"{name} needs a light and a dark color"


def test_figures_do_not_depend_on_the_users_settings_and_leave_them_alone(
    every_figure: list[str], record: Record
) -> None:
    with matplotlib.rc_context({"font.size": 30.0, "axes.labelsize": 40.0, "svg.fonttype": "path"}):
        settings = dict(matplotlib.rcParams)
        assert draw_all(record) == every_figure
        assert dict(matplotlib.rcParams) == settings


def test_bars_carry_name_and_value(record: Record) -> None:
    shown = texts(figures.accuracy_figure(student_rows(record)))
    for text in ("labeler (ours), rded", "54.5 ± 0.3", "hard labels, real, whole", "84.2", "60.2", "77.1"):
        assert text in shown


def test_seeds_are_dots(record: Record) -> None:
    svg = figures.accuracy_figure(student_rows(record))
    dots = len(re.findall(r"<use ", svg)) - len(
        re.findall(r"<use ", figures.accuracy_figure(few_seeds(record)))
    )
    assert dots == 1


def few_seeds(record: Record) -> list[Row]:
    """The rows with one seed less in the first one."""
    first, *rest = student_rows(record)
    values = first.accuracy.values[:-1]
    return [replace(first, accuracy=Accuracy.of(values)), *rest]


def test_the_choice_is_marked(capacity: Search) -> None:
    shown = texts(figures.capacity_figure(capacity, 13408))
    assert "chosen: strided-3-w16, 6.9 KB" in shown
    assert "budget 13.4 KB" in shown
    assert {"strided-2", "strided-3", "patch-2", "conv-3", "10 KB"} <= set(shown)


def test_fewer_bits_and_ensembles_have_lines_of_their_own(capacity: Search) -> None:
    whole = [candidate.model_copy(update={"bits": 8, "num_members": 1}) for candidate in capacity.candidates]
    few = whole[4].model_copy(update={"bits": 4, "bytes": 3500})
    many = few.model_copy(update={"num_members": 3, "bytes": 10_000})
    search = Search(candidates=(*whole, few, many), chosen=len(whole) + 1, seconds=1.0)
    shown = texts(figures.capacity_figure(search, None))
    assert {"fewer bits", "ensembles", "strided-3"} <= set(shown)
    assert "chosen: 3 x strided-3-w16, 4 bits, 10.0 KB" in shown


def test_a_budget_beyond_the_candidates_is_not_drawn(capacity: Search) -> None:
    for budget in (None, 100, 10**7):
        assert not any("budget" in text for text in texts(figures.capacity_figure(capacity, budget)))


def test_one_candidate_without_spread_makes_a_figure(capacity: Search) -> None:
    only = capacity.candidates[4].model_copy(update={"proxy_stderr": None})
    svg = figures.capacity_figure(Search(candidates=(only,), chosen=0, seconds=1.0), None)
    assert "chosen: strided-3-w16, 6.9 KB" in texts(svg)


def test_unscored_candidates_are_left_out(capacity: Search) -> None:
    unscored = capacity.candidates[0].model_copy(update={"proxy_mean": None, "name": "ghost-1"})
    search = Search(candidates=(*capacity.candidates, unscored), chosen=4, seconds=1.0)
    assert "ghost" not in texts(figures.capacity_figure(search, None))


def test_names_are_never_formulas_and_any_script_is_drawn() -> None:
    name = "$\\frac{1}$ <b> & 犬"
    svg = figures.curves_figure([CURVE.model_copy(update={"scheme": name})])
    assert f"{name}, rded" in texts(svg)


def test_no_second_and_one_stage() -> None:
    assert "0.0 s" in texts(figures.seconds_figure({"data": 0.0}))
