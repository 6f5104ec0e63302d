# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of a watch: one SVG without any other file, readable on light and on dark ground."""

from __future__ import annotations

import math
import re
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple, Optional

from ansible_collections.sparklio.rollback.plugins.module_utils._progress import clock, count, latency, percent

OUTCOMES = {
    "good": ("GOOD", "정상"),
    "breached": ("BREACHED", "기준 초과"),
    "inconclusive": ("INCONCLUSIVE", "판단 불가"),
    "error": ("NOT READABLE", "측정 불가"),
}

#: The plots lie between LEFT and RIGHT; beside them stand the names of what they show.
WIDTH, LEFT, RIGHT = 980, 70, 790
TOP, PANEL, PITCH = 144, 104, 156

_NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")

#: Where an axis may end.
_TOPS = (1, 1.2, 1.6, 2, 2.5, 3, 4, 5, 6, 8)

_STYLE = """
svg{font:13px system-ui,-apple-system,"Segoe UI","Noto Sans KR","Noto Sans CJK KR","Apple SD Gothic Neo",
"Malgun Gothic",sans-serif}
.page{fill:#fff}.plot{fill:#f6f8fa}text{fill:#1f2328}.soft{fill:#59636e}.small{font-size:11.5px}
.h1{font-size:21px;font-weight:650}.h2{font-size:13.5px;font-weight:600}
.grid{stroke:#d8dee4}.one{stroke:#1d63d8;fill:#1d63d8}.two{stroke:#b05a00;fill:#b05a00}
.one.line,.two.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.one.bar{stroke:none;fill-opacity:.75}text.one,text.two{stroke:none;font-weight:600}
.limit{stroke:#cf222e;stroke-width:1.4;stroke-dasharray:6 4}.limit-text{fill:#cf222e}
.base{stroke:#59636e;stroke-width:1.4;stroke-dasharray:1.5 4}
.bad{fill:#cf222e;fill-opacity:.1}.cross{stroke:#cf222e;stroke-width:2.4;stroke-linecap:round}
.error{fill:#bf8700;fill-opacity:.2}.gap{fill:url(#hatch)}.hatch{stroke:#8b949e;stroke-width:1.2}
.event{stroke:#1a7f37;stroke-width:1.6}.event-text{fill:#1a7f37}.restart{stroke:#59636e;stroke-dasharray:3 3}
.badge-good{fill:#1a7f37}.badge-breached{fill:#cf222e}.badge-inconclusive,.badge-error{fill:#8a5a00}
.badge-text{fill:#fff;font-weight:650}.hit{fill:#000;fill-opacity:0}
@media(prefers-color-scheme:dark){
.page{fill:#0d1117}.plot{fill:#161b22}text{fill:#e6edf3}.soft{fill:#9198a1}.grid{stroke:#2d333b}
.one{stroke:#6cb2ff;fill:#6cb2ff}.two{stroke:#f0a04b;fill:#f0a04b}.limit{stroke:#ff7b72}.limit-text{fill:#ff7b72}
.base{stroke:#9198a1}.bad{fill:#ff7b72;fill-opacity:.16}.cross{stroke:#ff7b72}.error{fill:#e3b341}
.hatch{stroke:#6e7681}.event{stroke:#56d364}.event-text{fill:#56d364}.restart{stroke:#9198a1}
.badge-good{fill:#238636}.badge-breached{fill:#da3633}.badge-inconclusive,.badge-error{fill:#9e6a03}
.badge-text{fill:#fff}}
""".strip()

_LEGEND = (
    "✗ bad window 기준 초과 · striped: nobody watched 감시 공백 · yellow: could not be read 측정 불가 · "
    "dashed grey: the process was replaced 재시작"
)

Window = Mapping[str, Any]


class Series(NamedTuple):
    """One line of a panel: the figure that it shows, its name and class, how to write a value, and its breaches."""

    figure: str
    name: str
    style: str
    show: Callable[[Optional[float]], str]
    breach: str = ""


class Panel(NamedTuple):
    """One plot. ``limits`` and ``base`` are values with what is written beside them."""

    title: str
    series: tuple[Series, ...]
    limits: tuple[tuple[float, str], ...] = ()
    base: Optional[tuple[float, str]] = None
    top: Optional[float] = None
    logarithmic: bool = False
    bars: bool = False
    unit: str = ""


def nice(value: float, steps: Sequence[float] = (1, 2, 5)) -> float:
    """Return the smallest of the steps times a power of ten that is not under the value."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in steps if step * power >= value * 0.999999), 10 * power)


def time_step(seconds: float) -> float:
    """Return the distance of the ticks of a time axis, so that there are at most about nine."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
    return float(next((step for step in steps if seconds / step <= 9), 86400 * math.ceil(seconds / 86400 / 9)))


def file_name(text: str) -> str:
    """Return text that may be part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "watch"


def _safe(value: Any) -> str:
    """Return text without the characters that XML 1.0 can't hold (section 2.2, "Characters")."""
    return _NO_XML.sub("", str(value))


def _tag(name: str, text: Any = None, **attributes: Any) -> str:
    """Return one element. ``class_`` stands for ``class``, and ``text_anchor`` for ``text-anchor``."""
    parts = [name]
    for key, value in attributes.items():
        parts.append(f"{key.rstrip('_').replace('_', '-')}=" + f'"{escape(_safe(value))}"')
    start = " ".join(parts)
    return f"<{start}/>" if text is None else f"<{start}>{escape(_safe(text), quote=False)}</{name}>"


def _known(window: Window, figure: str) -> float | None:
    """Return a figure that can be drawn: neither less than nothing nor so much that an axis could not hold it."""
    value = window.get(figure)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return min(max(float(value), 0.0), 1e15)


def _values(series: Series, windows: Sequence[Window]) -> list[float]:
    return [value for value in (_known(window, series.figure) for window in windows) if value is not None]


class _Across:
    """Seconds to places from left to right."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.end = max([window["t"] for window in windows], default=0.0) or 1.0

    def __call__(self, seconds: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(max(seconds / self.end, 0.0), 1.0), 2)

    def span(self, window: Window) -> tuple[float, float]:
        """Return the left edge and the width of a window."""
        left = self(window["t"] - window["seconds"])
        return left, round(max(0.8, self(window["t"]) - left), 2)

    def middle(self, window: Window) -> float:
        left, wide = self.span(window)
        return round(left + wide / 2, 2)

    def ticks(self) -> list[float]:
        step = time_step(self.end)
        return [step * number for number in range(int(self.end / step + 1e-9) + 1)]


class _Up:
    """Values of a panel to heights."""

    def __init__(self, panel: Panel, values: Sequence[float], y: float) -> None:
        self.panel, self.y = panel, y
        marks = [value for value, _text in panel.limits] + ([panel.base[0]] if panel.base else [])
        if panel.logarithmic:
            positive = [value for value in (*values, *marks) if value > 0] or [1.0]
            self.low = 10.0 ** math.floor(math.log10(max(1e-6, min(positive))))
            self.high = max(positive) * 1.6
        else:
            self.low = 0.0
            # Above bars there is room for what is written there.
            highest = nice(max(values, default=0.0) * (1.3 if panel.bars else 1.05), _TOPS)
            self.high = panel.top or max(highest, max(marks, default=0.0) * 1.3)

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        share = value / self.high
        if self.panel.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.y + PANEL * (1 - share), 2)

    def ticks(self) -> list[float]:
        if self.panel.logarithmic:
            first, last = round(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1, 1 + (last - first + 1) // 5)]
        step = nice(self.high / 4)
        return [step * number for number in range(int(self.high / step + 1e-9) + 1)]

    def text(self, value: float) -> str:
        return _seconds(value) if self.panel.logarithmic else f"{value:g}{self.panel.unit}"


def _seconds(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms"


def _whole(value: float | None) -> str:
    return percent(value, 0)


def _tenth(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def panels(limits: Mapping[str, float | None], baseline: float | None) -> list[Panel]:
    """Return the plots of a watch, from top to bottom.

    Args:
        limits: by the name of the figure; None for one that is not judged.
        baseline: mean latency in seconds, or None.
    """

    def limit(name: str, show: Callable[[float], str], what: str = "limit 기준") -> tuple[tuple[float, str], ...]:
        value = limits.get(name)
        return () if value is None else ((float(value), f"{what} {show(value)}"),)

    load = limit("cpu_percent", _whole, "CPU limit 기준") + limit("memory_percent", _whole, "memory limit 기준")
    if limits.get("cpu_percent") == limits.get("memory_percent"):
        load = limit("cpu_percent", _whole)
    return [
        Panel(
            "Requests per second · 초당 요청 수",
            (Series("requests_per_second", "requests", "one", _tenth),),
            bars=True,
        ),
        Panel(
            "Error rate (5xx) · 에러율",
            (Series("error_rate_percent", "errors", "one", percent, "errors"),),
            limit("error_rate_percent", _whole),
            unit=" %",
        ),
        Panel(
            "Agent failures · 에이전트 실패율",
            (Series("agent_failure_percent", "failures", "one", percent, "agents"),),
            limit("agent_failure_percent", _whole),
            unit=" %",
        ),
        Panel(
            "Response time · 응답 시간",
            (
                Series("mean_seconds", "mean 평균", "one", latency, "mean"),
                Series("p95_seconds", "p95", "two", latency, "p95"),
            ),
            limit("mean_seconds", _seconds, "mean limit 평균 기준") + limit("p95_seconds", _seconds, "p95 limit 기준"),
            (baseline, f"baseline 평소 {latency(baseline)}") if baseline else None,
            logarithmic=True,
        ),
        Panel(
            "Host load · 호스트 부하",
            (
                Series("cpu_percent", "CPU", "one", _whole, "cpu"),
                Series("memory_percent", "memory 메모리", "two", _whole, "memory"),
            ),
            load,
            top=100.0,
            unit=" %",
        ),
    ]


def _spread(labels: Iterable[tuple[float, str, str]], low: float, high: float) -> list[tuple[float, str, str]]:
    """Move labels (height, text, class) apart that would overlap, and keep them between two heights."""
    placed: list[tuple[float, str, str]] = []
    for y, text, style in sorted(labels):
        placed.append((max(y, placed[-1][0] + 14 if placed else low), text, style))
    room = high
    for number in reversed(range(len(placed))):
        y, text, style = placed[number]
        placed[number] = (min(y, room), text, style)
        room = placed[number][0] - 14
    return placed


def _bars(series: Series, windows: Sequence[Window], x: _Across, up: _Up) -> list[str]:
    out = []
    for window in windows:
        value = _known(window, series.figure)
        if value:
            left, wide = x.span(window)
            at = up(value)
            tall = round(up.y + PANEL - at, 2)
            out.append(_tag("rect", class_=f"{series.style} bar", x=left, y=at, width=max(0.8, wide - 1), height=tall))
    return out


def _lines(series: Series, windows: Sequence[Window], x: _Across, up: _Up) -> list[str]:
    """Draw lines through the middles of the windows, broken where a value is unknown or nobody watched."""
    runs: list[list[str]] = [[]]
    crosses = []
    for window in windows:
        value = _known(window, series.figure)
        if value is None or window["gap"]:
            runs.append([])
        if value is None:
            continue
        across, at = x.middle(window), up(value)
        runs[-1].append(f"{across},{at}")
        if window["gap"]:
            runs.append([])
        if any(breach["series"] == series.breach for breach in window["breaches"]):
            crosses.append(_tag("path", class_="cross", d=f"M{across - 4:.2f} {at - 4:.2f}l8 8m0 -8l-8 8"))
    out = []
    for run in runs:
        if len(run) == 1:
            across, at = run[0].split(",")
            out.append(_tag("circle", class_=series.style, cx=across, cy=at, r=2))
        elif run:
            out.append(_tag("polyline", class_=f"{series.style} line", points=" ".join(run)))
    return out + crosses


def _panel(panel: Panel, windows: Sequence[Window], x: _Across, y: float) -> list[str]:
    values = [value for series in panel.series for value in _values(series, windows)]
    up = _Up(panel, values, y)
    out = [
        _tag("text", panel.title, class_="h2", x=LEFT, y=y - 12),
        _tag("rect", class_="plot", x=LEFT, y=y, width=RIGHT - LEFT, height=PANEL),
    ]
    for window in windows:
        kind = "gap" if window["gap"] else window["state"]
        if kind in ("gap", "bad", "error"):
            left, wide = x.span(window)
            out.append(_tag("rect", class_=kind, x=left, y=y, width=wide, height=PANEL))
    for tick in up.ticks():
        out.append(_tag("line", class_="grid", x1=LEFT, y1=up(tick), x2=RIGHT, y2=up(tick)))
        out.append(_tag("text", up.text(tick), class_="soft small", x=LEFT - 8, y=up(tick) + 4, text_anchor="end"))
    for tick in x.ticks():
        out.append(_tag("line", class_="grid", x1=x(tick), y1=y + PANEL, x2=x(tick), y2=y + PANEL + 4))
        out.append(_tag("text", clock(tick), class_="soft small", x=x(tick), y=y + PANEL + 17, text_anchor="middle"))
    labels = []
    for value, text in panel.limits:
        out.append(_tag("line", class_="limit", x1=LEFT, y1=up(value), x2=RIGHT, y2=up(value)))
        labels.append((up(value) + 4, text, "limit-text small"))
    if panel.base:
        at = up(panel.base[0])
        out.append(_tag("line", class_="base", x1=LEFT, y1=at, x2=RIGHT, y2=at))
        labels.append((at + 4, panel.base[1], "soft small"))
    for series in panel.series:
        out += (_bars if panel.bars else _lines)(series, windows, x, up)
        last = _values(series, windows)[-1:]
        labels += [(up(value) + 4, f"{series.name} {series.show(value)}", f"{series.style} small") for value in last]
    for at, text, style in _spread(labels, y + 8, y + PANEL + 4):
        out.append(_tag("text", text, class_=style, x=RIGHT + 10, y=round(at, 2)))
    if not values:
        middle = {"x": (LEFT + RIGHT) / 2, "y": y + PANEL / 2 + 4, "text_anchor": "middle"}
        out.append(_tag("text", "no data · 데이터 없음", class_="soft", **middle))
    return out


def _events(report: Mapping[str, Any], x: _Across, y: float, named: bool) -> list[str]:
    """Draw restarts and the recovery through one panel."""
    ends = {"y1": y, "y2": y + PANEL}
    out = [
        _tag("line", class_="restart", x1=x.middle(window), x2=x.middle(window), **ends)
        for window in report["windows"]
        if window.get("restarts")
    ]
    recovered = report.get("recovered_at")
    if recovered is not None:
        at = x(recovered)
        out.append(_tag("line", class_="event", x1=at, x2=at, **ends))
        if named:
            text = f"recovered · 회복 {clock(recovered)}"
            side = {"x": at - 5, "text_anchor": "end"} if at > (LEFT + RIGHT) / 2 else {"x": at + 5}
            out.append(_tag("text", text, class_="event-text small", y=y + 14, **side))
    return out


def _tooltip(window: Window) -> str:
    span = f"{clock(max(0.0, window['t'] - window['seconds']))}–{clock(window['t'])} {window['state']}"
    parts = [f"{span}, a gap" if window["gap"] else span]
    if "requests" in window:
        parts += [
            f"{count(window['requests'])} requests, errors {percent(window['error_rate_percent'])}",
            f"agent failures {percent(window['agent_failure_percent'])}",
            f"mean {latency(window['mean_seconds'])}, p95 {latency(window['p95_seconds'], window['p95_at_least'])}",
            f"CPU {_whole(window['cpu_percent'])}, memory {_whole(window['memory_percent'])}",
        ]
    return "; ".join(parts + [breach["evidence"] for breach in window["breaches"]])


def _header(report: Mapping[str, Any], x: _Across) -> list[str]:
    english, korean = OUTCOMES.get(report["outcome"], (str(report["outcome"]).upper(), ""))
    badge = f"{english} · {korean}" if korean else english
    style = report["outcome"] if report["outcome"] in OUTCOMES else "error"
    wide = round(26 + 7.6 * sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in badge))
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report["began"]))
    subtitle = (
        f"Watch after the rollback · 롤백 후 모니터링 · {report['host']}, {began} · "
        f"{clock(x.end)} in {len(report['windows'])} windows"
    )
    release = textwrap.shorten(_safe(report["release"]), 56, placeholder="…")
    why = " ".join(_safe(report["why"]).split())
    return [
        _tag("title", f"Watch after the rollback · 롤백 후 모니터링: {report['release']}", id="title"),
        _tag("desc", f"{badge}. {why}", id="desc"),
        f"<style>{_STYLE}</style>",
        '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<line class="hatch" x1="0" y1="0" x2="0" y2="7"/></pattern></defs>',
        '<rect class="page" width="100%" height="100%"/>',
        _tag("text", release, class_="h1", x=24, y=40),
        _tag("text", subtitle, class_="soft", x=24, y=62),
        _tag("rect", class_=f"badge-{style}", x=WIDTH - 24 - wide, y=20, width=wide, height=30, rx=15),
        _tag("text", badge, class_="badge-text", x=WIDTH - 24 - wide / 2, y=40, text_anchor="middle"),
        *(
            _tag("text", part, x=24, y=86 + 18 * number)
            for number, part in enumerate(textwrap.wrap(why, 132, max_lines=2, placeholder=" …"))
        ),
    ]


def svg(report: Mapping[str, Any]) -> str:
    """Return the picture of a watch.

    Args:
        report: ``release``, ``host``, ``began`` (seconds since the epoch), ``windows``, ``limits``, ``outcome``,
            ``why``, ``recovered_at`` (seconds since it began, or None), ``baseline_mean_seconds`` (or None).
    """
    windows: Sequence[Window] = report["windows"]
    plots = panels(report["limits"], report.get("baseline_mean_seconds"))
    height = TOP + len(plots) * PITCH + 8
    x = _Across(windows)
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title desc">'
    )
    out = [start, *_header(report, x)]
    for number, panel in enumerate(plots):
        y = TOP + number * PITCH
        out += _panel(panel, windows, x, y)
        out += _events(report, x, y, named=number == 0)
    for window in windows:
        left, wide = x.span(window)
        area = _tag("rect", "", class_="hit", x=left, y=TOP, width=wide, height=len(plots) * PITCH)
        out.append(area.replace("></rect>", f">{_tag('title', _tooltip(window))}</rect>"))
    out.append(_tag("text", _LEGEND, class_="soft small", x=LEFT, y=height - 14))
    return "\n".join([*out, "</svg>", ""])
