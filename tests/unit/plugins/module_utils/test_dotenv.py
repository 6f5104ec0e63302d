from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _dotenv
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("export A=1\n  B = 2 \n", {"A": "1", "B": "2"}),
        ("A=x#y # comment\nB= # none\n# C=3\nD=#4", {"A": "x#y", "B": "", "D": "#4"}),
        ("A='x # y'\nB=\"a\\nb # c\" # note\nC='it\\'s'", {"A": "x # y", "B": "a\nb # c", "C": "it's"}),
        ("\ufeffA=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("URL=postgresql://u:p=w@h/db?x=1&y=2", {"URL": "postgresql://u:p=w@h/db?x=1&y=2"}),
        ("이름=스파클리오  # 한글 주석\nB=값 둘", {"이름": "스파클리오", "B": "값 둘"}),
        ('A="one\ntwo"\nB=3', {"A": "one\ntwo", "B": "3"}),
        ('A="one\r\ntwo"\r\nB=3\r', {"A": "one\ntwo", "B": "3"}),
        ("A=1\nA=2", {"A": "2"}),
        ("JUST_A_NAME\nB=1", {"B": "1"}),
        ("= nothing\n'unterminated\nB=1", {"B": "1"}),
        ("A='open\nB=2", {"B": "2"}),
        ("P=secret\nU=redis://:${P}@h/${N:-3}\nV=${MISSING}", {"P": "secret", "U": "redis://:secret@h/3", "V": ""}),
        ("", {}),
    ],
)
def test_reads(text, expected):
    assert _dotenv.parse(text) == expected


def test_the_environment_comes_first_in_references():
    assert _dotenv.parse("A=file\nB=${A}", {"A": "outer"})["B"] == "outer"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r$"), max_size=40))
def test_a_single_quoted_value_comes_back_as_it_is(value):
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    assert _dotenv.parse(f"A='{quoted}'\nB=1") == {"A": value, "B": "1"}


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_read(text):
    assert all(isinstance(value, str) for value in _dotenv.parse(text).values())
