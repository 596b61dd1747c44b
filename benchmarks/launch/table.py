"""Samples, and the small tables that show them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

Series = dict[str, list[float]]
"""Samples by name, in the order in which tables show them."""


@dataclass(frozen=True, slots=True)
class Row:
    """The statistics of one series of samples, in the unit of its table."""

    name: str
    median: float
    p90: float
    min: float
    max: float
    n: int


@dataclass(frozen=True, slots=True)
class Table:
    """One table of results."""

    title: str
    unit: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        width = max([len(row.name) for row in self.rows] + [10])
        lines = [self.title, f"  {self.unit:<{width}} {'median':>9} {'p90':>9} {'min':>9} {'max':>9} {'n':>4}"]
        for row in self.rows:
            numbers = " ".join(f"{number:9.2f}" for number in (row.median, row.p90, row.min, row.max))
            lines.append(f"  {row.name:<{width}} {numbers} {row.n:4}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def as_json(self) -> dict[str, object]:
        """Return the table in a form that JSON can represent."""
        return asdict(self)


def rows(series: Mapping[str, Sequence[float]], scale: float = 1.0) -> tuple[Row, ...]:
    """Return the rows of `series`, each sample multiplied by `scale`."""
    return tuple(_row(name, sorted(sample * scale for sample in samples)) for name, samples in series.items())


def _row(name: str, ordered: list[float]) -> Row:
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return Row(name, statistics.median(ordered), p90, ordered[0], ordered[-1], len(ordered))
