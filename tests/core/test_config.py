"""Recipes, flags and budgets: one validator, every mistake a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashdd.core.budget import parse_budget
from flashdd.core.config import RunConfig
from flashdd.core.errors import ConfigError, unknown_name
from flashdd.core.recipe import build_config, known_keys, parse_setting, read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    assert build_config(read_recipe(path)).title


def test_settings_override_the_recipe_and_later_ones_win() -> None:
    config = build_config({"images": {"ipc": 5}}, [("images.ipc", 7), ("images.ipc", 8)])
    assert config.images.ipc == 8
    assert config.images.method == RunConfig().images.method


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"images": {"ipcc": 1}}, r"unknown key 'images.ipcc': did you mean 'images.ipc'\?"),
        ({"epochs": 3}, r"unknown key 'epochs': did you mean 'teacher.epochs' or 'regret.epochs'\?"),
        ({"imges": {}}, r"unknown key 'imges': did you mean 'images'\?"),
        ({"images": {"ipc": 0}}, r"images.ipc: got 0; input should be greater than or equal to 1\."),
        ({"search": {"lengths": [1.0, 0.5]}}, r"search.lengths: got \[1.0, 0.5\]; needs ascending"),
        (
            {"search": {"lengths": [0.5]}},
            r"search.lengths: got \[0.5\]; needs ascending factors, .* 1.0 among them",
        ),
        (
            {"search": {"teacher_shifts": [0.6]}},
            r"search.teacher_shifts.0: got 0.6; input should be less than",
        ),
        ({"labeler": {"bits": [4, 8]}}, r"labeler.bits: got \[4, 8\]; needs descending"),
        ({"labeler": {"bits": 4}}, r"labeler.bits: got 4; expected a list, such as labeler.bits=\[4\]\."),
        (
            {"data": {"classes": "cat, dog"}},
            r"data.classes: got 'cat, dog'; expected a list, such as data.classes=\[\"cat\", \"dog\"\]\.",
        ),
        (
            {"labeler": {"tutor": "none", "tutors": 3}},
            r"labeler.tutors: got 3; needs labeler.tutor = \"searched\" beside it",
        ),
        ({"labeler": {"tutors": 17}}, r"labeler.tutors: got 17; input should be less than or equal to 16"),
        (
            {"search": {"temperatures": [1, 4, 4, 20]}},
            r"search.temperatures: got .*; needs entries that differ",
        ),
        ({"search": {"logit_scales": [1, 1.0]}}, r"search.logit_scales: got .*; needs entries that differ"),
        ({"labeler": {"stems": ["conv", "conv"]}}, r"labeler.stems: got .*; needs entries that differ"),
        ({"search": {"temperatures": [0]}}, r"search.temperatures: got \[0\]; needs at least one number"),
    ],
)
def test_mistakes_name_the_key_and_the_value(tree: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config(tree)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config({"images": {"ipc": 0}, "seed": -1})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("teacher.epochs=20", ("teacher.epochs", 20)),
        ("student.name=resnet18", ("student.name", "resnet18")),
        ("search.temperatures=[1, 2.5]", ("search.temperatures", [1, 2.5])),
        ("views.flip=false", ("views.flip", False)),
    ],
)
def test_set_reads_toml_values_and_plain_text(text: str, expected: tuple[str, object]) -> None:
    assert parse_setting(text) == expected


def test_set_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set 20: expected KEY=VALUE"):
        parse_setting("20")


def test_a_section_cannot_be_set_through_a_value() -> None:
    with pytest.raises(ConfigError, match="'seed' is not a section"):
        build_config({}, [("seed", 1), ("seed.x", 1)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("13408", 13408),
        ("16KB", 16_000),
        ("1.2MB", 1_200_000),
        ("0.03%", 13_408),
        ("1.8 %", 804_525),
        ("7b", 7),
    ],
)
def test_budgets(text: str, expected: int) -> None:
    assert parse_budget(text, 44_695_848) == expected


@pytest.mark.parametrize("text", ["", "KB", "-3", "3GBs", "0", "0.00000001%"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"labeler\.budget"):
        parse_budget(text, 44_695_848)


def test_a_share_without_its_sign_is_guessed() -> None:
    with pytest.raises(ConfigError, match=r"less than one byte; give more, or 0\.03% if a share"):
        parse_budget("0.03", 44_695_848)
    with pytest.raises(ConfigError, match=r"less than one byte; give more\.$"):
        parse_budget("0", 44_695_848)


def test_a_missing_recipe_and_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_recipe(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("a = [")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_recipe(broken)
    with pytest.raises(ConfigError, match="is a folder"):
        read_recipe(tmp_path)


def test_known_keys_are_dotted_leaves() -> None:
    keys = known_keys()
    assert {"images.ipc", "labeler.max_macs", "seed"} <= set(keys)
    assert "images" not in keys


def test_the_nearest_name_is_offered() -> None:
    assert str(unknown_name("student", "resnet81", ["resnet18", "vgg11"])).startswith(
        "unknown student 'resnet81': did you mean 'resnet18'?"
    )


def test_the_defaults_are_what_a_recipe_may_say() -> None:
    """Defaults are not validated where they stand; a record's configuration is, when a comparison takes it."""
    config = RunConfig()
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
