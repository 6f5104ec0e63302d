from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from ansible_collections.sparklio.rollback.plugins.action import sql_lint

ARGS = {
    "sql": [{"revision": "a", "sql": "SELECT 1;"}, {"revision": "b", "sql": "\nALTER TABLE users DROP COLUMN 이름;"}],
    "program": None,
    "exclude": list(sql_lint._squawk.EXCLUDED),
    "pg_version": "15.0",
    "in_transaction": True,
    "timeout": 20,
}


@pytest.fixture
def program(tmp_path):
    def make(text):
        path = tmp_path / "squawk"
        path.write_text(
            f"#!{sys.executable}\nimport os, sys, time\n"
            f"if '--version' in sys.argv: sys.exit(print('squawk 9.1'))\n{text}"
        )
        path.chmod(0o755)
        return {**ARGS, "program": str(path)}

    return make


def test_without_the_program_it_says_so(monkeypatch):
    found = sql_lint.lint({**ARGS, "program": "/nowhere/squawk"})
    assert found["findings"] is None and "pip install squawk-cli" in found["reason"]
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sql_lint.sys, "executable", "/nowhere/python")
    assert "not installed" in sql_lint.lint(ARGS)["reason"]


def test_the_real_one():
    if not (shutil.which("squawk") or (Path(sys.executable).parent / "squawk").exists()):
        pytest.skip("squawk is not installed")
    found = sql_lint.lint(ARGS)
    assert found["reason"] is None and found["version"][0].isdigit()
    assert [(item["revision"], item["rule"], item["line"]) for item in found["findings"]] == [
        ("b", "ban-drop-column", 2)
    ]
    found = sql_lint.lint({**ARGS, "sql": [{"revision": "x", "sql": "ALTER TALE users"}]})
    assert {item["level"] for item in found["findings"]} == {"error"}
    assert sql_lint.lint({**ARGS, "sql": []})["findings"] == []


def test_nobody_else_can_read_the_sql_and_it_is_gone_afterwards(program, tmp_path):
    args = program(
        "seen = os.path.join(os.path.dirname(sys.argv[0]), 'seen')\n"
        "open(seen, 'w').write(os.getcwd() + ' %o' % os.stat('.').st_mode)\n"
        "assert open('0001.sql').read().endswith('이름;')\nprint('[]')"
    )
    assert sql_lint.lint(args) == {"findings": [], "reason": None, "version": "9.1"}
    folder, mode = (tmp_path / "seen").read_text().split()
    assert mode == "40700" and not Path(folder).exists()


@pytest.mark.parametrize(
    ("text", "timeout", "said"),
    [
        ("time.sleep(30)", 0.8, "gave no answer within 1 s"),
        ("sys.exit('config is wrong')", 20, "it said: config is wrong"),
    ],
)
def test_a_linter_that_fails_is_no_failure(program, text, timeout, said):
    found = sql_lint.lint({**program(text), "timeout": timeout})
    assert found["findings"] is None and said in found["reason"]


def test_a_linter_that_can_not_be_run(tmp_path):
    path = tmp_path / "squawk"
    path.write_text("#!/nowhere/interpreter\n")
    path.chmod(0o755)
    assert "can't be run" in sql_lint.lint({**ARGS, "program": str(path)})["reason"]
