"""Numbers as people read them: percent, bytes, counts, times."""

from __future__ import annotations

from flashdd.core.record import Accuracy, Difference

_STEPS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "K"))


def percent_text(fraction: float) -> str:
    """0.5449 -> "54.5"."""
    return f"{100 * fraction:.1f}"


def accuracy_text(accuracy: Accuracy) -> str:
    """In percent: "54.5 ± 0.4 (n=3)", without the spread at n = 1."""
    spread = "" if accuracy.std is None else f" ± {percent_text(accuracy.std)}"
    return f"{percent_text(accuracy.mean)}{spread} (n={accuracy.n})"


def points_text(difference: float) -> str:
    """A difference of fractions, in points with its sign: -0.003 -> "-0.3"; what rounds to zero is "0.0"."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def difference_text(difference: Difference) -> str:
    """In points: "-0.3 [-0.9, +0.3]", without the interval at n = 1."""
    if difference.low is None or difference.high is None:
        return points_text(difference.mean)
    interval = f"[{points_text(difference.low)}, {points_text(difference.high)}]"
    return f"{points_text(difference.mean)} {interval}"


def bytes_text(num_bytes: int) -> str:
    """KB = 1000: 13408 -> "13.4 KB", 999 -> "999 B"."""
    return _scaled(num_bytes, "B")


def counted(number: int, noun: str) -> str:
    """1, "thread" -> "1 thread"; 2, "thread" -> "2 threads"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_text(count: int) -> str:
    """658000 -> "658.0 K", 999 -> "999"."""
    return _scaled(count, "").strip()


def rate_text(rate: float) -> str:
    """Something per second: 812.4 -> "812", 1234567.0 -> "1.2 M"."""
    return _scaled(round(rate), "").strip() if rate >= 10 else f"{rate:.2g}"


def times_text(ratio: float) -> str:
    """A factor with three figures: 843.81 -> "844", 34.2471 -> "34.2", 12345.6 -> "12,346"."""
    if ratio >= 100:
        return f"{ratio:,.0f}"
    return f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"


def ratio_percent_text(ratio: float) -> str:
    """A share with two figures: 0.0003 -> "0.030", 0.018 -> "1.8", 0.5 -> "50"."""
    percent = 100 * ratio
    for limit, digits in ((10.0, 0), (1.0, 1), (0.1, 2), (0.01, 3)):
        if percent >= limit:
            return f"{percent:.{digits}f}"
    return f"{percent:.2g}"


def short_time_text(seconds: float) -> str:
    """A time of any size with two figures: 0.00042 -> "0.42 ms", 0.042 -> "42 ms", 4.2 -> "4.2 s", 420 -> "420 s"."""
    number, unit = (1000 * seconds, "ms") if seconds < 0.9995 else (seconds, "s")
    return f"{number:.2g} {unit}" if number < 9.95 else f"{number:.0f} {unit}"


def seconds_text(seconds: float) -> str:
    """0.42 -> "0.4 s", 200 -> "3 min 20 s", 7260 -> "2 h 1 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _scaled(number: int, unit: str) -> str:
    # 0.99995: what would round to 1000.0 belongs to the next larger unit
    for step, prefix in _STEPS:
        if number >= 0.99995 * step:
            return f"{number / step:.1f} {prefix}{unit}"
    return f"{number} {unit}"


def labeler_text(name: str, bits: int | None, num_members: int | None) -> str:
    """What a labeler is made of: "conv-3-w8" of 8 bits, "2 x conv-3-w8, 4 bits"; float32 networks say no bits."""
    many = f"{num_members} x " if num_members and num_members > 1 else ""
    few = f", {bits} bits" if bits is not None and bits < 8 else ""
    return f"{many}{name}{few}"
