from __future__ import annotations

from ansible_collections.sparklio.rollback.plugins.module_utils import _alembic_steps

MARKER = "sparklio-1f0c:"


def test_answers_are_told_from_all_else_that_is_printed():
    lines = [
        "INFO  [alembic.runtime.migration] Running downgrade",
        f'{MARKER}{{"ready": true}}',
        "",
        f'env.py says {MARKER}{{"ready": "no"}}',
        'sparklio-0000:{"error": "of another run"}',
        f'{MARKER}{{"half',
        f'{MARKER}{{"error": null, "note": "한글"}}',
    ]
    assert list(_alembic_steps.answers(lines, MARKER)) == [{"ready": True}, {"error": None, "note": "한글"}]


def test_a_failure_names_its_revision_in_one_line_without_secrets():
    answer = {"revision": "r2", "error": "OperationalError: password hunter22\nis wrong"}
    said = _alembic_steps.failure(answer, ["hunter22"])
    assert said.startswith("revision r2 failed: OperationalError: ") and "hunter22" not in said and "\n" not in said
    assert _alembic_steps.failure({"error": "Refused: elsewhere", "revision": None}) == "Refused: elsewhere"
    assert len(_alembic_steps.failure({"error": "x" * 5000})) <= 501


def test_the_script_is_python_that_old_hosts_can_run():
    import ast

    ast.parse(_alembic_steps.SCRIPT, feature_version=(3, 9))
