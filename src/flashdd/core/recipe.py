"""From a recipe (TOML), flags and `--set` to a validated configuration."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from flashdd.core.config import RunConfig
from flashdd.core.errors import ConfigError


def read_recipe(path: Path) -> dict[str, Any]:
    """The tables of a TOML recipe. ConfigError if it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"recipe {path} does not exist: give the path of a .toml file.") from error
    except IsADirectoryError as error:
        raise ConfigError(
            f"recipe {path} is a folder: give the path of a .toml file; data goes to --data."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} is not valid TOML ({error}): correct it and run again.") from error


def parse_setting(text: str) -> tuple[str, Any]:
    """`a.b=v` -> ("a.b", v); v is read as a TOML value, and as plain text where it is none."""
    key, separator, value = text.partition("=")
    if not separator or not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", key.strip()):
        raise ConfigError(f"--set {text}: expected KEY=VALUE such as teacher.epochs=20.")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def build_config(
    recipe: Mapping[str, Any], settings: Iterable[tuple[str, Any]] = (), *, origin: str = ""
) -> RunConfig:
    """Merge `settings` (dotted key, value) over `recipe` and validate both at once.

    Raises ConfigError with one line per mistake: the key, what it got, what is expected.
    """
    tree: dict[str, Any] = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in recipe.items()
    }
    for key, value in settings:
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(f"{key}: '{parent}' is not a section.")
            node = child
        node[leaf] = value
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(dict(detail)) for detail in error.errors()]
        raise ConfigError("\n".join(f"{origin}{line}" for line in lines)) from error


def known_keys(model: type[BaseModel] = RunConfig, prefix: str = "") -> list[str]:
    """Every dotted key of a recipe."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not get_args(annotation):
            keys += known_keys(annotation, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _explain(detail: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        leaf = key.rpartition(".")[2]
        named = [known for known in known_keys() if known.rpartition(".")[2] == leaf]
        near = named or difflib.get_close_matches(key, [*RunConfig.model_fields, *known_keys()], n=1)
        hint = (
            f": did you mean {' or '.join(map(repr, near))}?"
            if near
            else f": the sections are {', '.join(RunConfig.model_fields)}."
        )
        return f"unknown key '{key}'{hint}"
    if detail["type"] == "tuple_type":
        given = detail["input"]
        entries = [part.strip() for part in given.split(",")] if isinstance(given, str) else [given]
        return f"{key}: got {given!r}; expected a list, such as {key}={json.dumps(entries)}."
    message = detail["msg"].removeprefix("Value error, ")
    return f"{key}: got {detail['input']!r}; {message[0].lower()}{message[1:]}."
