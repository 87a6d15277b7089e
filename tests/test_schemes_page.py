"""docs/schemes.md: it names what the parsers know, and every scheme that it spells parses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flashdd.labels import catalog
from flashdd.pipeline import committees, networks
from flashdd.pipeline.realrows import REAL
from flashdd.pipeline.schemes import _ROWS, SHIP
from flashdd.pipeline.storedrows import EQUAL_BYTES

PAGE = (Path(__file__).parents[1] / "docs" / "schemes.md").read_text(encoding="utf-8")
SPELLED = sorted(set(re.findall(r"`([a-z][\w+-]*@[\w@.+-]+)`", PAGE)))


def test_every_scheme_and_dial_has_its_place() -> None:
    named = [*_ROWS, *catalog.SCHEMES, EQUAL_BYTES, *REAL, SHIP, committees.COMMITTEE_FORM]
    assert [name for name in named if f"`{name}`" not in PAGE] == []
    table = PAGE.split("## Networks")[1].split("## Committees")[0]
    dials = set(re.findall(r"^\| `(?:\w+-)?([a-z])[\d.]+` ", table, flags=re.MULTILINE))
    assert dials == set(re.findall(r"[a-z]", networks._DIAL.pattern.split("]")[0]))


@pytest.mark.parametrize("scheme", SPELLED)
def test_what_it_spells_parses(scheme: str) -> None:
    base = scheme.removesuffix("-by-labeler").replace("@by-labeler", "")
    if base in (*_ROWS, EQUAL_BYTES):
        return
    kind = base.partition("@")[0]
    if kind in catalog.SCHEMES:
        assert catalog.parse_scheme(base).kind == kind
    elif kind == committees.COMMITTEE:
        assert len(committees.parse_committee(base).members) >= 2
    else:
        assert networks.parse_network(base).names


def test_it_spells_some_of_every_kind() -> None:
    kinds = {scheme.partition("@")[0] for scheme in SPELLED}
    assert kinds >= {"stored", "lpld", "lpqld", "hald", "lowrank", "vq", "committee", "teacher"}
