"""The page: self-contained, escaped, deterministic, without what the run did not leave."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flashdd.core.errors import ArtifactError
from flashdd.report.build import MAX_GALLERY, build_report

RECORD = Path(__file__).parent / "record.json"
PIECES = {
    "gallery": "Images by class",
    "mean_labels": "Mean soft label",
    "confusion": "the labeler confuses",
    "curves": "How the students learn",
}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Every tag with its attributes, all text, and the section titles; unbalanced tags fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def png(width: int = 8) -> str:
    buffer = io.BytesIO()
    Image.new("L", (width, width), 99).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write_run(out: Path, names: tuple[str, ...] = ("zero", "one", "two")) -> dict[str, Any]:
    """A finished run in `out`; returns its report files as JSON values."""
    num = len(names)
    matrix = [
        [0.8 if row == column else 0.2 / max(num - 1, 1) for column in range(num)] for row in range(num)
    ]
    curve = {"scheme": "labeler", "images": "rded", "steps": [0, 10, 20], "mean": [0.1, 0.3, 0.5]}
    contents: dict[str, Any] = {
        "gallery": {
            "classes": [
                {
                    "name": name,
                    "strips": [{"images": "rded", "png": [png()]}, {"images": "random", "png": [png(32)]}],
                }
                for name in names
            ]
        },
        "mean_labels": {"class_names": names, "matrix": matrix},
        "confusion": {
            "class_names": names,
            "matrix": [[round(100 * cell) for cell in row] for row in matrix],
        },
        "curves": {
            "rows": [curve, {**curve, "scheme": "hard"}, {**curve, "images": "random", "steps": [0, 5, 9]}]
        },
    }
    (out / "report").mkdir(parents=True)
    (out / "record.json").write_bytes(RECORD.read_bytes())
    for name, content in contents.items():
        (out / "report" / f"{name}.json").write_text(json.dumps(content))
    return contents


def build(out: Path) -> str:
    path = build_report(out)
    assert path == out / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run with all report files."""
    out = tmp_path_factory.mktemp("run") / "out"
    write_run(out)
    return build(out)


def test_the_page_needs_no_network_and_no_script(full_page: str) -> None:
    page = Page(full_page)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#"))
    assert not re.search(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", full_page))
    assert not re.search(r"@import|url\((?!#)", full_page)
    ids = [str(attributes["id"]) for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_one_image_per_class_is_singular(tmp_path: Path) -> None:
    write_run(tmp_path)
    record = json.loads(RECORD.read_bytes())
    record["images"]["ipc"] = 1
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert "cifar10, 1 image per class, rded" in Page(build(tmp_path)).text


def test_the_page_shows_every_piece(full_page: str) -> None:
    page = Page(full_page)
    assert [svg["aria-labelledby"] for svg in page.all("svg")] == [
        "accuracy-title accuracy-desc",
        "capacity-title capacity-desc",
        "curves-title curves-desc",
        "seconds-title seconds-desc",
    ]
    for phrase in (
        "cifar10, 10 images per class, rded",
        "made-up figures, for tests",
        "Against the full teacher",
        "Shipping a classifier instead (convnet-3-w48",
        "54.5 ± 0.3 (n=5)",
        "strided-3-w16 (chosen)",
        "21 min 0 s",
        "14.7 M",
        "commit 8eed14b0c5d2",
        '"label_budget": "0.03%"',
        "On average 80.0 % falls on the image's own class.",
        *PIECES.values(),
    ):
        assert phrase in page.text, phrase
    images = page.all("img")
    assert [image["alt"] for image in images[:3]] == [
        "zero, rded, image 1",
        "zero, random real, image 1",
        "one, rded, image 1",
    ]
    assert {image["style"] for image in images} == {"--side: 64px"}
    assert {image["class"] for image in images} == {"pixels"}


def test_a_search_says_what_it_costs(full_page: str) -> None:
    assert (
        "It costs as many operations as 0.87 epochs of the reference ResNet-18 on the real data (1.2e+14)."
        in full_page
    )


def test_a_table_stands_beside_every_figure(full_page: str) -> None:
    ends = [svg.end() for svg in re.finditer(r"</svg></figure>", full_page)]
    assert len(ends) == 4
    assert all(full_page[end:].lstrip().startswith("<details>") for end in ends)


@pytest.mark.parametrize(
    ("name", "phrase"),
    list(PIECES.items()),
)
def test_absent_pieces_are_left_out(name: str, phrase: str, tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "report" / f"{name}.json").unlink()
    assert phrase not in Page(build(tmp_path)).text


def test_a_bare_record_makes_a_page(tmp_path: Path) -> None:
    record = json.loads(RECORD.read_bytes())
    for key in ("ship", "notes"):
        del record[key]
    record.update(teacher=None, capacity=None, throughput=[], students=[], seconds={})
    record["images"].update(ipc=None)
    record["labeler"].update(budget_bytes=None)
    (tmp_path / "record.json").write_text(json.dumps(record))
    page = Page(build(tmp_path))
    assert "cifar10, 100 images, rded" in page.text
    assert len(page.all("svg")) == 1
    assert "How the labeler was chosen" not in page.text


def test_a_search_without_proxies_has_a_table_but_no_curve(tmp_path: Path) -> None:
    record = json.loads(RECORD.read_bytes())
    for candidate in record["capacity"]["candidates"]:
        candidate.update(proxy_mean=None, proxy_stderr=None, n=0)
    record["teacher_search"] = record["capacity"]
    (tmp_path / "record.json").write_text(json.dumps(record))
    page = Page(build(tmp_path))
    assert "The teacher's search: 11 candidates" in page.text
    assert "capacity-title capacity-desc" not in [svg["aria-labelledby"] for svg in page.all("svg")]


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('&amp;\")</script><img src=x onerror=alert(1)>"
    write_run(tmp_path, (evil, 'quo"te', "$x_1$ {{ 7*7 }}"))
    record = json.loads(RECORD.read_bytes())
    record["notes"] = [evil]
    record["config"]["data"]["source"] = evil
    record["data"]["name"] = evil
    record["students"][0]["student"] = evil
    record["seconds"][evil] = 1.0
    (tmp_path / "record.json").write_text(json.dumps(record))
    page = Page(build(tmp_path))
    assert not page.all("script")
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.text.count(evil) >= 8
    assert f"{evil}, rded, image 1" in [image["alt"] for image in page.all("img")]
    assert "$x_1$ {{ 7*7 }}" in page.text


def test_equal_inputs_give_equal_pages(full_page: str, tmp_path: Path) -> None:
    write_run(tmp_path / "elsewhere")
    assert build(tmp_path / "elsewhere") == full_page


def test_many_classes_are_cut_short(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(MAX_GALLERY + 3))
    write_run(tmp_path, names)
    page = Page(build(tmp_path))
    gallery = [image for image in page.all("img") if str(image["alt"]).startswith("class ")]
    assert len(gallery) == 2 * MAX_GALLERY
    assert f"The first {MAX_GALLERY} of {len(names)} classes." in page.text
    assert len(page.all("img")) == len(gallery) + 2  # the two matrices as pictures


def test_large_images_shrink_smoothly(tmp_path: Path) -> None:
    contents = write_run(tmp_path)
    contents["gallery"]["classes"] = [
        {"name": "big", "strips": [{"images": "rded", "png": [png(224), png(28)]}]}
    ]
    (tmp_path / "report" / "gallery.json").write_text(json.dumps(contents["gallery"]))
    images = Page(build(tmp_path)).all("img")
    assert [(image["style"], image.get("class")) for image in images] == [
        ("--side: 112px", None),
        ("--side: 56px", "pixels"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "gallery",
            {"classes": [{"name": "a", "strips": [{"images": "b", "png": ["AAAA"]}]}]},
            r"classes\[0\]\.strips\[0\]\.png is wrong .*image 0 is no base64",
        ),
        (
            "gallery",
            {"classes": [{"name": "a", "strips": [{"images": "b", "png": ['"><b>']}]}]},
            r"classes\[0\]\.strips\[0\]\.png is wrong",
        ),
        (
            "mean_labels",
            {"class_names": ["a", "b"], "matrix": [[1, 0]]},
            r"\(top level\) is wrong .*not 2 x 2",
        ),
        ("confusion", {"class_names": ["a"], "matrix": [[-1]]}, r"matrix\[0\]\[0\] is wrong"),
        (
            "curves",
            {"rows": [{"scheme": "a", "images": "b", "steps": [1], "mean": []}]},
            r"rows\[0\] is wrong .*1 steps",
        ),
        ("curves", [], r"\(top level\) is wrong"),
    ],
)
def test_damaged_report_files_are_named(name: str, content: Any, message: str, tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "report" / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=rf"{name}\.json: field {message}.*: delete the file"):
        build_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_without_a_record_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"record\.json is missing"):
        build_report(tmp_path)


def test_reporting_loads_neither_torch_nor_pyplot() -> None:
    code = "import sys, flashdd.report.build; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
