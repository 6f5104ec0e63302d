from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _env_keys
from hypothesis import given
from hypothesis import strategies as st

Need = _env_keys.Need


def needs(text, **others):
    return {need.key: need.firm for need in _env_keys.from_python({"a.py": text, **others})}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('import os\nos.environ["A"]', {"A": True}),
        ('from os import environ\nX = environ["A"] + "x"', {"A": True}),
        ('import os\nX = os.getenv("A")', {"A": False}),
        ('from os import getenv\ngetenv("A")', {"A": False}),
        ('import os\nos.environ.get("A")', {"A": False}),
        ('import os\nos.getenv("A", "x")', {}),
        ('import os\nos.environ.get("A", default="x")', {}),
        ('import os\nos.getenv("A") or "x"', {}),
        ('import os\nif os.getenv("A"): pass', {}),
        ('import os\nx = 1 if not os.getenv("A") else 2', {}),
        ('import os\nos.getenv("A") is None', {}),
        ('import os\nbool(os.getenv("A"))', {}),
        ('import os\nos.environ["A"] = "x"', {}),
        ('import os\ndel os.environ["A"]', {}),
        ('import os\nif "A" in os.environ:\n    x = os.environ["A"]', {}),
        ('import os\ntry:\n    x = os.environ["A"]\nexcept KeyError:\n    x = 1', {}),
        ('import os\ntry:\n    x = os.environ["A"]\nexcept OSError:\n    x = 1', {"A": True}),
        ("import os\nkey = 'A'\nos.environ[key]", {}),
        ('config = {}\nconfig["A"]\nconfig.get("B")', {}),
        ("this is (no Python", {}),
    ],
)
def test_reads_of_the_environment(text, expected):
    assert needs(text) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a: str", {"A": True}),
        ("a: str = 'x'", {}),
        ("a: str = ''", {}),
        ("a: str = ...", {"A": True}),
        ("a: str = Field(...)", {"A": True}),
        ("a: str = Field(default=...)", {"A": True}),
        ("a: str = Field('x')", {}),
        ("a: str = Field(default_factory=str)", {}),
        ("a: str = Field(description='d')", {"A": True}),
        ("a: str = Field(validation_alias='OTHER')", {"OTHER": True}),
        ("a: str = Field(alias=AliasChoices('ONE', 'TWO'))", {"ONE": True}),
        ("model_config = SettingsConfigDict(env_prefix='APP_')\n    a: str", {"APP_A": True}),
        ("model_config = {'env_prefix': 'app_'}\n    a: str", {"APP_A": True}),
        ("class Config:\n        env_prefix = 'OLD_'\n    a: str", {"OLD_A": True}),
        ("a: Optional[str]", {"A": True}),
        ("a: ClassVar[str]", {}),
        ("_a: str", {}),
        ("def a(self): ...", {}),
    ],
)
def test_fields_of_pydantic_settings(body, expected):
    assert needs(f"from pydantic_settings import BaseSettings\nclass Settings(BaseSettings):\n    {body}\n") == expected


def test_before_its_version_2_pydantic_gave_optional_fields_a_default():
    fields = "    a: Optional[str]\n    b: str | None\n    c: str\n"
    assert needs(f"from pydantic import BaseSettings\nclass S(BaseSettings):\n{fields}") == {"C": True}


def test_settings_are_known_by_descent_across_files():
    base = "from pydantic_settings import BaseSettings\nclass Base(BaseSettings):\n    a: str\n"
    assert needs(
        base, **{"b.py": "from a import Base\nclass More(Base):\n    b: str\nclass Model(BaseModel):\n    c: str\n"}
    ) == {
        "A": True,
        "B": True,
    }


def test_where_it_is_read_is_told():
    assert _env_keys.from_python({"app/x.py": "import os\n\nos.environ['A']"})[0].how == (
        "read without a default at app/x.py:3"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fetch(process.env.A)", ["A"]),
        ('fetch(process.env["A"])', ["A"]),
        ("fetch(process.env['A']!)", ["A"]),
        ("const url = `http://${process.env.A}/x`", ["A"]),
        ("fetch(process.env.A as string)", ["A"]),
        ("if (!process.env.A) throw new Error('A')", ["A"]),
        ("const f = () => process.env.A\nconst b = 1", ["A"]),
        ("process.env.A || 'x'", []),
        ("process.env.A ?? 'x'", []),
        ("process.env['A'] ?? 'x'", []),
        ("process.env.A\n  || 'x'", []),
        ("process.env.A?.trim()", []),
        ("process.env.A === 'x'", []),
        ("process.env.A = 'x'", []),
        ("process.env.A ? 1 : 2", []),
        ("if (process.env.A) {\n  use(process.env.A)\n}", []),
        ("process.env.A && use(process.env.A)", []),
        ("// process.env.A\n/* process.env.B\n */ x", []),
        ("const a = 'http://x'; use(process.env.A)", ["A"]),
        ("process.env.NODE_ENV", []),
        ("process.env", []),
        ("const all = process.env as Record<string, string>", []),
        ("process.env?.A", ["A"]),
        ("const debug = !!process.env.A", []),
        ("Boolean(process.env.A)", []),
        ("const key = 'A'; process.env[key]", []),
        ("use(process.env.A || 'x'); use(process.env.A)", ["A"]),
    ],
)
def test_reads_of_javascript(text, expected):
    found = _env_keys.from_javascript({"a.ts": text})
    assert [need.key for need in found] == expected
    assert not any(need.firm for need in found)


def test_where_javascript_reads_it_is_told_past_its_comments():
    text = "/* process.env.A\n\n*/\nuse(process.env.A)"
    assert _env_keys.from_javascript({"lib/x.ts": text})[0].how == "read without a default at lib/x.ts:4"


def test_an_example_names_what_it_gives_a_value():
    text = "# C=1\nexport A=x\nB=\nD='y' # z\n"
    assert [need.key for need in _env_keys.from_example("backend/.env.example", text)] == ["A", "D"]


@pytest.mark.parametrize(
    ("before", "after", "provided", "lost"),
    [
        (["A", "B"], ["A", "B"], [], []),
        (["A", "B"], ["A"], [], ["B"]),
        (["A", "B"], ["B"], [], ["A"]),
        (["A"], ["A"], [], []),
        ([], [], [], []),
        (["B"], [], [], ["B"]),
        (["A", "B"], [], ["A"], ["B"]),
        (["a", "b"], ["a", "b"], [], []),
    ],
)
def test_what_would_be_missing(before, after, provided, lost):
    found = _env_keys.missing([Need("A", "firm", True), Need("B", "soft", False)], before, after, provided)
    assert [need.key for need in found] == lost


@pytest.mark.parametrize(
    ("before", "after", "provided", "unmet"),
    [([], [], [], ["A"]), (["A"], [], [], []), ([], ["a"], [], []), ([], [], ["A"], []), (["B"], ["B"], [], ["A"])],
)
def test_what_is_met_neither_now_nor_then_is_told_where_it_is_firm(before, after, provided, unmet):
    found = _env_keys.unmet([Need("A", "firm", True), Need("B", "soft", False)], before, after, provided)
    assert [need.key for need in found] == unmet


@pytest.mark.parametrize(
    ("before", "after", "lost", "unmet"),
    [
        ({"ONE", "DB__HOST"}, {"TWO", "db__port"}, [], []),
        ({"TWO", "DB__HOST"}, {"DB__HOST"}, ["ONE"], []),
        ({"THREE", "DB"}, {"THREE"}, ["DB"], []),
        ({"DB__HOST", "TWO"}, {"DBX", "TWO"}, ["DB"], []),
        ({"DB_HOST"}, {"DB_HOST"}, [], ["DB", "ONE"]),
    ],
)
def test_other_names_and_nested_ones_do_too(before, after, lost, unmet):
    text = (
        "class Settings(BaseSettings):\n    model_config = SettingsConfigDict(env_nested_delimiter='__')\n    db: Db\n"
        "    a: str = Field(validation_alias=AliasChoices('ONE', 'TWO', AliasPath('THREE', 0, 'x')))\n"
    )
    found = _env_keys.from_python({"a.py": text})
    assert [need.key for need in _env_keys.missing(found, before, after)] == lost
    assert [need.key for need in _env_keys.unmet(found, before, after)] == unmet


def test_a_name_that_is_read_by_itself_too_must_be_there():
    text = "class S(BaseSettings):\n    a: str = Field(alias=AliasChoices('ONE', 'TWO'))\n"
    found = _env_keys.from_python({"a.py": text, "b.py": "os.environ['ONE']"})
    assert [need.how[-6:] for need in _env_keys.missing(found, ["ONE", "TWO"], ["TWO"])] == ["b.py:1"]
    assert _env_keys.missing(found, ["ONE", "TWO"], ["ONE"]) == []


@pytest.mark.parametrize("alias", ["env=['ONE', 'TWO']", "validation_alias=AliasPath('ONE', 'TWO')", "alias=name"])
def test_aliases_of_other_kinds(alias):
    found = _env_keys.from_python({"a.py": f"class S(BaseSettings):\n    a: str = Field({alias})\n"})[0]
    assert (found.key, *found.others) == {"e": ("ONE", "TWO"), "v": ("ONE",), "a": ("A",)}[alias[0]]


@given(st.text(max_size=80))
def test_any_text_is_read(text):
    assert isinstance(_env_keys.from_python({"a.py": text}), list)
    assert isinstance(_env_keys.from_javascript({"a.js": f"process.env.A{text}"}), list)
    assert isinstance(_env_keys.from_example("x", text), list)
