"""Made-up rungs and scores for the tests of the search."""

from __future__ import annotations

from dataclasses import replace

from flashdd.labels.flash.candidates import Candidate, Measured, Rung, Setting
from flashdd.labels.flash.capacity import SearchBudget, Variants

DEFAULT = Setting(length=1.0, shift=0.0, temperature=4.0, logit_scale=1.0)
OFFSET = replace(DEFAULT, offsets=(1.0, -1.0))
BUDGET = SearchBudget(seeds=2, finalists=2, finalist_seeds=5, settling_seeds=5, patience=2)


def made_rung(name: str, size: int) -> Rung:
    return Rung(name=name, params=size, bytes=size, macs=size)


def made_chain(name: str, *sizes: int) -> list[Rung]:
    return [made_rung(f"{name}{size}", size) for size in sizes]


def swing(seed: int) -> float:
    """1 and -1 in turn: noise of mean 0 over an even number of seeds."""
    return 1.0 if seed % 2 == 0 else -1.0


class Scores:
    """value[rung], plus a bonus by setting, plus noise by seed that is shared by all candidates."""

    def __init__(self, values: dict[str, float], bonus: dict[Setting, float] | None = None) -> None:
        self.values, self.bonus = values, bonus or {}
        self.calls: list[tuple[str, Setting, int]] = []

    def __call__(self, candidate: Candidate, seed: int) -> float:
        self.calls.append((candidate.rung.name, candidate.setting, seed))
        noise = [0.0, 0.02, -0.01, 0.03, -0.02][seed]
        return self.values[candidate.rung.name] + self.bonus.get(candidate.setting, 0.0) + noise


def made_measured(name: str, size: int, *values: float, setting: Setting = DEFAULT) -> Measured:
    return Measured(candidate=Candidate(rung=made_rung(name, size), setting=setting), values=values)


def made_variants(max_bytes: int = 100, bits: tuple[int, ...] = (8, 4, 2), wider: int = 0) -> Variants:
    """A rung of `size` has size * bits / 8 bytes; with `wider`, fewer bits also offer a rung of that size."""

    def sized(rung: Rung, size: int, bits: int, count: int = 1) -> Rung:
        name = rung.name if size == rung.params else f"wide{size}"
        used = size * bits * count // 8
        return Rung(
            name=name, params=size * count, bytes=used, macs=size * count, bits=bits, num_members=count
        )

    def fewer_bits(rung: Rung) -> list[Rung]:
        below = [number for number in bits if number < rung.bits]
        sizes = [rung.params, wider] if wider > rung.params else [rung.params]
        return [sized(rung, size, max(below)) for size in sizes] if below else []

    def with_members(rung: Rung, count: int) -> Rung | None:
        more = sized(rung, rung.params, rung.bits, count)
        return more if more.bytes <= max_bytes else None

    return Variants(fewer_bits=fewer_bits, with_members=with_members, max_bytes=max_bytes, max_macs=10**9)
