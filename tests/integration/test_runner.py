"""The documented ansible-runner example, run as it stands in docs/ansible-runner.md against the sandbox."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
INVENTORY = PROJECT / "inventories/sandbox"
ACTS = {"check", "preserve", "prepare", "switch", "validate", "record"}


def sandbox(*argv: str) -> str:
    done = subprocess.run(["bin/sandbox", *argv], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code block of the document, in a file of its own."""
    document = (PROJECT / "docs/ansible-runner.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, "docs/ansible-runner.md holds exactly one example"
    path = tmp_path_factory.mktemp("example") / "roll_back.py"
    path.write_text(blocks[0], encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def pristine() -> None:
    sandbox("reset")


def roll_back(example: Path, tag: str) -> tuple[int, dict]:
    done = subprocess.run(
        [sys.executable, str(example), str(PROJECT), str(INVENTORY), tag],
        cwd=example.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def served() -> str:
    return sandbox("ssh", "app", "git", "-C", "sparklio_ai_marketing_studio", "describe", "--tags").strip()


def test_a_refusal_is_an_outcome(example: Path) -> None:
    code, outcome = roll_back(example, "v4.0.20240101-0000")
    assert code != 0
    assert outcome["outcome"] == "refused"
    assert outcome["status"] == "failed"
    assert "v4.0.20240101-0000" in outcome["message"]
    assert served() == "v4.0.20250115-1600"


@pytest.fixture
def traffic() -> Iterator[None]:
    """Without requests the error rate is inconclusive, and so is the whole."""
    sandbox("traffic", "start")
    yield
    sandbox("traffic", "stop")


@pytest.mark.usefixtures("traffic")
def test_a_rollback_is_read_from_its_events(example: Path) -> None:
    code, outcome = roll_back(example, "v4.0.20250115-1430")
    assert code == 0, outcome
    assert outcome["outcome"] == "rolled_back"
    assert (outcome["from"], outcome["to"]) == ("v4.0.20250115-1600", "v4.0.20250115-1430")
    assert outcome["verdict"] == "pass"
    assert outcome["run_id"]
    assert set(outcome["seconds"]) == ACTS
    assert all(seconds >= 0 for seconds in outcome["seconds"].values())
    verdicts = {item["name"]: item for item in outcome["verdicts"]}
    assert len(verdicts) == len(outcome["verdicts"]) >= 7
    for item in verdicts.values():
        assert item["verdict"] in {"pass", "fail", "inconclusive", "error"}
        assert item["evidence"]
        assert not item["critical"] or item["verdict"] != "fail"
    assert served() == outcome["to"]


def test_the_same_again_is_unchanged(example: Path) -> None:
    code, outcome = roll_back(example, "v4.0.20250115-1430")
    assert code == 0
    assert outcome["outcome"] == "unchanged"
