# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which variables a program needs: from its Python, its JavaScript and its ``.env.example``. Runs none of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils import _dotenv

#: What a file must hold to be worth parsing.
SIGNS = ("environ", "getenv", "Settings")
JAVASCRIPT_SIGNS = ("process",)
#: What Node.js and Next.js set by themselves.
_SET_BY_NODE = {"NODE_ENV", "NEXT_RUNTIME"}
#: A comment, or a text in which the signs of one mean nothing. The two slashes of an address are no comment.
_JAVASCRIPT_TOKEN = re.compile(
    r"""(?<!:)//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`""", re.DOTALL
)
_JAVASCRIPT_READ = re.compile(
    r"""\bprocess\s*\.\s*env\s*(?:\??\.\s*(?P<name>[A-Za-z_]\w*)|(?:\?\.)?\[\s*(["'`])(?P<text>[A-Za-z_]\w*)\2\s*\])"""
)
#: What follows a read whose being undefined is thought of: a default, a comparison, ``?.``; or what is no read.
_JAVASCRIPT_COPED = re.compile(r"\s*(?:\|\||\?\?|\?\.|[=!]==?|=(?![=>]))")
#: What follows one that is asked for first, so that the rest of the file can do without.
_JAVASCRIPT_ASKED = re.compile(r"\s*(?:&&|\?(?![?.]))")
_JAVASCRIPT_IF = re.compile(r"\bif\s*\(\s*$")
_JAVASCRIPT_CLOSED = re.compile(r"\s*\)")
_JAVASCRIPT_BOOLEAN = re.compile(r"(?:!!|\bBoolean\s*\()\s*$")
_ENVIRONMENTS = ("environ", "environb")


class Need(NamedTuple):
    """One variable that is read. ``firm``: the code that reads it fails without it.

    Any of ``others`` does in its place, and so does one whose name begins with any of them and ``delimiter``, if set.
    """

    key: str
    how: str
    firm: bool
    others: tuple[str, ...] = ()
    delimiter: str = ""


def from_python(sources: Mapping[str, str]) -> list[Need]:
    """Return what Python files read from the environment and have no default for, by key.

    A file that does not parse is left out: it is none of the program that runs.

    Args:
        sources: path to text.
    """
    trees = {}
    for path, text in sources.items():
        try:
            trees[path] = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            continue
    settings = _settings_classes(trees.values())
    found: dict[tuple[str, ...], Need] = {}
    for path, tree in sorted(trees.items()):
        optional = _tested(tree)
        reads = [((key,), "", line, firm) for key, line, firm in _environment_reads(tree)]
        reads += [(names, delimiter, line, True) for names, delimiter, line in _settings_fields(tree, settings)]
        for names, delimiter, line, firm in reads:
            if optional & set(names):
                continue
            need = Need(names[0], f"read without a default at {path}:{line}", firm, names[1:], delimiter)
            # What can be met in other ways too is another need.
            same = (*names, delimiter)
            if same not in found or (firm and not found[same].firm):
                found[same] = need
    return [found[same] for same in sorted(found)]


def from_javascript(sources: Mapping[str, str]) -> list[Need]:
    """Return what JavaScript or TypeScript reads from ``process.env`` and has no default for, by key.

    None is firm: what is not there is ``undefined``, and the program starts all the same.

    Args:
        sources: path to text.
    """
    found: dict[str, Need] = {}
    for path, source in sorted(sources.items()):
        text = _JAVASCRIPT_TOKEN.sub(_blank_comment, source)
        reads, asked = [], set(_SET_BY_NODE)
        for match in _JAVASCRIPT_READ.finditer(text):
            key = match["name"] or match["text"]
            before, after = text[max(0, match.start() - 40) : match.start()], match.end()
            tested = _JAVASCRIPT_IF.search(before) and _JAVASCRIPT_CLOSED.match(text, after)
            if tested or _JAVASCRIPT_ASKED.match(text, after):
                asked.add(key)
            elif not (_JAVASCRIPT_COPED.match(text, after) or _JAVASCRIPT_BOOLEAN.search(before)):
                reads.append((key, text.count("\n", 0, match.start()) + 1))
        for key, line in reads:
            if key not in asked:
                found.setdefault(key, Need(key, f"read without a default at {path}:{line}", False))
    return [found[key] for key in sorted(found)]


def _blank_comment(match: re.Match[str]) -> str:
    """Nothing in place of a comment, but its lines; any other text as it is."""
    return re.sub(r"[^\n]", " ", match[0]) if match[0].startswith("/") else match[0]


def from_example(path: str, text: str) -> list[Need]:
    """Return the variables that an example file gives a value. An empty value says that it may be empty.

    Args:
        path: how the file is named to the reader.
        text: its text.
    """
    values = _dotenv.parse(text)
    return [Need(key, f"named in {path}", False) for key, value in sorted(values.items()) if value]


def missing(
    needs: Iterable[Need], before: Iterable[str], after: Iterable[str], provided: Iterable[str] = ()
) -> list[Need]:
    """Return the needs that are met, and would not be any more: what the change takes away.

    Args:
        needs: of one service.
        before: keys that its files set now.
        after: keys that they would set.
        provided: keys that it has from elsewhere, such as those of files that no restore point touches.
    """
    now, then = [*before], [*after, *provided]
    return _by_key(need for need in needs if _met(need, now) and not _met(need, then))


def unmet(
    needs: Iterable[Need], before: Iterable[str], after: Iterable[str], provided: Iterable[str] = ()
) -> list[Need]:
    """Return the firm needs that the files meet neither now nor then: what runs does without, or has it elsewhere.

    Args:
        needs: as for ``missing``, and so are the others.
    """
    every = [*before, *after, *provided]
    return _by_key(need for need in needs if need.firm and not _met(need, every))


def _met(need: Need, keys: Iterable[str]) -> bool:
    # pydantic's settings don't tell upper from lower case.
    there = {key.upper() for key in keys}
    names = [name.upper() for name in (need.key, *need.others)]
    nested = tuple(f"{name}{need.delimiter.upper()}" for name in names if need.delimiter)
    return not there.isdisjoint(names) or any(key.startswith(nested) for key in there)


def _by_key(needs: Iterable[Need]) -> list[Need]:
    """One need a key, sorted; a firm one rather than another."""
    found: dict[str, Need] = {}
    for need in needs:
        key = need.key.upper()
        if key not in found or (need.firm and not found[key].firm):
            found[key] = need
    return [found[key] for key in sorted(found)]


def _name(node: ast.AST) -> str:
    """The last part of a dotted name, or nothing."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    return node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _settings_classes(trees: Iterable[ast.AST]) -> set[str]:
    """Names of the classes that descend from pydantic's BaseSettings, in whichever file."""
    parents = {
        node.name: {_name(base) for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    known = {"BaseSettings"}
    while True:
        more = {name for name, bases in parents.items() if bases & known} - known
        if not more:
            return known - {"BaseSettings"}
        known |= more


def _tested(tree: ast.AST) -> set[str]:
    """Keys that are asked for first: ``"KEY" in os.environ``."""
    return {
        str(_text(node.left))
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and _text(node.left)
        and isinstance(node.ops[0], (ast.In, ast.NotIn))
        and _name(node.comparators[0]) in _ENVIRONMENTS
    }


def _guarded(tree: ast.AST) -> set[ast.AST]:
    """All that lies in a ``try`` which copes with a missing key."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(
            handler.type is None or {_name(part) for part in ast.walk(handler.type)} & {"KeyError", "Exception"}
            for handler in node.handlers
        ):
            for statement in node.body:
                found.update(ast.walk(statement))
    return found


def _coped_with(tree: ast.AST) -> set[ast.AST]:
    """Expressions whose being empty is thought of: ``x or y``, ``if x``, ``x is None``, ``bool(x)``."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.BoolOp):
            found.update(node.values)
        elif isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)):
            found.add(node.test)
        elif isinstance(node, ast.UnaryOp):
            found.add(node.operand)
        elif isinstance(node, ast.Compare):
            found.update([node.left, *node.comparators])
        elif isinstance(node, ast.Call) and _name(node.func) == "bool":
            found.update(node.args)
        elif isinstance(node, ast.NamedExpr) and node in found:
            found.add(node.value)
    return found


def _environment_reads(tree: ast.AST) -> Iterator[tuple[str, int, bool]]:
    """Key, line, and whether it must be there, of each read of the environment that has no default."""
    guarded, coped = _guarded(tree), _coped_with(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _name(node.value) in _ENVIRONMENTS:
            key = _text(node.slice)
            if key and node not in guarded:
                yield key, node.lineno, True
        elif isinstance(node, ast.Call):
            asks = _name(node.func) == "getenv" or (
                isinstance(node.func, ast.Attribute)
                and node.func.attr == "get"
                and _name(node.func.value) in _ENVIRONMENTS
            )
            key = _text(node.args[0]) if asks and len(node.args) == 1 and not node.keywords else None
            if key and node not in coped:
                yield key, node.lineno, False


def _setting(node: ast.ClassDef, name: str) -> str:
    """``env_prefix`` or the like of a settings class, by ``model_config`` or the older ``class Config``."""
    for part in ast.walk(node):
        if isinstance(part, ast.keyword) and part.arg == name:
            return _text(part.value) or ""
        if isinstance(part, ast.Assign) and any(_name(target) == name for target in part.targets):
            return _text(part.value) or ""
        if isinstance(part, ast.Dict):
            for index, key in enumerate(part.keys):
                if _text(key) == name:
                    return _text(part.values[index]) or ""
    return ""


def _aliases(node: ast.AST | None) -> list[str]:
    """The names of an alias: a text, a list of them, ``AliasChoices``, or the variable of an ``AliasPath``."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return [name for part in node.elts for name in _aliases(part)]
    if isinstance(node, ast.Call):
        parts = node.args[:1] if _name(node.func) == "AliasPath" else node.args
        return [name for part in parts for name in _aliases(part)]
    text = _text(node)
    return [text] if text else []


def _field(value: ast.AST | None) -> tuple[bool, list[str]]:
    """Whether a field has a default, and the names that it is read by where those are others."""
    if not isinstance(value, ast.Call) or _name(value.func) != "Field":
        return value is not None and not (isinstance(value, ast.Constant) and value.value is Ellipsis), []
    words: dict[str | None, Any] = {word.arg: word.value for word in value.keywords}
    first = value.args[0] if value.args else words.get("default")
    has_default = (
        first is not None and not (isinstance(first, ast.Constant) and first.value is Ellipsis)
    ) or "default_factory" in words
    alias = next((words[name] for name in ("validation_alias", "alias", "env") if name in words), None)
    return has_default, _aliases(alias)


def _settings_fields(tree: ast.AST, settings: set[str]) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """Names, delimiter of nested ones, and line of each field of pydantic's settings that has no default."""
    older = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "pydantic"
        and any(name.name == "BaseSettings" for name in node.names)
        for node in ast.walk(tree)
    )
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or node.name not in settings:
            continue
        prefix, delimiter = _setting(node, "env_prefix"), _setting(node, "env_nested_delimiter")
        for line in node.body:
            if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
                continue
            name, annotation = line.target.id, ast.dump(line.annotation)
            if name.startswith("_") or name == "model_config" or "'ClassVar'" in annotation:
                continue
            has_default, aliases = _field(line.value)
            # Before its version 2, pydantic gave Optional fields the default None.
            if has_default or (older and re.search(r"'Optional'|BitOr", annotation)):
                continue
            yield tuple(aliases) or (f"{prefix}{name}".upper(),), delimiter, line.lineno
