from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _systemd
from hypothesis import given
from hypothesis import strategies as st

SHOWN = """LoadState=loaded
ActiveState=active
MainPID=812
CanReload=no
Environment=SECRET_KEY=abc "NAMES=two words" $'LINES=a\\nb' EMPTY=
EnvironmentFiles=/srv/app/backend/.env (ignore_errors=yes)
EnvironmentFiles=/etc/default/app (ignore_errors=no)
"""
VALUES = {"A": "file", "B": "file"}


def test_a_unit_is_read_from_what_systemctl_shows():
    unit = _systemd.parse(SHOWN)
    assert (unit.loaded, unit.active, unit.reloadable, unit.pid) == (True, True, False, 812)
    assert unit.names == {"SECRET_KEY", "NAMES", "LINES", "EMPTY"}
    assert unit.files == ("/srv/app/backend/.env", "/etc/default/app")


def test_a_unit_that_is_not_there():
    unit = _systemd.parse("LoadState=not-found\nActiveState=inactive\nMainPID=0\nCanReload=no\nEnvironment=\n")
    assert unit == _systemd.Unit(False, False, False, 0, frozenset(), ())


def test_what_can_not_be_parsed_is_not_known():
    assert _systemd.parse('Environment=A=1 "B=\n').names is None


@pytest.mark.parametrize(
    ("environment", "fixed", "renewed", "unread", "found"),
    [
        # The unit has A, with whatever value.
        ({"A": "file", "B": "file"}, {"A"}, False, False, (["A"], [])),
        ({"A": "other"}, {"A"}, True, False, (["A"], [])),
        # A script that reads the file gave A on; B is from elsewhere.
        ({"A": "file", "B": "other"}, set(), False, False, (["B"], [])),
        # All that is there comes from the file, or did once: at a restart it is read anew.
        ({"A": "file", "B": "once", "C": "once"}, set(), True, False, ([], [])),
        # What of it comes from a file that may not be read, nobody knows. C is not there at all.
        ({"A": "file", "B": "other"}, {"A"}, True, True, (["A"], ["B"])),
        # The process may not be seen: what systemctl shows is all there is.
        (None, {"A", "Z"}, True, False, (["A"], [])),
        (None, {"A"}, False, True, (["A"], ["B", "C"])),
    ],
)
def test_what_the_unit_sets_by_itself(environment, fixed, renewed, unread, found):
    assert _systemd.own(["A", "B", "C"], environment, VALUES, fixed, renewed, unread) == found


@given(st.text())
def test_any_output_is_borne(text):
    _systemd.parse(text)
    _systemd.parse(f"Environment={text}")
