"""From a matplotlib figure to SVG that belongs inside a page: themed, described, the same on every run.

Colors are drawn as the light palette below and leave as CSS variables, so that the page decides on light or
dark. Text stays text. Nothing refers to the network.
"""

from __future__ import annotations

import contextlib
import html
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, FAINT, PAPER = "#1b2127", "#5a6570", "#d9dfe5", "#b9c4ce", "#fefefd"
ACCENT = "#0b6e5a"
SERIES = (ACCENT, "#b4531a", "#3a5fb0", "#8a3f8f", "#857014", "#5b6b7a")
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    FAINT: "faint",
    PAPER: "paper",
    **{color: f"series-{number}" for number, color in enumerate(SERIES)},
}
_STYLE: Any = {  # Any: the stubs of matplotlib 3.11 want literal keys, those before strings
    "svg.fonttype": "none",
    "svg.hashsalt": "flashdd",
    "text.parse_math": False,  # names come from users: a $ is a $
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
}


@contextlib.contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure of `width` x `height` inches, in the house style whatever the user's own settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc changes nothing; the context puts it back
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def legend_beside(axes: Axes) -> None:
    """To the right of the axes, where it hides nothing."""
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), labelcolor=INK, fontsize=9)


def to_svg(figure: Figure, *, key: str, title: str, description: str) -> str:
    """`figure` as an <svg> element with <title> and <desc>; call it within `canvas`.

    `key` (letters) starts every id, so that several figures can stand in one page.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # the browser draws the text, with a font that has the sign
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{key}-', body)
    body = re.sub(r"url\(#", f"url(#{key}-", body)
    body = re.sub(r'xlink:href="#', f'href="#{key}-', body)
    for color, name in _VARIABLES.items():
        body = body.replace(color, f"var(--{name})")
    width, height = (72 * inches for inches in figure.get_size_inches())
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="{key}-title {key}-desc" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{key}-title">{html.escape(title)}</title>'
        f'<desc id="{key}-desc">{html.escape(description)}</desc>{body.strip()}'
    )


def standalone(element: str) -> str:
    """What `to_svg` made, as a file of its own: the light palette, on paper."""
    colors = "".join(f"--{name}:{color};" for color, name in _VARIABLES.items())
    start = element.index(">") + 1
    style = f'<style>svg{{{colors}background:{PAPER};font-family:"DejaVu Sans",Verdana,sans-serif}}</style>'
    return f"{element[:start]}{style}{element[start:]}\n"
