"""A file of measured cells, one JSON line each, and the processes that measure those that are missing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, TypeVar

Line = dict[str, Any]
Cell = TypeVar("Cell")


class Ledger(Generic[Cell]):
    """``cell_type`` is a frozen dataclass whose fields are members of each line; ``order`` names those to sort by."""

    def __init__(self, file: Path, cell_type: type[Cell], order: Sequence[str]) -> None:
        self.file, self.cell_type, self.order = file, cell_type, order

    def read(self) -> dict[Cell, Line]:
        """All cells that were measured."""
        if not self.file.exists():
            return {}
        lines = [json.loads(line) for line in self.file.read_text().splitlines()]
        names = [field.name for field in fields(self.cell_type)]  # type: ignore[arg-type]
        return {self.cell_type(**{name: line[name] for name in names}): line for line in lines}

    def add(self, cell: Cell, line: Line) -> None:
        """Write all cells anew, sorted; five decimals are more than 5,000 images can tell."""
        cells = self.read() | {cell: line}
        self.file.parent.mkdir(exist_ok=True)
        order = sorted(cells, key=lambda each: [getattr(each, name) for name in self.order])
        rounded = (
            json.loads(json.dumps(cells[each]), parse_float=lambda text: round(float(text), 5)) for each in order
        )
        self.file.write_text("".join(json.dumps(each, sort_keys=True) + "\n" for each in rounded))

    def measure(
        self,
        wanted: Sequence[Cell],
        measure: Callable[[Cell, Path, int], Line],
        data: Path,
        *,
        processes: int,
        again: bool = False,
    ) -> None:
        """Call ``measure(cell, data, threads)`` for what is missing (all, ``again``), in processes of equal shares."""
        missing = wanted if again else [cell for cell in wanted if cell not in self.read()]
        threads = max(1, len(os.sched_getaffinity(0)) // processes)
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(measure, cell, data, threads): cell for cell in missing}
            for done, future in enumerate(as_completed(running), start=1):
                cell, line = running[future], future.result()
                self.add(cell, line)
                print(f"{done}/{len(missing)} {cell}: {line['after']} in {line['seconds']} s", flush=True)
