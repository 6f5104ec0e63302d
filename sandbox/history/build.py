#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the sandbox application's git history, with the same commit ids each time: build.py [--variant V] DEST.git

The first commit is sandbox/app; each later one is a folder of steps/: new files, and a patch for what changes.
Prints one JSON object: the branches and tags, each with its commit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
APP = HERE.parent / "app"
NOT_SOURCES = shutil.ignore_patterns("node_modules", ".next", "venv", ".venv", "__pycache__", ".env", ".env.local")


class Step(NamedTuple):
    """One commit. ``date`` is when it was made; its tag, where it has one, is made at the tag's own time."""

    name: str
    parent: str | None
    date: str
    message: str
    tag: str | None = None
    note: str = ""


BASE = (
    Step("base", None, "2025-01-10T08:40", "Sparklio V4", "v4.0.20250110-0900", "First release of V4"),
    Step("slugs", "base", "2025-01-11T17:05", "Give assets readable keys and mark the current page"),
    # Each of these differs from "slugs" by one fault; none of them reached main.
    Step(
        "broken-requirements",
        "slugs",
        "2025-01-12T10:45",
        "Use the shared client library",
        "v4.0.20250112-1100",
        "Can't be installed: requirements.txt names a package that doesn't exist",
    ),
    Step(
        "broken-build",
        "slugs",
        "2025-01-13T10:40",
        "Tidy the dashboard",
        "v4.0.20250113-1100",
        "The frontend does not build: a syntax error",
    ),
    Step(
        "broken-import",
        "slugs",
        "2025-01-14T10:50",
        "Ask for the region",
        "v4.0.20250114-1100",
        "The backend does not come up: it raises at import",
    ),
    Step(
        "unhealthy",
        "slugs",
        "2025-01-14T14:45",
        "Let health wait for the scheduler",
        "v4.0.20250114-1500",
        "The backend comes up and says that it is unhealthy",
    ),
    Step(
        "cache-expiry",
        "slugs",
        "2025-01-15T14:10",
        "Spread the expiry of cached lists",
        "v4.0.20250115-1430",
        "Stable",
    ),
    Step(
        "lanes",
        "cache-expiry",
        "2025-01-15T15:35",
        "Bound the database's load by lanes, and spread agent runs over slots",
        "v4.0.20250115-1600",
        "Lanes and slots",
    ),
    Step(
        "brand-learning",
        "lanes",
        "2025-01-16T09:30",
        "Let brands learn; drop lanes and slots again",
        "v4.0.20250116-1000",
        "Brand learning",
    ),
)
TWO_HEADS = Step(
    "two-heads",
    "brand-learning",
    "2025-01-17T09:40",
    "Add tags and labels, from two teams at once",
    "v4.0.20250117-1000",
    "Two Alembic heads",
)
MERGE = Step(
    "merge",
    "two-heads",
    "2025-01-18T09:35",
    "Merge the two heads",
    "v4.0.20250118-1000",
    "One Alembic head again",
)
TWO_ROOTS = Step(
    "two-roots",
    "brand-learning",
    "2025-01-17T10:30",
    "Keep events for analytics, in a history of their own",
    "v4.0.20250117-1100",
    "Two Alembic heads that share no root",
)
DEVELOP = Step("develop", "brand-learning", "2025-01-16T11:20", "Say what develop is for")

# Steps, and the one that main points to. develop is the same in all.
VARIANTS: dict[str, tuple[tuple[Step, ...], str]] = {
    "plain": ((*BASE, DEVELOP), "brand-learning"),
    "two-heads": ((*BASE, DEVELOP, TWO_HEADS), "two-heads"),
    "merge": ((*BASE, DEVELOP, TWO_HEADS, MERGE), "merge"),
    "two-roots": ((*BASE, DEVELOP, TWO_ROOTS), "two-roots"),
}


def isolated(home: Path) -> dict[str, str]:
    """Return an environment in which no configuration of the user or the machine changes what git writes."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TZ": "UTC",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Sparklio Team",
        "GIT_AUTHOR_EMAIL": "team@sparklio.example",
        "GIT_COMMITTER_NAME": "Sparklio Team",
        "GIT_COMMITTER_EMAIL": "team@sparklio.example",
    }


def tag_date(tag: str) -> str:
    day, _, minute = tag.rpartition(".")[2].partition("-")
    return f"{day[:4]}-{day[4:6]}-{day[6:]}T{minute[:2]}:{minute[2:4]}:00+0000"


def build(destination: Path, variant: str = "plain") -> dict[str, str]:
    """Make the bare repository, whole or not at all, and return its branches and tags, each with its commit."""
    if destination.exists():
        raise FileExistsError(f"{destination} exists; remove it first")
    destination.parent.mkdir(parents=True, exist_ok=True)
    steps, tip = VARIANTS[variant]
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".history-") as scratch:
        tree, home, bare = Path(scratch, "tree"), Path(scratch, "home"), Path(scratch, "bare.git")
        home.mkdir()
        environment = isolated(home)

        def git(*words: str, date: str | None = None) -> str:
            dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date} if date else {}
            done = subprocess.run(
                ["git", *words], cwd=tree, env={**environment, **dates}, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"git {' '.join(words)}: {done.stderr.strip()}")
            return done.stdout.strip()

        shutil.copytree(APP, tree, ignore=NOT_SOURCES)
        git("init", "--quiet", "--template=", "--object-format=sha1", "--initial-branch=main", ".")
        # Which bits a checkout of the sources carries must not show in the ids.
        git("config", "core.fileMode", "false")
        git("config", "core.autocrlf", "false")
        commits: dict[str, str] = {}
        for step in steps:
            if step.parent:
                git("checkout", "--quiet", "--force", "--detach", commits[step.parent])
                source = HERE / "steps" / step.name
                if (source / "change.patch").exists():
                    git("apply", "--index", "--whitespace=nowarn", str(source / "change.patch"))
                if (source / "files").exists():
                    shutil.copytree(source / "files", tree, ignore=NOT_SOURCES, dirs_exist_ok=True)
            git("add", "--all")
            git("commit", "--quiet", "--no-verify", "--message", step.message, date=f"{step.date}:00+0000")
            commits[step.name] = git("rev-parse", "HEAD")
            if step.tag:
                git("tag", "--annotate", "--message", step.note, step.tag, date=tag_date(step.tag))
        git("branch", "--force", "develop", commits["develop"])
        git("checkout", "--quiet", "--force", "-B", "main", commits[tip])
        git("clone", "--quiet", "--bare", "--template=", "--no-local", ".", str(bare))
        git("--git-dir", str(bare), "remote", "remove", "origin")
        form = "%(refname:short) %(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)"
        refs = dict(
            line.split() for line in git("--git-dir", str(bare), "for-each-ref", f"--format={form}").splitlines()
        )
        # A temporary directory is private; a repository that others clone from isn't.
        bare.chmod(0o755)
        bare.rename(destination)
    return refs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="plain")
    parser.add_argument("destination", type=Path, metavar="DEST.git")
    options = parser.parse_args()
    try:
        refs = build(options.destination.absolute(), options.variant)
    except (OSError, RuntimeError) as problem:
        print(f"build.py: {problem}", file=sys.stderr)
        return 1
    print(json.dumps(refs, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
