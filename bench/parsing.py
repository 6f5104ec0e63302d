"""How fast, and in how much memory, one metric is read out of a large page: against prometheus_client's parser.

Both read the same text in the same process, in turns; the time is of the processor, the median of the turns.
prometheus_client gets its text decoded and in memory, the collection gets bytes in pieces of 64 KiB.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from statistics import median

import pages
import report
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition
from prometheus_client.parser import text_string_to_metric_families

#: The least that is asked for on a page as it is found.
TIMES = 10

PAGES = {
    "one service among many": pages.mixed,
    "every line holds the wanted name": pages.lookalikes,
    "nine of ten series are the answer": pages.mostly_wanted,
}


def ours(chunks) -> dict:
    return _exposition.read(chunks, [pages.METRIC]).samples[pages.METRIC]


def theirs(text: str) -> dict:
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == pages.METRIC
    }


def seconds(function: Callable, argument) -> float:
    begin = time.process_time()
    function(argument)
    return time.process_time() - begin


def peak(function: Callable, argument) -> int:
    tracemalloc.start()
    try:
        function(argument)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def compare(name: str, series: int, turns: int) -> dict:
    body = list(pages.pieces(PAGES[name](series)))
    text = b"".join(body).decode()
    if ours(body) != theirs(text):
        raise SystemExit(f"{name}: the two parsers do not agree.")
    times = [(seconds(ours, body), seconds(theirs, text)) for _turn in range(turns)]
    fast, slow = median(pair[0] for pair in times), median(pair[1] for pair in times)
    return {
        "page": name,
        "series": sum(1 for line in text.split("\n") if line and not line.startswith("#")),
        "answer": len(ours(body)),
        "bytes": len(text.encode()),
        "seconds": fast,
        "seconds_prometheus_client": slow,
        "times": slow / fast,
        "peak": peak(ours, pages.pieces(PAGES[name](series))),
        "peak_prometheus_client": peak(theirs, text),
    }


def main() -> None:
    options = report.arguments(__doc__).parse_args()
    series, turns = (20_000, 3) if options.quick else (100_000, 5)
    rows = [compare(name, series, turns) for name in PAGES]
    # The same answer in a body ten times as large: what is held must not grow with it.
    large = peak(ours, pages.pieces(pages.mixed(10 * series)))
    text = report.table(
        ["Page", "Series", "In the answer", "MB", "prometheus_client", "Here", "Times as fast", "Memory there", "Here"],
        [
            [
                row["page"], f"{row['series']:,}", f"{row['answer']:,}", f"{row['bytes'] / 1e6:.1f}",
                f"{row['seconds_prometheus_client']:.2f} s", f"{1000 * row['seconds']:.0f} ms", f"{row['times']:.0f}",
                f"{row['peak_prometheus_client'] / 1e6:.1f} MB", f"{row['peak'] / 1e6:.2f} MB",
            ]
            for row in rows
        ],
    )  # fmt: skip
    text += (
        f"\n\nThe first page made ten times as long takes {large / 1e6:.2f} MB here.\n"
        f"Measured on {report.machine()}; {turns} turns."
    )
    report.publish("parsing", {"turns": turns, "pages": rows, "peak_of_ten_times_the_body": large}, text, options.docs)
    if rows[0]["times"] < TIMES:
        sys.exit(f"Only {rows[0]['times']:.1f} times as fast on the first page; {TIMES} are asked for.")
    if large > 2 * rows[0]["peak"]:
        sys.exit("The memory grows with the body.")


if __name__ == "__main__":
    main()
