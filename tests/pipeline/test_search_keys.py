"""What a finished search is thrown away for: its stage's key names all that its proxies saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tiny import tiny_config

from flashdd.core.record import Record
from flashdd.core.stages import Store
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.pipeline import search as search_module
from flashdd.pipeline.context import Context
from flashdd.pipeline.members import TutorDesign
from flashdd.pipeline.search import capacity_search, teacher_search, tutor_trial
from flashdd.pipeline.setup import resolve
from flashdd.pipeline.start import started

_IMAGES = cast(ImageSet, SimpleNamespace(content_hash="images"))
_TUTOR = cast(TutorDesign, SimpleNamespace(networks=lambda context, data: []))
Opened = tuple[Context, RealDataset]


class _AskedError(Exception):
    pass


@pytest.fixture
def opened(finished: tuple[Path, Record], tmp_path: Path) -> Iterator[Opened]:
    with started(tiny_config(), tmp_path / "out", cache=finished[0].parent / "cache", progress=None) as pair:
        yield pair


def _capacity(context: Context, data: RealDataset) -> object:
    return capacity_search(context, data, _IMAGES, _TUTOR)


def _trial(context: Context, data: RealDataset) -> object:
    return tutor_trial(context, data, _IMAGES, _TUTOR)


def _teacher(context: Context, data: RealDataset) -> object:
    network = SimpleNamespace(
        name="convnet-2-w8", path=lambda: Path(__file__), stage=SimpleNamespace(hash="network")
    )
    return teacher_search(context, data, _IMAGES, cast(Any, lambda course: network))


def _with(opened: Opened, dial: dict[str, Any]) -> Opened:
    context, data = opened
    return replace(context, setup=resolve(tiny_config(**dial), context.setup.facts)), data


def _key(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, search: Callable[[Context, RealDataset], object]
) -> tuple[Any, ...]:
    def make(store: Store, name: str, *, revision: int, config: Any, inputs: Any, build: Any) -> None:
        raise _AskedError(name, revision, config, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "make", make)
        with pytest.raises(_AskedError) as asked:
            search(*opened)
    return asked.value.args


@pytest.mark.parametrize("search", [_capacity, _trial, _teacher])
@pytest.mark.parametrize("revision", ["NETWORK_REVISION", "MEMBERS_REVISION", "TABLE_REVISION"])
def test_whatever_proxies_learn_from_has_its_revision_in_the_key(
    revision: str,
    search: Callable[[Context, RealDataset], object],
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = _key(opened, monkeypatch, search)
    assert before == _key(opened, monkeypatch, search)
    monkeypatch.setattr(search_module, revision, 999)
    assert before != _key(opened, monkeypatch, search)


@pytest.mark.parametrize("search", [_capacity, _trial, _teacher])
@pytest.mark.parametrize(
    "dial",
    [
        {"precision": "bf16-mixed"},
        {"seed": 1},
        {"views__augmentation_seed": 1},
        {"protocol__image_passes": 120},
        {"search__student": "convnet-2-w8"},
        {"search__seeds": 3},
        {"search__finalists": 3},
        {"search__class_offsets": False},
        {"search__temperatures": [4.0]},
    ],
)
def test_what_proxies_see_and_how_they_are_compared_is_in_the_key(
    dial: dict[str, Any],
    search: Callable[[Context, RealDataset], object],
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _key(_with(opened, dial), monkeypatch, search) != _key(opened, monkeypatch, search)


@pytest.mark.parametrize(
    "dial", [{"labeler__budget": "3000"}, {"labeler__max_macs": 10_000}, {"labeler__max_members": 2}]
)
def test_only_labelers_have_ceilings(
    dial: dict[str, Any], opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = _with(opened, dial)
    assert _key(other, monkeypatch, _capacity) != _key(opened, monkeypatch, _capacity)
    assert _key(other, monkeypatch, _teacher) == _key(opened, monkeypatch, _teacher)


@pytest.mark.parametrize(
    ("revision", "thrown_away"),
    [
        ("_TEACHER_REVISION", {_teacher}),
        ("_CAPACITY_REVISION", {_capacity}),
        ("_TRIAL_REVISION", {_trial}),
        ("TUTOR_REVISION", {_capacity, _trial}),
    ],
)
def test_what_only_some_searches_do_leaves_the_others(
    revision: str,
    thrown_away: set[Callable[[Context, RealDataset], object]],
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {search: _key(opened, monkeypatch, search) for search in (_capacity, _trial, _teacher)}
    monkeypatch.setattr(search_module, revision, 999)
    changed = {search for search in before if _key(opened, monkeypatch, search) != before[search]}
    assert changed == thrown_away


def test_a_trial_climbs_the_widest_of_every_family(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    two = _with(opened, {"labeler__stems": ["strided", "strided-gap"]})
    names = [rung.name for rung in two[0].setup.tried_rungs]
    assert len(names) == 2
    assert _key(two, monkeypatch, _trial)[2]["families"] == [[names]]
    assert {family[0][-1].name for family in two[0].setup.families} == set(names)
