"""What a finished search is thrown away for: its stage's key names all that its proxies saw."""

from __future__ import annotations

from collections.abc import Iterator
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
from flashdd.pipeline.search import capacity_search
from flashdd.pipeline.start import started

_IMAGES = cast(ImageSet, SimpleNamespace(content_hash="images"))
_TUTOR = cast(TutorDesign, SimpleNamespace(networks=lambda context, data: []))


class _AskedError(Exception):
    pass


@pytest.fixture
def opened(finished: tuple[Path, Record], tmp_path: Path) -> Iterator[tuple[Context, RealDataset]]:
    with started(tiny_config(), tmp_path / "out", cache=finished[0].parent / "cache", progress=None) as pair:
        yield pair


def _key(opened: tuple[Context, RealDataset], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    def make(store: Store, name: str, *, revision: int, config: Any, inputs: Any, build: Any) -> None:
        raise _AskedError(name, revision, config, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "make", make)
        with pytest.raises(_AskedError) as asked:
            capacity_search(*opened, _IMAGES, _TUTOR)
    return asked.value.args


@pytest.mark.parametrize(
    "revision",
    ["NETWORK_REVISION", "MEMBERS_REVISION", "LABELS_REVISION", "TUTOR_REVISION", "_CAPACITY_REVISION"],
)
def test_whatever_proxies_learn_from_has_its_revision_in_the_key(
    revision: str, opened: tuple[Context, RealDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _key(opened, monkeypatch)
    assert before == _key(opened, monkeypatch)
    monkeypatch.setattr(search_module, revision, 999)
    assert before != _key(opened, monkeypatch)
