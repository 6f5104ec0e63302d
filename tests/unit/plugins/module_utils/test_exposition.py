from __future__ import annotations

import math
import tracemalloc

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

NAME = "sparklio_http_requests_total"


def read(text: str, *names: str, size: int = 0) -> ex.Exposition:
    raw = text.encode()
    size = size or len(raw) or 1
    return ex.read((raw[start : start + size] for start in range(0, len(raw), size)), names or (NAME,))


def one(text: str) -> tuple[dict[str, str], float]:
    ((labels, value),) = read(text).samples[NAME].items()
    return dict(labels), value


class Fixed:
    def __init__(self, families):
        self.families = families

    def collect(self):
        return self.families


label_names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,5}", fullmatch=True).filter(
    lambda name: name not in ("le", "quantile")
)
label_values = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
metric_names = st.sampled_from([NAME, "sparklio_http_requests", "x" + NAME, "other", "other_total", NAME + "_extra"])


@st.composite
def expositions(draw):
    families = []
    for name in draw(st.lists(metric_names, max_size=4, unique_by=lambda name: name.removesuffix("_total"))):
        labels = draw(st.lists(label_names, max_size=3, unique=True))
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        family = kind(name, draw(label_values), labels=labels)
        count = 4 if labels else 1
        for values in draw(st.lists(st.tuples(*[label_values for _ in labels]), max_size=count, unique=True)):
            family.add_metric(values, draw(st.floats()))
        families.append(family)
    registry = CollectorRegistry()
    registry.register(Fixed(families))
    return generate_latest(registry).decode()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(expositions(), st.integers(1, 80))
def test_reads_what_prometheus_client_reads(text, size):
    wanted = (NAME, "other", "sparklio_http_requests")
    expected: dict[str, dict] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in wanted:
                expected.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    if not text.strip():
        return
    found = read(text, *wanted, size=size).samples
    assert {name: set(series) for name, series in found.items()} == {
        name: set(series) for name, series in expected.items()
    }
    for name, series in expected.items():
        for labels, value in series.items():
            got = found[name][labels]
            assert got == value or (math.isnan(got) and math.isnan(value))


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(raw) + 1) for place in places})
    return [raw[start:end] for start, end in zip([0, *ends], [*ends, len(raw)], strict=True)]


def same(found: dict, families, wanted: tuple[str, ...]) -> bool:
    """Whether the series are those of prometheus_client, NaN included."""
    expected: dict[str, dict] = {}
    for family in families:
        for sample in family.samples:
            if sample.name in wanted:
                expected.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = repr(float(sample.value))
    return expected == {name: {key: repr(value) for key, value in series.items()} for name, series in found.items()}


# What people, frameworks and attackers put into labels: each piece is one that some parser trips over.
PIECES = [
    '"',
    "\\",
    "\n",
    "\\n",
    ",",
    "{",
    "}",
    "=",
    "#",
    " # {",
    '"} 1',
    "TYPE",
    " ",
    "\t",
    "\r",
    "\x85",
    "\u2028",
    "한글",
]
hostile = st.lists(st.sampled_from([*PIECES, "🙂", NAME, f"\n{NAME} 1\n", ""]), max_size=4).map("".join)
blanks = st.sampled_from(["", " ", "\t", "  "])
values = st.one_of(
    st.floats().map(repr),
    st.sampled_from(["NaN", "+Inf", "-Inf", "0", "-0.0", "1e308", "1E-7", "9" * 30, "+4", ".5", "7."]),
    st.integers().map(str),
)


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@st.composite
def hostile_pages(draw):
    """Text as the format allows it, and not only as one library prints it."""
    lines = []
    for name in draw(st.lists(metric_names, min_size=1, max_size=4, unique=True)):
        if draw(st.booleans()):
            lines.append(f"# HELP {name} {draw(hostile).replace(chr(10), ' ')}")
        if draw(st.booleans()):
            lines.append(f"# TYPE {name} {draw(st.sampled_from(['gauge', 'untyped']))}")
        labels = draw(st.lists(label_names, max_size=3, unique=True))
        for row in draw(st.lists(st.tuples(*[hostile for _ in labels]), max_size=4 if labels else 1, unique=True)):
            s = [draw(blanks) for _ in range(5)]
            inside = ",".join(
                f'{s[0]}{label}{s[1]}={s[2]}"{escaped(value)}"{s[3]}' for label, value in zip(labels, row, strict=True)
            )
            inside += draw(st.sampled_from(["", ","])) if labels else ""
            braces = f"{s[4]}{{{inside}}}{s[0]}" if labels or draw(st.booleans()) else " "
            stamp = draw(st.sampled_from(["", " 1700000000000", "\t-1", " 1700000000000  "]))
            lines.append(
                f"{s[1]}{name}{braces}{draw(blanks)}{draw(values)}{stamp}{draw(st.sampled_from(['', chr(13)]))}"
            )
        lines += draw(st.sampled_from([[], [""], ["# a comment"], [f"# {NAME} 1"], ["#"], [f"#{NAME} 2"]]))
    return "\n".join([*lines, "up 1", ""])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hostile_pages(), st.lists(st.integers(0, 5000), max_size=8))
def test_reads_hostile_text_in_pieces_as_prometheus_client_does(text, places):
    wanted = (NAME, "other", "sparklio_http_requests")
    found = ex.read(cut(text.encode(), places), wanted).samples
    assert same(found, text_string_to_metric_families(text), wanted)


@st.composite
def openmetrics_pages(draw):
    labels = draw(st.lists(label_names, max_size=3, unique=True))
    lines = ["# TYPE sparklio_http_requests counter", "# HELP sparklio_http_requests " + escaped(draw(label_values))]
    for row in draw(st.lists(st.tuples(*[hostile for _ in labels]), max_size=4 if labels else 1, unique=True)):
        pairs = ",".join(f'{label}="{escaped(value)}"' for label, value in zip(labels, row, strict=True))
        line = f"{NAME}{{{pairs}}} {draw(st.floats(0, 1e18))}"
        line += draw(st.sampled_from(["", " 1700000000.123"]))
        # No quotes in exemplars: prometheus_client does not know \\" there.
        line += draw(
            st.sampled_from(["", " # {} 0", ' # {trace_id="KOO5S4vxi0o"} 0.67', ' # {a="#,}",b="한"} 1 1.7e9'])
        )
        lines.append(line)
    return "\n".join([*lines, "# EOF", ""])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(openmetrics_pages(), st.lists(st.integers(0, 2000), max_size=8))
def test_reads_openmetrics_as_prometheus_client_does(text, places):
    found = ex.read(cut(text.encode(), places), [NAME])
    assert same(found.samples, openmetrics_families(text), (NAME,))
    assert found.types == {NAME: "counter"}


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_words(raw):
    try:
        ex.read([raw, b"\n"], [NAME])
        ex.names([NAME.encode() + b" 1\n", raw, b"\n"])
    except ex.ExpositionError as exc:
        assert str(exc)


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        (f"{NAME} 3\n", {}, 3),
        (f"  \t{NAME}\t3 1700000000000\n", {}, 3),
        (f"{NAME}{{}} +Inf\n", {}, math.inf),
        (f'{NAME}{{a="1",}} 1e3\n', {"a": "1"}, 1000),
        (f'{NAME} {{ a = "x" , b="}}" }} 2\r\n', {"a": "x", "b": "}"}, 2),
        (f'{NAME}{{a="q\\"q\\\\n\\nz"}} 4\n', {"a": 'q"q\\n\nz'}, 4),
        (f'{NAME}{{a="1"}} 5 # {{trace_id="x y"}} 0.5 1.7e9\n# EOF\n', {"a": "1"}, 5),
        (f'{NAME}{{a="# TYPE"}} 6\n', {"a": "# TYPE"}, 6),
        (f'{NAME}{{"a.b"="utf"}} 7\n', {"a.b": "utf"}, 7),
        (f'{NAME}{{경로="한글"}} 1\n'.replace("경로", "p"), {"p": "한글"}, 1),
    ],
)
def test_forms_of_a_line(line, labels, value):
    assert one(line) == (labels, value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{NAME} 1", "cut off"),
        (f'{NAME}{{a="1"}} 2\n{NAME}{{a="1"}} 3\n', "twice"),
        (f'{NAME}{{a="1",a="2"}} 3\n', "stands twice"),
        (f'{NAME}{{a="1" b="2"}} 3\n', "labels can't be read"),
        (f'{NAME}{{a="1\n', "labels can't be read"),
        (f'{NAME}{{a="\\x"}} 3\n', "labels can't be read"),
        (f"{NAME} \n", "no value"),
        (f"{NAME} 1 2 3\n", "expected a value"),
        (f"{NAME} 1_000\n", "not a number"),
        (f"{NAME} 0x10\n", "not a number"),
        (f"{NAME} ١\n", "not a number"),
        (f"{NAME} 1\x1f2\n", "not a number"),
        (f"{NAME} 1 soon\n", "not a number"),
        (f'{NAME}{{a="1"}} 1_0\n', "not a number"),
        (f'{NAME}{{a="1"\n', "labels can't be read"),
        (f'{NAME}{{1a="1"}} 3\n', "labels can't be read"),
        (f'{NAME}{{a="1"}}\n', "expected a value"),
        (f"{NAME} 1 # what\n", "no exemplar"),
        ("<!DOCTYPE html>\n<html>\n", "HTML"),
        ("", "empty"),
        ("\n  \n", "empty"),
        ("a" * (ex.MAX_LINE + 2), "longer than"),
    ],
)
def test_refuses(text, message):
    with pytest.raises(ex.ExpositionError, match=message):
        read(text)


def test_a_declared_counter_without_series_is_known():
    text = f"# HELP {NAME} Requests\n# TYPE {NAME} counter\n"
    assert read(text) == ex.Exposition({}, {NAME: "counter"})
    assert read("# TYPE other counter\n") == ex.Exposition({}, {})


def test_openmetrics_declares_the_counter_without_its_suffix():
    registry = CollectorRegistry()
    family = CounterMetricFamily(NAME, "Requests", labels=["code"])
    registry.register(Fixed([family]))
    assert read(generate_openmetrics(registry).decode()).types == {NAME: "counter"}


def test_a_gauge_of_the_shorter_name_is_another_metric():
    assert read("# TYPE sparklio_http_requests gauge\nsparklio_http_requests 3\n") == ex.Exposition({}, {})


def test_memory_follows_the_answer_and_not_the_body():
    filler = b'filler{x="abcdefgh"} 1\n' * 3000

    def body():
        for _ in range(300):
            yield filler
        yield f"{NAME} 5\n".encode()

    tracemalloc.start()
    try:
        assert ex.read(body(), [NAME]).samples == {NAME: {(): 5.0}}
        assert tracemalloc.get_traced_memory()[1] < 4 * len(filler)
    finally:
        tracemalloc.stop()


def test_a_body_may_come_in_crumbs():
    comment = b"# " + b"x" * (ex.MAX_LINE // 2) + b"\n"
    raw = 3 * comment + f'{NAME}{{a="1"}} 5\n'.encode()
    pieces = (raw[at : at + 5] for at in range(0, len(raw), 5))
    assert ex.read(pieces, [NAME]).samples == {NAME: {(("a", "1"),): 5.0}}


def test_names_and_the_nearest():
    raw = b'# TYPE sparklio_workflows_total counter\nsparklio_http_requests_total{a="1"} 1\nup 1\n'
    known = ex.names([raw])
    assert known == ["sparklio_http_requests_total", "sparklio_workflows_total", "up"]
    assert ex.nearest("sparklio_http_request_total", known)[0] == "sparklio_http_requests_total"
    assert ex.nearest("zzz", known) == []
    with pytest.raises(ex.ExpositionError, match="no line of metrics"):
        ex.names([b'{"status":"ok"}\nhello, world\n'])


@pytest.mark.parametrize(
    ("selector", "labels", "hit"),
    [
        ("", {}, True),
        ("{}", {"a": "1"}, True),
        ('status_code=~"5.."', {"status_code": "503"}, True),
        ('status_code=~"5.."', {"status_code": "5033"}, False),
        ('status_code=~"5.."', {}, False),
        ('{status=~"error|timeout"}', {"status": "timeout"}, True),
        ('endpoint!~"/health|/metrics"', {"endpoint": "/health"}, False),
        ('endpoint!~"/health|/metrics"', {"endpoint": "/healthy"}, True),
        ('a!="1", b="x,}"', {"a": "2", "b": "x,}"}, True),
        ('a=""', {}, True),
        ('a=~"\\\\d+"', {"a": "42"}, True),
        ('a=~"\\d+"', {"a": "42"}, True),
        ('a="q\\"q"', {"a": 'q"q'}, True),
    ],
)
def test_selectors_match_as_in_promql(selector, labels, hit):
    parsed = ex.parse_selector(selector)
    assert parsed.matches(labels) is hit
    assert ex.parse_selector(str(parsed)) == parsed


@pytest.mark.parametrize("selector", ["status_code", "a=1", 'a=="1"', 'a="1" b="2"', 'a=~"("', "a='1'", 'a="1'])
def test_selectors_that_make_no_sense(selector):
    with pytest.raises(ex.SelectorError):
        ex.parse_selector(selector)
