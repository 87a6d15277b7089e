"""The README: its tables are those of the records, its tree is the repository's, its commands exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_those_of_the_records() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "result_tables"), "--check"]
    done = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, f"run scripts/result_tables {done.stderr}"


def spreads(part: Any) -> Iterator[tuple[str, str]]:
    """Every mean and spread of a record, in percent as pages write them."""
    if isinstance(part, dict):
        for mean, spread in (("mean", "std"), ("proxy_mean", "proxy_stderr")):
            if isinstance(part.get(mean), float) and isinstance(part.get(spread), float):
                yield f"{100 * part[mean]:.1f}", f"{100 * part[spread]:.1f}"
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from spreads(inner)


@pytest.fixture(scope="module")
def recorded() -> set[tuple[str, str]]:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "results").glob("*/*.json")]
    return {pair for record in records for pair in spreads(record)}


@pytest.mark.parametrize("page", ["README.md", "docs/labeler.md", "docs/comparisons.md"])
def test_accuracies_in_sentences_are_those_of_the_records(page: str, recorded: set[tuple[str, str]]) -> None:
    text = re.sub(r"<!-- tables -->.*<!-- /tables -->", "", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)
    paragraphs = [" ".join(block.split()) for block in text.split("\n\n")]
    said = [
        pair
        for block in paragraphs
        if "no record" not in block and "since replaced" not in block
        for pair in re.findall(r"(?<![\d.+-])(\d\d\.\d) ± (\d+\.\d)", block)
    ]
    assert said
    assert [pair for pair in said if pair not in recorded] == []


def test_every_key_of_a_recipe_is_on_its_page() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "recipe_keys"), "--check"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0, "run scripts/recipe_keys"


def test_figures_that_the_docs_show_exist_and_every_one_is_shown() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    drawn = {f"figures/{path.name}" for path in (ROOT / "docs" / "figures").iterdir()}
    assert drawn == set(re.findall(r"\]\((figures/[^)]+)\)", pages))


def test_the_tree_exists_and_captions_are_short() -> None:
    tree = TEXT.split("<!-- tree -->")[1].split("<!-- /tree -->")[0].strip().strip("`").strip()
    for line in tree.splitlines():
        path, caption = re.split(r"\s{2,}", line, maxsplit=1)
        assert (ROOT / path).exists(), path
        assert len(caption.split()) < 10, caption


def test_it_lists_every_architecture() -> None:
    from flashdd.models.table import PUBLISHED

    assert [name for name in PUBLISHED if f"`{name}`" not in TEXT] == []


def test_recipes_and_commands_that_it_names_exist() -> None:
    for recipe in re.findall(r"recipes/[\w-]+\.toml", TEXT):
        assert (ROOT / recipe).exists(), recipe
    from flashdd.cli.main import app

    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    used = set(re.findall(r"^\s*flashdd (\w+)", TEXT, flags=re.MULTILINE))
    assert used == {"run", "distill", "compare", "label", "inspect", "verify", "train", "export"}
    assert used <= commands
