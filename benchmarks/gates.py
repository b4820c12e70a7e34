"""What every kernel must reach: one row per case, each with its gates and goals. Data only, and never softened.

A *gate* is where the benchmark turns red, a *goal* is the aim. A gate compares the time of our kernel with that of
another contender of the same run; which contenders bear the names used here is up to `benchmarks.cases`.

`docs/performance.md` prints this table; a test keeps the two equal.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

# AVX2 alone meets the numbers of AVX-512 outside the L2 cache, and this part of them inside.
AVX2_FACTOR_IN_L2 = 0.8

# The names of contenders that are ours.
SUM = "sum()"
MEMCPY = "memcpy"
ANY_PEER = "any peer"


class Kind(enum.Enum):
    """How a gate is computed."""

    SPEED = "times as fast as"  # time of the other / our time, at least
    SHARE = "of the speed of"  # the same, shown in percent: the other does no more than move the bytes
    SLOWDOWN = "of the time of"  # our time / time of another call of ours, at most
    TIME = "seconds"  # our time, at most
    RATE = "updates a second"  # work / our time, at least
    EXACT = "exact"  # the result equals the reference


AT_MOST = frozenset({Kind.SLOWDOWN, Kind.TIME})


def format_value(kind: Kind, value: float) -> str:
    """Return `value` with the unit of `kind`."""
    if kind is Kind.SHARE:
        return f"{100 * value:.0f} %"
    if kind is Kind.TIME:
        return f"{1e9 * value:.0f} ns" if value < 1e-6 else f"{1e6 * value:.2f} us"
    if kind is Kind.RATE:
        return f"{value / 1e9:.2f} G/s"
    if kind is Kind.EXACT:
        return "exact" if value else "wrong"
    return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


@dataclass(frozen=True)
class Gate:
    """One number to reach. Without `gate` it is a goal alone, which cannot be failed; without either, information."""

    kind: Kind
    against: str = ""
    gate: float | None = None
    goal: float | None = None
    subject: str = "ours"  # the contender of ours that is judged

    @property
    def label(self) -> str:
        """What is compared, in a few words."""
        name = {Kind.TIME: "time", Kind.RATE: "updates", Kind.EXACT: "result"}.get(self.kind, self.against)
        return name if self.subject == "ours" else f"{name}, {self.subject}"

    def threshold(self, limit: float | None, factor: float) -> float | None:
        """Return `limit` eased to the part `factor` of its speed."""
        if limit is None or self.kind is Kind.EXACT:
            return limit
        return limit / factor if self.kind in AT_MOST else limit * factor

    def reached(self, value: float, limit: float | None, factor: float) -> bool | None:
        """Tell whether `value` meets `limit`; ``None`` where there is no limit."""
        threshold = self.threshold(limit, factor)
        if threshold is None:
            return None
        return value <= threshold if self.kind in AT_MOST else value >= threshold

    def describe(self, limit: float | None) -> str:
        """Return `limit` as the documentation shows it."""
        if limit is None:
            return ""
        if self.kind is Kind.EXACT:
            return "always exact"
        shown = f"{limit:g}x" if self.kind in (Kind.SPEED, Kind.SLOWDOWN) else format_value(self.kind, limit)
        relation = "<= " if self.kind in AT_MOST else ""
        return f"{relation}{shown}" if self.kind in (Kind.TIME, Kind.RATE) else f"{relation}{shown} {self.against}"


def speed(against: str, gate: float | None = None, goal: float | None = None, *, subject: str = "ours") -> Gate:
    """At least `gate` times as fast as `against`."""
    return Gate(Kind.SPEED, against, gate, goal, subject)


def share(against: str, gate: float | None = None, goal: float | None = None) -> Gate:
    """At least the part `gate` of the speed of `against`."""
    return Gate(Kind.SHARE, against, gate, goal)


def slowdown(against: str, gate: float, goal: float) -> Gate:
    """At most `gate` times the time of `against`."""
    return Gate(Kind.SLOWDOWN, against, gate, goal)


@dataclass(frozen=True)
class Row:
    """A case and what it must reach."""

    key: str
    title: str
    gates: tuple[Gate, ...]
    in_l2: bool = False  # the data stay in the L2 cache
    two_cpus: bool = False  # needs a second CPU

    def factor(self, isa: str) -> float:
        """Return the part of the gates that `isa` must meet."""
        return AVX2_FACTOR_IN_L2 if self.in_l2 and isa == "avx2" else 1.0


_EXACT = Gate(Kind.EXACT, gate=1.0)

ROWS: tuple[Row, ...] = (
    Row(
        "min_max",
        "min, max, abs-max and NaN count in one read, contiguous float32, 4 MB and more",
        (share(SUM, 0.90, 0.97), speed("numpy min+max", 1.6, 1.9), speed("torch.aminmax", 1.2, 1.5)),
    ),
    Row(
        "min_max_l2",
        "the same, in L2 (1 MB)",
        (share(SUM, 0.70, 0.88), speed("numpy min+max", 1.6, 2.2), speed("torch", 3.0, 5.0)),
        in_l2=True,
    ),
    Row(
        "min_max_inner_axes",
        "the same over axes (0, 2, 3) of NCHW, and over the last axis of weights",
        (share(SUM, 0.90, 1.00), speed("numpy min+max", 1.6, 2.3), speed("torch", 1.4, 2.5)),
    ),
    Row(
        "min_max_outer_axis",
        "the same over axis 0 and channels last, 16 channels and more",
        (speed("numpy min+max", 2.5, 5.0), speed("torch.amin+amax", 2.8, 6.0)),
    ),
    Row(
        "min_max_few_channels",
        "the same with fewer than 16 channels (an [N, 3] image)",
        (speed("numpy min+max", 40.0, 80.0), speed("torch.aminmax", 10.0, 25.0)),
    ),
    Row(
        "min_max_strided",
        "the same on strided views, stride 2 to 8",
        (speed("numpy min+max", 1.8), speed(ANY_PEER, 1.0), share(f"{SUM} of whole lines", goal=0.95)),
    ),
    Row(
        "min_max_16_bit",
        "min and max of float16 and bfloat16",
        (slowdown("float32", 0.7, 0.55), speed("numpy min+max", 60.0, 150.0)),
    ),
    Row(
        "quantile_tails",
        "exact quantiles, both tails (1e-4 and 1 - 1e-4), 4M float32",
        (
            share(SUM, 0.70, 0.92),
            speed("np.quantile", 20.0, 50.0),
            speed("np.partition, one kth", 4.0, 11.0),
            speed("torch.quantile", 150.0),
        ),
    ),
    Row(
        "median",
        "exact median, 4M",
        (
            share(SUM, 0.70, 0.87),
            speed("np.quantile", 25.0, 60.0),
            speed("np.partition, one kth", 5.0, 10.0),
            speed("torch.median", 15.0, 50.0),
        ),
    ),
    Row(
        "quantile_large",
        "exact quantiles, both tails, 64M",
        (share(SUM, 0.65, 0.90), speed("np.quantile", 30.0, 40.0)),
    ),
    Row(
        "quantile_adversarial",
        "exact quantiles and median of adversarial data, 4M",
        (_EXACT, slowdown("normal data", 2.0, 1.3)),
    ),
    Row(
        "quantile_rows",
        "quantiles per row, [512, 4608]",
        (speed("np.quantile", 12.0, 30.0), speed("np.partition, one kth", 2.5, 5.0)),
    ),
    Row(
        "quantile_channels",
        "quantiles per channel, NCHW [32, 64, 56, 56]",
        (speed("np.quantile", 40.0, 60.0), share(SUM, goal=0.70)),
    ),
    Row(
        "bit_histogram",
        "bit histogram, 65,536 counters",
        (Gate(Kind.RATE, gate=1.2e9, goal=2.0e9), speed("datasketches KLL", 40.0, 60.0)),
    ),
    Row(
        "histogram",
        "fixed-range histogram, 2,048 bins, equal to np.histogram",
        (speed("np.histogram", 12.0, 20.0), speed("torch.histc", 4.5, 8.0)),
    ),
    Row(
        "column_median",
        "median over 300 samples of 768 channels",
        (speed("np.median", 12.0, 40.0), speed("np.sort", 3.5, 8.0), speed("bottleneck", 7.0, 20.0)),
        in_l2=True,
    ),
    Row(
        "vector_median",
        "median of one vector of 300",
        (speed("bottleneck", 1.0), Gate(Kind.TIME, goal=0.8e-6)),
        in_l2=True,
    ),
    Row(
        "no_outliers",
        "mean and median without outliers, [300, 768]",
        (speed("nncf", 40.0, 75.0),),
        in_l2=True,
    ),
    Row(
        "quantize",
        "quantize float32 to uint8 and int8, 4M and 64M",
        (
            speed("numpy idiom", 12.0, 17.0),
            speed("onnxruntime run", 1.9, 2.4),
            speed("onnxruntime io-binding", 1.15, 1.4),
            speed("torch", 1.5, 3.0),
        ),
    ),
    Row(
        "fake_quantize",
        "fake-quantize, 64M",
        (share(MEMCPY, 0.80, 1.00), speed("torch", 8.0, 14.0)),
    ),
    Row(
        "quantize_channels",
        "quantize per channel, [512, 4608]",
        (speed("torch", 5.0, 10.0), speed("onnxruntime", 1.4, 1.8), speed("numpy idiom", 20.0, 40.0)),
    ),
    # What a call costs does not depend on the vector width: no easement for AVX2.
    Row(
        "small_call",
        "one call on a tiny array (10 elements)",
        (Gate(Kind.TIME, gate=250e-9, goal=110e-9), speed("numpy min+max", 6.0)),
    ),
    Row(
        "running_update",
        "one value for a running statistic, called from Python",
        (Gate(Kind.TIME, gate=30e-9, goal=20e-9),),
    ),
    Row(
        "threads_l2",
        "two threads against one, 1 MB",
        (speed("one thread", 1.4),),
        two_cpus=True,
    ),
    Row(
        "threads",
        "two threads against one, 16 MB",
        (speed("one thread", 1.8),),
        two_cpus=True,
    ),
)

BY_KEY: dict[str, Row] = {row.key: row for row in ROWS}


def markdown() -> str:
    """Return the table as `docs/performance.md` holds it."""
    lines = ["| case | gate | goal |", "|---|---|---|"]
    for row in ROWS:
        gates = "; ".join(filter(None, (gate.describe(gate.gate) for gate in row.gates)))
        goals = "; ".join(filter(None, (gate.describe(gate.goal) for gate in row.gates)))
        lines.append(f"| {row.title} | {gates} | {goals} |")
    return "\n".join(lines)
