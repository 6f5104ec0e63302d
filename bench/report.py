"""What every bench does with its figures: a table on the terminal, JSON in .cache/bench, and on demand the docs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "metrics.md"


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/bench", description=description)
    parser.add_argument("--quick", action="store_true", help="smaller, for a first look")
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/metrics.md too")
    return parser


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Lay out a Markdown table: the first column to the left, figures to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: list[str]) -> str:
        first, *others = cells
        figures = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        return f"| {' | '.join([first.ljust(widths[0]), *figures])} |"

    rule = [":" + "-" * (widths[0] - 1), *["-" * (width - 1) + ":" for width in widths[1:]]]
    return "\n".join([line(head), line(rule), *[line(row) for row in rows]])


def publish(name: str, figures: object, text: str, docs: bool, page: Path = DOCS) -> None:
    """Print the text, keep the figures, and replace what the docs hold between the marks of this bench."""
    print(text)
    path = ROOT / ".cache" / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=1) + "\n")
    print(f"\nFigures: {path.relative_to(ROOT)}")
    if docs:
        marks = f"<!-- bin/bench {name} -->", "<!-- end -->"
        changed, found = re.subn(
            f"({re.escape(marks[0])}\n).*?({re.escape(marks[1])})",
            lambda match: f"{match[1]}\n{text}\n\n{match[2]}",
            page.read_text(),
            flags=re.DOTALL,
        )
        if found != 1:
            raise SystemExit(f"{page} must hold {marks[0]} and {marks[1]} once.")
        page.write_text(changed)
