# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads chosen metrics out of the Prometheus text format, strictly, from pieces of a body of any size.

Only lines of a wanted metric are parsed; the others are jumped over, so that memory follows the answer and not the
body. Formats: "Prometheus text-based format 0.0.4" and OpenMetrics 1.0 (exemplars, ``# EOF``, counters whose
``# TYPE`` line leaves out ``_total``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

Labels = tuple  # of (name, value) pairs, sorted: hashable, and equal for equal series

#: A single line longer than this is not an exposition; it also bounds what is held between two pieces.
MAX_LINE = 1 << 20

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_QUOTED = r'"((?:[^"\\\n]|\\[\\"n])*)"'
_LABEL = re.compile(rf"[ \t]*(?:([a-zA-Z_][a-zA-Z0-9_]*)|{_QUOTED})[ \t]*=[ \t]*{_QUOTED}[ \t]*")
_ESCAPE = re.compile(r'\\([\\"n])')
_FIRST = re.compile(rf"({_NAME.pattern})[ \t]*{{[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*")
_NEXT = re.compile(r"[ \t]*,[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*")
_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*')


class ExpositionError(ValueError):
    """The body is not what a metrics endpoint answers. The message quotes the place."""


class SelectorError(ValueError):
    """A selector such as ``status_code=~"5.."`` that can't be read."""


class Exposition(NamedTuple):
    """What was found of the wanted metrics.

    ``samples`` maps a metric's name to its series (labels to value); a name without series is absent.
    ``types`` holds each wanted name that a ``# TYPE`` or ``# HELP`` line declares: counters with labels have no
    series before their first use, so this is what tells "no traffic yet" from "no such metric".
    """

    samples: dict[str, dict[Labels, float]]
    types: dict[str, str]


def _shown(line: str) -> str:
    return ascii(line if len(line) <= 80 else line[:77] + "...")


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match.group(1) == "n" else match.group(1), text) if "\\" in text else text


def _parse_labels(line: str, position: int) -> tuple[Labels, int]:
    """Parse from after ``{`` to after ``}``."""
    labels: dict[str, str] = {}
    while True:
        match = _LABEL.match(line, position)
        if match:
            name = match.group(1) or _unescape(match.group(2))
            if name in labels:
                raise ExpositionError(f"label {name} stands twice in {_shown(line)}")
            labels[name] = _unescape(match.group(3))
            position = match.end()
        following = line[position : position + 1]
        if match and following == ",":
            position += 1
            continue
        rest = line[position:].lstrip(" \t")
        if rest[:1] != "}":
            raise ExpositionError(f"the labels can't be read in {_shown(line)}")
        return tuple(sorted(labels.items())), len(line) - len(rest) + 1


def parse_number(text: str) -> float:
    """Read a value as Prometheus writes it: a decimal number, ``NaN``, ``+Inf`` or ``-Inf``."""
    try:
        # What Python would take beyond that: 1_000, digits of other scripts, space around the number.
        if "_" in text or not text.isascii() or text != text.strip():
            raise ValueError
        return float(text)
    except ValueError:
        raise ExpositionError(f"{_shown(text)} is not a number") from None


def _value(rest: str, line: str) -> float:
    """Parse what follows the labels. Timestamp and exemplar are checked for form and left out."""
    rest, mark, exemplar = rest.partition("#")
    fields = rest.split()
    if len(fields) > 1:  # what other white space keeps apart is not two fields
        fields = re.findall(r"[^ \t]+", rest)
    if not 1 <= len(fields) <= 2:
        raise ExpositionError(f"expected a value and at most a timestamp in {_shown(line)}")
    if mark:
        if exemplar.lstrip(" \t")[:1] != "{":
            raise ExpositionError(f"what follows the value is no exemplar in {_shown(line)}")
        end = _parse_labels(exemplar, exemplar.index("{") + 1)[1]
        if not 1 <= len(exemplar[end:].split()) <= 2:
            raise ExpositionError(f"the exemplar has no value in {_shown(line)}")
    if len(fields) == 2:
        parse_number(fields[1])
    return parse_number(fields[0])


@lru_cache(maxsize=16)
def _shape(pieces: tuple[str, ...]) -> tuple[str, list[str]] | None:
    """Return the names of the metric and of its labels, given what stands before each quoted value of a line.

    It is the same for all series of a metric, so it is looked up and not parsed again. None: not that simple.
    """
    matches = [(_NEXT if number else _FIRST).fullmatch(piece) for number, piece in enumerate(pieces)]
    if not all(matches) or not matches:
        return None
    labels = [match.group(match.lastindex) for match in matches]
    return (matches[0].group(1), labels) if len(set(labels)) == len(labels) else None


def parse_sample(line: str) -> tuple[str, Labels, float]:
    """Parse one line that is a sample: the name, the labels and the value."""
    if "\\" not in line:
        pieces = line.split('"')
        shape = _shape(tuple(pieces[:-1:2]))
        if shape and pieces[-1][:1] == "}":
            labels = sorted(zip(shape[1], pieces[1::2]))  # noqa: B905 (strict= came with Python 3.10)
            return shape[0], tuple(labels), _value(pieces[-1][1:], line)
    match = _NAME.match(line)
    if not match:
        raise ExpositionError(f"no metric name at the start of {_shown(line)}")
    name, position, labels = match.group(), match.end(), ()
    start = len(line) - len(line[position:].lstrip(" \t"))
    if line[start : start + 1] == "{":
        labels, position = _parse_labels(line, start + 1)
    elif start == position:
        raise ExpositionError(f"no value in {_shown(line)}")
    return name, labels, _value(line[position:], line)


def _complete_lines(chunks: Iterable[bytes]) -> Iterable[bytes]:
    """Regroup pieces so that each ends with a line's end."""
    held: list[bytes] = []  # joined only at a line's end: a body may come a byte at a time
    size = 0
    blank = True
    for chunk in chunks:
        if blank and chunk.strip():
            blank = False
            if chunk.lstrip().startswith(b"<"):
                raise ExpositionError("the answer is HTML or XML, not metrics")
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*held, chunk[:end]])
            held, size = [], 0
        held.append(chunk[end:])
        size += len(chunk) - end
        if size > MAX_LINE:
            raise ExpositionError(f"a line is longer than {MAX_LINE} bytes")
    if any(piece.strip() for piece in held):
        raise ExpositionError("the answer was cut off: its last line has no end")
    if blank:
        raise ExpositionError("the answer is empty")


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ExpositionError(f"not UTF-8: {line[:60]!r}") from exc


def read(chunks: Iterable[bytes], wanted: Iterable[str]) -> Exposition:
    """Return the series of the wanted metric names.

    Args:
        chunks: the body, in pieces of any size.
        wanted: sample names, such as ``sparklio_http_requests_total``.

    Raises:
        ExpositionError: a wanted line can't be read, a series stands there twice, or the body is cut off,
            empty or HTML.
    """
    # OpenMetrics declares counters without their suffix, so the search is for the shorter name.
    needles = {name: (name[: -len("_total")] if name.endswith("_total") else name).encode() for name in wanted}
    heads = {name: tuple(name.encode() + following for following in (b"{", b" ", b"\t")) for name in needles}
    samples: dict[str, dict[Labels, float]] = {}
    types: dict[str, str] = {}
    for block in _complete_lines(chunks):
        for name, needle in needles.items():
            end = -1
            while (position := block.find(needle, end + 1)) >= 0:
                start = block.rfind(b"\n", end + 1, position) + 1 or end + 1
                end = block.index(b"\n", position)
                before = block[start:position].strip(b" \t")
                if not before and block.startswith(heads[name], position):
                    line = _text(block[position:end]).rstrip(" \t\r")
                    _name, labels, value = parse_sample(line)
                    series = samples.setdefault(name, {})
                    if labels in series:
                        raise ExpositionError(f"the series {_shown(line)} stands there twice")
                    series[labels] = value
                elif before.startswith(b"#"):
                    fields = _text(block[start:end]).split(None, 3)
                    if len(fields) >= 3 and fields[0] == "#" and fields[1] in ("TYPE", "HELP"):
                        kind = fields[3].strip() if fields[1] == "TYPE" and len(fields) > 3 else "untyped"
                        if fields[2] == name and (kind != "untyped" or name not in types):
                            types[name] = kind
                        elif fields[2] == needle.decode() and kind == "counter":
                            types.setdefault(name, kind)
    return Exposition(samples, types)


def names(chunks: Iterable[bytes], limit: int = 10000) -> list[str]:
    """Return the metric names of a body, sorted: for the message after a name was not found.

    Raises:
        ExpositionError: a line is neither a comment nor begins with a metric name.
    """
    found: set[str] = set()
    for block in _complete_lines(chunks):
        for raw in block.split(b"\n"):
            line = raw.strip(b" \t\r")
            if not line or line.startswith(b"{"):
                continue
            if line.startswith(b"#"):
                fields = line.split(None, 3)
                if len(fields) >= 3 and fields[1] in (b"TYPE", b"HELP"):
                    found.add(_text(fields[2]))
                continue
            text = _text(line)
            match = _NAME.match(text)
            if not match or text[match.end() : match.end() + 1] not in ("{", " ", "\t"):
                raise ExpositionError(f"this is no line of metrics: {_shown(text)}")
            found.add(match.group())
            if len(found) >= limit:
                return sorted(found)
    return sorted(found)


def nearest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return the known names that look most like a misspelt one."""
    return difflib.get_close_matches(name, list(known), n=limit, cutoff=0.5)


class Selector(NamedTuple):
    """Conditions on labels, all of which must hold."""

    matchers: tuple[tuple[str, str, str], ...]

    def __str__(self) -> str:
        quoted = [(label, op, value.replace("\\", "\\\\").replace('"', '\\"')) for label, op, value in self.matchers]
        return ",".join(f'{label}{op}"{value}"' for label, op, value in quoted)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """As in PromQL: a label that is missing is an empty one, and regular expressions match in full."""
        for label, operator, value in self.matchers:
            actual = labels.get(label, "")
            hit = actual == value if operator in ("=", "!=") else re.fullmatch(value, actual, re.DOTALL) is not None
            if hit == operator.startswith("!"):
                return False
        return True


def parse_selector(text: str) -> Selector:
    """Read ``label="value"`` conditions joined by commas, in braces or not. Empty text selects everything.

    Source: Prometheus documentation, "Querying basics: Instant vector selectors". The expressions are
    Python's, which differ from RE2 only in what nobody writes in a selector.
    """
    body = text.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1]
    matchers: list[tuple[str, str, str]] = []
    position = 0
    while body[position:].strip():
        match = _MATCHER.match(body, position)
        if not match or body[match.end() : match.end() + 1] not in ("", ","):
            raise SelectorError(f'the selector {text!r} can\'t be read; expected for example status_code=~"5.."')
        label, operator, value = match.group(1), match.group(2), re.sub(r"\\(.)", _selector_escape, match.group(3))
        if operator in ("=~", "!~"):
            try:
                re.compile(value)
            except re.error as exc:
                raise SelectorError(f"{value!r} in the selector is no regular expression: {exc}") from exc
        matchers.append((label, operator, value))
        position = match.end() + 1
    return Selector(tuple(matchers))


def _selector_escape(match: re.Match[str]) -> str:
    # Prometheus wants "\\d" for \d; the single backslash that people write is taken as what they mean.
    return {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}.get(match.group(1), match.group())
