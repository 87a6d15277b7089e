"""The capacities that a search climbs: chains of networks of the labeler's family within budget and MAC ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flashdd.core.config import RunConfig
from flashdd.core.errors import ConfigError, UnknownNameError, UsageError, unknown_name
from flashdd.core.plugins import call_plugin, is_plugin, registered
from flashdd.labels.flash.candidates import Rung
from flashdd.labels.flash.capacity import Variants
from flashdd.labels.flash.pack import packed_bytes
from flashdd.models.count import Size
from flashdd.models.family import (
    FAMILY_NAMES,
    LARGEST_GRID,
    OPTIONS,
    STEMS,
    LabelerSpec,
    family_widths,
    ladder,
    parse_family,
    shrink_factor,
    spec_size,
    why_not,
)

_CLAIMED_SPEED = 843.81
_CLAIMED_SHARE = 0.0003
Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Room:
    """Where rungs have to fit. shape: (C, H, W) of the data; max_bytes: of the file; max_macs: per image."""

    shape: Shape
    classes: int
    max_bytes: int
    max_macs: int

    def rung(self, spec: LabelerSpec, bits: int = 8, num_members: int = 1) -> Rung:
        size = spec_size(spec, self.shape, self.classes)
        return Rung(
            name=spec.name,
            params=size.params * num_members,
            bytes=packed_bytes(spec, self.shape, self.classes, bits=bits, num_members=num_members),
            macs=size.macs * num_members,
            bits=bits,
            num_members=num_members,
        )

    def holds(self, rung: Rung) -> bool:
        return rung.bytes <= self.max_bytes and rung.macs <= self.max_macs

    def widest(self, spec: LabelerSpec, bits: int = 8, least: int = 1) -> LabelerSpec | None:
        """The widest network of `spec`'s shape, at least `least` wide, that fits; None if none does."""

        def fits(width: int) -> bool:
            return self.holds(self.rung(replace(spec, width=width), bits))

        if not fits(least):
            return None
        low, high = least, 2 * least
        while high < 4096 and fits(high):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return replace(spec, width=low)


def default_max_macs(yardstick: Size, budget: int) -> int:
    """reference MACs / 843.81, times the budget's multiple of 0.03 % of the reference where it is more than that."""
    multiple = max(1.0, budget / (_CLAIMED_SHARE * yardstick.bytes))
    return int(yardstick.macs / _CLAIMED_SPEED * multiple)


def labeler_families(
    config: RunConfig, yardstick: Size, room: Room
) -> tuple[tuple[tuple[Rung, ...], ...], ...]:
    """Per family and depth, the ladder's widths that fit, and above them the widest that does."""
    bits, families = config.labeler.bits[0], []
    for name in config.labeler.stems:
        if parse_family(name) is None:
            if not is_plugin("labeler family", name):
                raise _unknown_stem(name)
            families.append(_own_family(name, room, bits))
            continue
        _check_pooling(name, room)
        specs = ladder(room.shape, room.classes, [name])
        if not specs:
            raise ConfigError(_no_network(name, room))
        depths = sorted({spec.depth for spec in specs}, reverse=True)
        chains = [_chain([spec for spec in specs if spec.depth == depth], room, bits) for depth in depths]
        families.append(tuple(chain for chain in chains if chain))
    if not any(families):
        raise ConfigError(_too_small(config, yardstick, room))
    return tuple(family for family in families if family)


def variants_of(config: RunConfig, room: Room) -> Variants:
    """What the rungs of a run may become: of the next smaller number of bits in `labeler.bits`, and ensembles.

    With fewer bits comes, beside the same network, the widest of its shape in no more bytes than it had.
    """

    def fewer_bits(rung: Rung) -> list[Rung]:
        below = [bits for bits in config.labeler.bits if bits < rung.bits]
        if not below:
            return []
        spec = LabelerSpec.parse(rung.name)
        specs = [spec]
        if spec.stem in STEMS:
            wider = replace(room, max_bytes=rung.bytes).widest(spec, max(below), least=spec.width)
            if wider is not None and wider != spec:
                specs.append(wider)
        return [room.rung(each, max(below)) for each in specs]

    def with_members(rung: Rung, count: int) -> Rung | None:
        more = room.rung(LabelerSpec.parse(rung.name), rung.bits, count)
        return more if count <= config.labeler.max_members and room.holds(more) else None

    return Variants(
        fewer_bits=fewer_bits, with_members=with_members, max_bytes=room.max_bytes, max_macs=room.max_macs
    )


def _own_family(name: str, room: Room, bits: int) -> tuple[tuple[Rung, ...], ...]:
    """The chains of a user's family, by bytes, of the networks that fit; UsageError where none does."""
    given = call_plugin("labeler family", name, num_classes=room.classes, shape=room.shape)
    named = isinstance(given, list | tuple) and all(
        isinstance(chain, list | tuple) and all(isinstance(spec, str) for spec in chain) for chain in given
    )
    if not named:
        raise UsageError(
            f"labeler family '{name}' returned {str(given)[:80]}: expected a list of chains, each a list of names "
            "such as 'strided-2-w8' or 'chain-16k5s2-24k3m'."
        )
    try:
        chains = [[room.rung(LabelerSpec.parse(spec), bits) for spec in chain] for chain in given]
    except UsageError as error:
        raise UsageError(f"labeler family '{name}': {error}") from error
    fitting = [[rung for rung in chain if room.holds(rung)] for chain in chains]
    if not any(chains):
        raise UsageError(f"labeler family '{name}' returned no network: expected a list of chains of names.")
    if not any(fitting):
        smallest = min(rung.bytes for chain in chains for rung in chain)
        raise ConfigError(
            f"labeler family '{name}' has no network within {room.max_bytes} bytes and {room.max_macs} MACs: its "
            f"smallest has {smallest} bytes."
        )
    return tuple(tuple(sorted(chain, key=lambda rung: rung.bytes)) for chain in fitting if chain)


def _chain(specs: Sequence[LabelerSpec], room: Room, bits: int) -> tuple[Rung, ...]:
    top = room.widest(specs[0], bits, least=min(spec.width for spec in specs))
    if top is None:
        return ()
    kept = [spec for spec in specs if spec.width < 0.9 * top.width] + [top]
    return tuple(room.rung(spec, bits) for spec in sorted(kept, key=lambda spec: spec.width))


def _unknown_stem(name: str) -> UnknownNameError:
    """Of a misspelled option the stem is right, and the nearest known name no help."""
    stem = name.strip().partition("-")[0]
    if stem in STEMS and name != stem:
        return UnknownNameError(
            f"unknown labeler.stems entry {name!r}: behind '{stem}' may stand {OPTIONS}, in this order, such "
            f"as '{stem}-gap-r8', each once; depth and width are the ladder's, {LARGEST_GRID} pixels go without saying."
        )
    return unknown_name("labeler.stems entry", name, (*FAMILY_NAMES, *registered("labeler family")))


def _check_pooling(name: str, room: Room) -> None:
    one = parse_family(name)
    assert one is not None, "the caller knows that it is a family's name"
    if one.pixels != LARGEST_GRID and shrink_factor(room.shape, one.pixels) == shrink_factor(room.shape):
        raise ConfigError(
            f"labeler.stems: {name} reads images of {room.shape[1]} x {room.shape[2]} pixels as it would without "
            f"-p{one.pixels}: leave that out, or take fewer pixels."
        )


def _no_network(name: str, room: Room) -> str:
    others = sorted({spec.family for spec in ladder(room.shape, room.classes)})
    remedy = f"take some of {', '.join(others)}" if others else "take larger images"
    largest = family_widths(name, room.shape, room.classes)[-1]
    return (
        f"labeler.stems: there is no {name} network for images of {room.shape[1]} x {room.shape[2]} pixels; {remedy}: "
        f"{why_not(largest, room.shape, room.classes)}"
    )


def _too_small(config: RunConfig, yardstick: Size, room: Room) -> str:
    """The sentence for a budget that holds no rung: the smallest budget, or else MAC ceiling, that holds one."""
    bits = config.labeler.bits[0]
    rungs = [room.rung(spec, bits) for spec in ladder(room.shape, room.classes, config.labeler.stems)]
    if config.labeler.max_macs is None:
        # a larger budget raises the default ceiling with it
        per_byte = yardstick.macs / _CLAIMED_SPEED / (_CLAIMED_SHARE * yardstick.bytes)
        floor = default_max_macs(yardstick, 0)
        needed = [
            rung.bytes if rung.macs <= floor else max(rung.bytes, _up(rung.macs / per_byte)) for rung in rungs
        ]
        smallest = min(needed)
    else:
        within = [rung.bytes for rung in rungs if rung.macs <= room.max_macs]
        if not within:
            fewest = min(rung.macs for rung in rungs)
            return f"labeler.max_macs = {room.max_macs} allows no labeler: the smallest that works here is {fewest}."
        smallest = min(within)
    return (
        f"the label budget of {room.max_bytes} bytes holds no labeler: the smallest that works here is {smallest} "
        "bytes."
    )


def _up(value: float) -> int:
    return int(value) + 1
