"""Label schemes that are a network's name: trained on the real data as a labeler's members are, labels made online.

`NAME` or `NAME@DIALS`, dials joined by dashes: `e8` epochs of training, with a schedule of their own; `s12.5` percent
of its side by which a real image moves at most in training, `s0` for not at all; `t4` the labels' temperature; `h2.1`
the temperature at which their mean entropy is 2.1 nats; `x2` a factor on the logits; `o5` class offsets that five proxy
students ask for, where they gain. So `convnet-3-w64@e1-h2.1` is a weak large network whose labels are as soft as
somebody else's. `d2`: it does not learn the classes but imitates, on the real images, the run's teacher trained for 2
epochs, and with `k3` the mean of three such teachers, trained on images that move as its own. Without `d` it learns the
classes, and without `k` it imitates one teacher, whatever `labeler.tutor` and `labeler.tutors` say: these are the run's
own labeler's.

With `b4`, bits of the weights, it is a labeler, packed as it would be shipped; `m4`, four networks that start from
other weights, and `c3`, the snapshots of three cycles of one training, make it an ensemble, as several names do:
`conv-3-w8+strided-3-w8@b8`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flashdd.core.config import MOST_SHIFT, MOST_TUTORS
from flashdd.core.errors import UnknownNameError, UsageError
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.entropy import mean_entropy, temperature_of
from flashdd.labels.flash.capacity import default_setting
from flashdd.labels.flash.labeler import MAX_MEMBERS
from flashdd.labels.flash.pack import labeler_bytes
from flashdd.labels.flash.quantize import BITS
from flashdd.labels.network import NetworkSource
from flashdd.models.family import shrink_factor
from flashdd.models.table import size_of_name
from flashdd.pipeline.context import Context
from flashdd.pipeline.labels import labels_stage
from flashdd.pipeline.members import Design, Made, TutorDesign, labeler_stage, member_spec
from flashdd.pipeline.offsets import Unfitted, fitted_offsets
from flashdd.pipeline.real import Network, network_stage
from flashdd.pipeline.rows import Opened, Row
from flashdd.pipeline.setup import Setup

_DIALS = (
    "epochs (e8), shift in percent of a side (s12.5), epochs of the teacher that is imitated (d2), number of such "
    "teachers (k3), temperature (t4), "
    "entropy in nats (h2.1), logit scale (x2), proxy students that class offsets are fitted to (o5), and of labelers "
    "bits (b4), members (m4), snapshots (c3)"
)
_DIAL = re.compile(r"([esdkthxobmc])(\d+(?:\.\d+)?)")
_WHOLE = "edkobmc"
_MOST_PROXIES = 100


@dataclass(frozen=True, kw_only=True)
class NetworkScheme:
    """epochs, shift, temperature: None where the run's own are meant; at most one of temperature and entropy is given.

    shift: a share of the image's side. tutor: epochs of the teacher that is imitated, None without one; tutors: so
    many of them. proxies: to which class offsets are fitted, None without any. bits: of a packed labeler; None for one
    network as it was trained.
    """

    names: tuple[str, ...]
    epochs: int | None = None
    shift: float | None = None
    tutor: int | None = None
    tutors: int = 1
    temperature: float | None = None
    entropy: float | None = None
    logit_scale: float = 1.0
    proxies: int | None = None
    bits: int | None = None
    copies: int = 1
    cycles: int = 1


def read_dials(
    scheme: str, text: str, pattern: re.Pattern[str], words: str, *, may_be_zero: str = ""
) -> dict[str, float]:
    """The dials of `text`, joined by dashes, by letter; UsageError, with `words` for what there is, where one is wrong.

    pattern: a letter and its number, as two groups. may_be_zero: letters whose number may.
    """
    found: dict[str, float] = {}
    for dial in text.split("-"):
        match = pattern.fullmatch(dial)
        if match is None:
            raise UsageError(f"label scheme '{scheme}': got '{dial}', which is no dial: there are {words}.")
        if match[1] in found or not (float(match[2]) > 0 or match[1] in may_be_zero):
            also = f" ({may_be_zero} also 0)" if may_be_zero else ""
            raise UsageError(
                f"label scheme '{scheme}': got '{dial}', expected each at most once and above 0{also}: {words}."
            )
        found[match[1]] = float(match[2])
    return found


def parse_network(scheme: str) -> NetworkScheme:
    """The scheme spelled `scheme`; UsageError for unknown or repeated dials. The name is not looked up."""
    name, at, variant = scheme.partition("@")
    found = read_dials(scheme, variant, _DIAL, _DIALS, may_be_zero="s") if at else {}
    if {"t", "h"} <= found.keys() or any(found.get(dial, 1) != int(found.get(dial, 1)) for dial in _WHOLE):
        raise UsageError(
            f"label scheme '{scheme}': whole epochs, teachers, proxies, bits, members and snapshots, and a temperature "
            f"or an entropy, not both: {_DIALS}."
        )
    if found.get("s", 0) > 100 * MOST_SHIFT:
        raise UsageError(
            f"label scheme '{scheme}': images move by {100 * MOST_SHIFT:g} % of their side at most; got "
            f"s{found['s']:g}."
        )
    names = tuple(name.split("+"))
    if "b" not in found and (len(names) > 1 or {"m", "c"} & found.keys()):
        raise UsageError(
            f"label scheme '{scheme}': an ensemble is a labeler and says the bits of its weights, such as b8; of "
            "networks as they were trained make a committee."
        )
    if "k" in found and not ("d" in found and found["k"] <= MOST_TUTORS):
        raise UsageError(
            f"label scheme '{scheme}': k counts the teachers that are imitated, {MOST_TUTORS} at most; their epochs "
            "stand beside it, such as d2-k3."
        )
    if not 2 <= found.get("o", 2) <= _MOST_PROXIES:
        raise UsageError(
            f"label scheme '{scheme}': class offsets are fitted to 2 to {_MOST_PROXIES} proxy students, such as o5."
        )
    epochs, bits = found.get("e"), found.get("b")
    return NetworkScheme(
        names=names,
        epochs=None if epochs is None else int(epochs),
        shift=found["s"] / 100 if "s" in found else None,
        tutor=int(found["d"]) if "d" in found else None,
        tutors=int(found.get("k", 1)),
        temperature=found.get("t"),
        entropy=found.get("h"),
        logit_scale=found.get("x", 1.0),
        proxies=int(found["o"]) if "o" in found else None,
        bits=None if bits is None else int(bits),
        copies=int(found.get("m", 1)),
        cycles=int(found.get("c", 1)),
    )


def check_network(scheme: str, setup: Setup) -> None:
    """Raise what is wrong with the scheme on these data under this protocol: UsageError, UnknownNameError."""
    for name in scheme.partition("@")[0].split("+"):  # before the dials, which another scheme has otherwise
        size_of_name(name, num_classes=setup.facts.num_classes, shape=setup.facts.shape)
    wanted = parse_network(scheme)
    if wanted.bits is not None:
        _check_labeler(scheme, wanted, setup)
    setup.member_with(epochs=wanted.epochs, cycles=wanted.cycles).ends(setup.facts.num_train)
    check_softness(scheme, setup, temperature=wanted.temperature, entropy=wanted.entropy)


def _check_labeler(scheme: str, wanted: NetworkScheme, setup: Setup) -> None:
    """UsageError for a labeler that cannot be packed."""
    if wanted.bits not in BITS:
        raise UsageError(f"label scheme '{scheme}': {wanted.bits} bits; expected one of {BITS}.")
    if len(set(wanted.names)) < len(wanted.names):
        raise UsageError(
            f"label scheme '{scheme}' names a network twice: for two of a kind write m2 behind the @."
        )
    count = len(wanted.names) * wanted.copies * wanted.cycles
    if count > MAX_MEMBERS:
        raise UsageError(f"label scheme '{scheme}': {count} members; a labeler has {MAX_MEMBERS} at most.")
    for name in wanted.names:
        try:
            spec = member_spec(name)
        except UnknownNameError:
            raise UsageError(
                f"label scheme '{scheme}': no labeler can be made of {name}: leave out the bits, or take a network of "
                "the labeler's family such as conv-3-w8 or strided-3-w16."
            ) from None
        if name != spec.name and shrink_factor(setup.facts.shape) > 1:
            raise UsageError(
                f"label scheme '{scheme}': above 64 pixels {name} reads the whole image and a labeler a smaller one: "
                f"take {spec.name}."
            )


def check_softness(scheme: str, setup: Setup, *, temperature: float | None, entropy: float | None) -> None:
    """UsageError for an entropy that no label has, and for either where the protocol fixes the temperature."""
    most = math.log(setup.facts.num_classes)
    if entropy is not None and not entropy < most:
        raise UsageError(
            f"label scheme '{scheme}': labels of {setup.facts.num_classes} classes have less than {most:.3f} nats."
        )
    if setup.protocol.temperature is not None and (temperature or entropy):
        raise UsageError(
            f"label scheme '{scheme}': protocol {setup.protocol.name} fixes the temperature at "
            f"{setup.protocol.temperature:g}: vary the logit scale (x2) instead."
        )


def softened(
    scheme: str, setup: Setup, logits: Tensor | None, *, temperature: float | None, entropy: float | None
) -> tuple[float, dict[str, float]]:
    """The temperature that a row asks for, or that gives its labels that entropy, or the search's first; and the
    entropy that they have, as a fact of the row.

    logits: of all its labels, None where they are too many for a table; UsageError where an entropy needs them.
    """
    if temperature is None:
        temperature = default_setting(setup.settings).temperature
    if logits is None:
        if entropy is not None:
            raise UsageError(
                f"label scheme '{scheme}': an entropy needs a table of all labels, too many here: give a temperature."
            )
        return temperature, {}
    if entropy is not None:
        temperature = temperature_of(logits, entropy)
    return temperature, {"entropy": mean_entropy(logits, temperature)}


def network_row(context: Context, data: RealDataset, images: ImageSet, method: str, scheme: str) -> Row:
    """The row of students whose labels that network gives; its facts say how good and how soft they are."""
    setup, wanted = context.setup, parse_network(scheme)
    network = _made(context, data, wanted)
    stage, labels = labels_stage(context, network, images)
    logits = None if labels.table is None else wanted.logit_scale * labels.table
    temperature, facts = softened(
        scheme, setup, logits, temperature=wanted.temperature, entropy=wanted.entropy
    )
    unfitted = Unfitted(
        name=f"{scheme}-{method}",
        labels=lambda: labels,
        temperature=temperature,
        logit_scale=wanted.logit_scale,
        inputs={"network": network.stage.hash, "labels": stage.hash},  # the latter is empty without a table
    )
    told = _fitted(context, data, images, unfitted, wanted.proxies)
    offsets = told["class_offsets"]["offsets"] if told else ()

    def open_row() -> Opened:
        source = labels.source(temperature=temperature, logit_scale=wanted.logit_scale, offsets=offsets)
        return images.images, images.labels, source

    def online() -> Opened:
        net = network.open().to(context.device)
        return images.images, images.labels, NetworkSource(net, num_classes=images.num_classes)

    return Row(
        scheme=scheme,
        images=method,
        label_bytes=_bytes(network, temperature, wanted.logit_scale, offsets),
        key={
            "images": images.content_hash,
            **unfitted.inputs,
            "setting": " ".join(map(repr, (temperature, wanted.logit_scale, *offsets))),
        },
        open=open_row,
        online=None if labels.table is None else online,
        network=lambda: {**_facts(network, setup), "temperature": temperature, **facts},
        facts=told,
    )


def _fitted(
    context: Context, data: RealDataset, images: ImageSet, unfitted: Unfitted, proxies: int | None
) -> dict[str, Any]:
    """The row's facts about class offsets that so many proxies ask for; none where none are asked."""
    if proxies is None:
        return {}
    return {"class_offsets": fitted_offsets(context, data, images, unfitted, proxies)}


def _made(context: Context, data: RealDataset, wanted: NetworkScheme) -> Network | Made:
    if wanted.bits is None:
        return trained_network(context, data, wanted)
    design = Design(
        names=wanted.names,
        epochs=wanted.epochs or context.setup.member_recipe.epochs,
        shift=wanted.shift,
        bits=wanted.bits,
        copies=wanted.copies,
        cycles=wanted.cycles,
        tutor=_tutor(context, wanted),
    )
    return labeler_stage(context, data, design)


def trained_network(context: Context, data: RealDataset, wanted: NetworkScheme) -> Network:
    """The network of a scheme, trained as a labeler's members are, with epochs and a shift of its own if it has any."""
    recipe = context.setup.member_with(epochs=wanted.epochs, shift=wanted.shift)
    design = _tutor(context, wanted)
    tutors = design.networks(context, data) if design else ()
    return network_stage(context, data, wanted.names[0], recipe, tutors=tutors)


def _tutor(context: Context, wanted: NetworkScheme) -> TutorDesign | None:
    """The teacher of the run, on images that move as the network's own do."""
    if wanted.tutor is None:
        return None
    shift = context.setup.member_with(shift=wanted.shift).shift
    return TutorDesign(epochs=wanted.tutor, shift=shift, copies=wanted.tutors)


def _bytes(network: Network | Made, temperature: float, logit_scale: float, offsets: Sequence[float]) -> int:
    """On disk: of the float32 file of a network and its offsets, of the packed one of a labeler, which holds them."""
    if isinstance(network, Network):
        return network.path().stat().st_size + 4 * len(offsets)
    return len(labeler_bytes(network.open(temperature, logit_scale, offsets)))


def _facts(network: Network | Made, setup: Setup) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "accuracy": network.accuracy("test"),
        "val_accuracy": network.accuracy("val"),
    }
    if isinstance(network, Network):
        size = size_of_name(network.name, num_classes=setup.facts.num_classes, shape=setup.facts.shape)
        return {"params": size.params, "macs": size.macs, **facts}
    return {**{key: network.stage.record[key] for key in ("params", "macs", "bits", "num_members")}, **facts}
