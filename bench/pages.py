"""Metrics pages of any size, as Prometheus' text format has them. Made line by line, so that a body is never held."""

from __future__ import annotations

from collections.abc import Iterator

METRIC = "sparklio_http_requests_total"
BUCKETS = ("0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf")
METHODS = ("GET", "POST", "PUT", "DELETE")
STATUSES = ("200", "201", "400", "404", "500", "503")


def requests(series: int, metric: str = METRIC) -> Iterator[str]:
    """The counter that a bench asks for."""
    yield f"# HELP {metric} HTTP requests answered\n# TYPE {metric} counter\n"
    for number in range(series):
        method, status = METHODS[number % 4], STATUSES[number // 4 % 6]
        endpoint = f"/api/v1/workspaces/{{workspace_id}}/resources-{number // 24}/{{item_id}}"
        yield f'{metric}{{endpoint="{endpoint}",method="{method}",status_code="{status}"}} {number * 7 % 9973}.0\n'


def durations(series: int) -> Iterator[str]:
    """A histogram of the same service."""
    name = "sparklio_http_request_duration_seconds"
    yield f"# HELP {name} Time to answer\n# TYPE {name} histogram\n"
    for number in range(series):
        endpoint = f"/api/v1/workspaces/{{workspace_id}}/resources-{number // 11}/{{item_id}}"
        yield f'{name}_bucket{{endpoint="{endpoint}",le="{BUCKETS[number % 11]}",method="GET"}} {number % 997}.0\n'


def neighbours(series: int, metrics: int = 250) -> Iterator[str]:
    """What else is found on a page of that size: one that a proxy, an exporter or a federation gathers."""
    each = -(-series // metrics)
    for metric in range(metrics):
        name = f"container_resource_{metric:03d}_usage_seconds_total"
        yield f"# HELP {name} Cumulative use of resource {metric}\n# TYPE {name} counter\n"
        for number in range(metric * each, min(series, (metric + 1) * each)):
            yield (
                f'{name}{{container="worker-{number % 40}",namespace="sparklio",node="node-{number % 8}",'
                f'pod="marketing-studio-{number:06d}"}} {number * 0.25 + 1e6:.6f}\n'
            )


def mixed(series: int, wanted: int = 240) -> Iterator[str]:
    """The wanted metric and a histogram of the same service among many others."""
    yield from neighbours((series - wanted) // 2)
    yield from requests(wanted)
    yield from durations(2000)
    yield from neighbours(series - wanted - 2000 - (series - wanted) // 2)
    yield "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1.7e+09\n"


def mostly_wanted(series: int) -> Iterator[str]:
    """Nine of ten series are the answer."""
    yield from requests(series * 9 // 10)
    yield from neighbours(series // 10)


def lookalikes(series: int) -> Iterator[str]:
    """Every line holds the wanted name: as the beginning of another name, in a label, or in a help text."""
    yield from requests(240)
    for number in range(series - 240):
        if number % 3 == 0:
            yield f'{METRIC}_by_tenant{{tenant="tenant-{number:06d}",region="ap-northeast-2"}} {number}\n'
        elif number % 3 == 1:
            yield f'alert_state{{number="{number:06d}",rule="rate({METRIC}[5m]) > 0.05",severity="page"}} 1.0\n'
        else:
            yield f"# HELP note_{number} Compare with {METRIC}\nnote_{number} {number}\n"


def pieces(lines: Iterator[str], size: int = 1 << 16) -> Iterator[bytes]:
    """The body as it comes from a socket."""
    held = bytearray()
    for line in lines:
        held += line.encode()
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    yield bytes(held)
