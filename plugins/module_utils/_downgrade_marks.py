# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the downgrade() of one revision file does, read from its text: nothing of it is imported or run.

Names are followed as far as they are literals: through assignments, loops over literal sequences, f-strings, and
helper functions of the same file with their arguments. What is made at run time is said to be so, never left out.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: In the order in which they are told. The first three can't be taken back at all.
MARKS = (
    "missing",
    "raises",
    "empty",
    "autocommit",
    "loses_data",
    "changes_data",
    "reads_data",
    "unknown",
    "merge",
    "harmless",
)
IRREVERSIBLE = ("missing", "raises", "empty")
#: Kinds of ``drops`` that hold rows or values of their own.
LOSING = ("schema", "table", "column", "rows", "values", "sequence")
AT_RUN_TIME = "named at run time: the rehearsal tells"

_STEPS_MOST = 5000
_UNKNOWN = "\0"
_SAFE_MODULES = (
    *("alembic", "sqlalchemy", "pgvector", "geoalchemy2", "logging", "warnings", "os", "sys", "json", "datetime"),
    *("time", "uuid", "textwrap", "typing", "re", "enum", "collections", "itertools", "functools", "decimal"),
    *("__future__", "pathlib", "string", "math", "hashlib", "secrets"),
)
_QUIET_CALLS = (
    *("print", "len", "str", "int", "list", "tuple", "dict", "set", "sorted", "reversed", "range", "enumerate", "zip"),
    *("map", "filter", "any", "all", "next", "iter", "isinstance", "bool"),
)
_WRAPPERS = ("text", "dedent", "DDL", "str", "f", "strip", "quoted_name")
_EXECUTES = ("execute", "exec_driver_sql", "scalar", "scalars", "executemany", "exec")
_READS = ("fetchall", "fetchone", "query", "get_table_names", "get_columns", "has_table", "inspect", "get_indexes")
_HARMLESS_OPS = (
    *("add_column", "create_table", "create_foreign_key", "create_check_constraint", "create_unique_constraint"),
    *("create_primary_key", "create_exclude_constraint", "rename_table", "create_table_comment", "drop_table_comment"),
    *("create_index", "alter_column", "create_comment", "drop_comment"),
)
_DROP_OPS = {"drop_table": "table", "drop_column": "column", "drop_index": "index", "drop_constraint": "constraint"}
_TYPES = ("enum", "domain")
_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[\w$\x00]+)'
_QUALIFIED = rf"{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER})*"
_DROPPED = {
    "table": "table",
    "foreign table": "table",
    "schema": "schema",
    "sequence": "sequence",
    "index": "index",
    "type": "type",
    "domain": "type",
    "view": "view",
    "materialized view": "view",
    "extension": "extension",
    "function": "function",
    "procedure": "function",
    "aggregate": "function",
    "trigger": "trigger",
    "rule": "rule",
    "policy": "policy",
    "database": "schema",
    "owned by": "schema",
}
_DROP = re.compile(
    rf"DROP\s+({'|'.join(word.replace(' ', r'[ ]') for word in sorted(_DROPPED, key=len, reverse=True))})\s+"
    rf"(?:CONCURRENTLY\s+)?(?:IF\s+EXISTS\s+)?(.*)",
    re.I | re.S,
)
_ALTER_TABLE = re.compile(
    rf"ALTER\s+(?:FOREIGN\s+)?TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?({_QUALIFIED})\s*\*?\s+(.*)", re.I | re.S
)
_DROP_ACTION = re.compile(rf"DROP\s+(CONSTRAINT\s+|COLUMN\s+)?(?:IF\s+EXISTS\s+)?({_IDENTIFIER})", re.I)
_TYPE_ACTION = re.compile(rf"ALTER\s+(?:COLUMN\s+)?({_IDENTIFIER})\s+(?:SET\s+DATA\s+)?TYPE\b", re.I)
_TRUNCATE = re.compile(r"TRUNCATE\s+(?:TABLE\s+)?(?:ONLY\s+)?(.*)", re.I | re.S)
_DML = re.compile(rf"\b(DELETE\s+FROM|UPDATE|INSERT\s+INTO|MERGE\s+INTO|COPY)\s+(?:ONLY\s+)?({_QUALIFIED})", re.I)
_OWN_TRANSACTION = re.compile(
    r"(VACUUM|REINDEX\s+DATABASE|REINDEX\s+SYSTEM|CREATE\s+DATABASE|DROP\s+DATABASE|CREATE\s+TABLESPACE|"
    r"DROP\s+TABLESPACE|ALTER\s+SYSTEM|COMMIT|ROLLBACK(?!\s+TO)|BEGIN|START\s+TRANSACTION|END)\b",
    re.I,
)
_RUN_TIME_SQL = re.compile(r"(DO|CALL|SELECT|EXECUTE|PREPARE|VALUES)\b", re.I)
_TOKENS = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|(\$\w*\$).*?\1|"(?:[^"]|"")*"|.""",
    re.S,
)


class Note(NamedTuple):
    """One thing that a downgrade does: its mark, the line in the file, and why in one line."""

    mark: str
    line: int
    reason: str


class Drop(NamedTuple):
    """One thing that is gone afterwards. A name that is made at run time is None."""

    kind: str
    table: str | None
    name: str | None
    line: int


class Downgrade(NamedTuple):
    """What one revision file says of itself.

    Attributes:
        title: the first line of its docstring, or an empty text.
        marks: words of ``MARKS``, each once, in that order.
        notes: why, in the order of the lines.
        drops: what is gone afterwards, in the order of the lines.
    """

    title: str
    marks: tuple[str, ...]
    notes: tuple[Note, ...]
    drops: tuple[Drop, ...]

    def data(self) -> dict[str, Any]:
        """The same as plain data: ``title``, ``marks``, ``reasons`` and ``drops``."""
        return {
            "title": self.title,
            "marks": list(self.marks),
            "reasons": [note._asdict() for note in self.notes],
            "drops": [drop._asdict() for drop in self.drops],
        }


def drop_text(drop: Mapping[str, Any]) -> str:
    """A drop in words, such as ``column brands.tone``."""
    kind, table, name = drop["kind"], drop["table"], drop["name"]
    if kind in ("rows", "values"):
        word = "rows" if kind == "rows" else "former values"
        return f"{word} of {table}" if table else f"{word} of a table {AT_RUN_TIME}"
    if kind == "table":
        return f"table {table}" if table else f"a table {AT_RUN_TIME}"
    if name is None:
        return f"{_article(kind)} {kind}{f' of {table}' if table else ''} {AT_RUN_TIME}"
    return f"{kind} {table}.{name}" if kind == "column" and table else f"{kind} {name}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _name(text: str) -> str | None:
    """An SQL identifier as PostgreSQL stores it, or None where a part of it is made at run time."""
    if _UNKNOWN in text:
        return None
    parts = re.findall(_IDENTIFIER, text)
    return ".".join(part[1:-1].replace('""', '"') if part[0] == '"' else part.lower() for part in parts)


def statements(sql: str) -> list[str]:
    """The statements of an SQL text, without comments, with string literals and dollar quotes emptied."""
    found, text = [], ""
    for match in _TOKENS.finditer(sql):
        token = match[0]
        if token == ";":
            found.append(text)
            text = ""
        elif token.startswith(("--", "/*")):
            text += " "
        elif token[0] == "'":
            text += "''"
        elif match[1]:
            text += "$$"
        else:
            text += token
    return [part for part in (" ".join(item.split()) for item in [*found, text]) if part]


def _actions(text: str) -> list[str]:
    """The parts between commas outside of parentheses."""
    parts, depth = [""], 0
    for token in _TOKENS.finditer(text):
        char = token[0]
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def _names(text: str) -> list[str | None]:
    return [_name(match[0]) for part in _actions(text) if (match := re.match(_QUALIFIED, part))]


def sql_effects(sql: str, line: int) -> tuple[list[Note], list[Drop]]:
    """What an SQL text does, as far as its words tell.

    Args:
        sql: any number of statements; a NUL stands for a part that is made at run time.
        line: of the file it stands in.
    """
    notes: list[Note] = []
    drops: list[Drop] = []
    for statement in statements(sql):
        one_notes, one_drops = _statement_effects(statement, line)
        notes += one_notes
        drops += one_drops
    return notes, drops


def _statement_effects(sql: str, line: int) -> tuple[list[Note], list[Drop]]:
    notes: list[Note] = []
    drops: list[Drop] = []
    if re.search(r"\bCONCURRENTLY\b", re.sub(r'"(?:[^"]|"")*"', "", sql), re.I):
        notes.append(Note("autocommit", line, "CONCURRENTLY can't run in a transaction"))
    own = _OWN_TRANSACTION.match(sql)
    if own:
        notes.append(Note("autocommit", line, f"{' '.join(own[1].upper().split())} ends or can't be in a transaction"))
    dropped = _DROP.match(sql)
    alter = _ALTER_TABLE.match(sql)
    truncate = _TRUNCATE.match(sql)
    if dropped:
        kind = _DROPPED[" ".join(dropped[1].lower().split())]
        for name in _names(dropped[2]) or [None]:
            drops.append(Drop(kind, name if kind == "table" else None, None if kind == "table" else name, line))
    elif alter:
        table = _name(alter[1])
        for action in _actions(alter[2]):
            gone, cast = _DROP_ACTION.match(action), _TYPE_ACTION.match(action)
            if gone:
                kind = "constraint" if (gone[1] or "").strip().upper() == "CONSTRAINT" else "column"
                drops.append(Drop(kind, table, _name(gone[2]), line))
            elif cast:
                column = _name(cast[1]) or "a column"
                notes.append(Note("changes_data", line, f"{column} of {table or 'a table'} gets another type"))
    elif truncate:
        drops += [Drop("rows", name, None, line) for name in _names(truncate[1]) or [None]]
        notes.append(Note("changes_data", line, "TRUNCATE"))
    elif re.match(r"(WITH|DELETE|UPDATE|INSERT|MERGE|COPY)\b", sql, re.I):
        written = False
        for match in _DML.finditer(sql):
            word, table = match[1].split()[0].upper(), _name(match[2])
            # The words of SELECT … FOR UPDATE OF, ON CONFLICT DO UPDATE SET and MERGE … THEN UPDATE SET.
            if re.search(r"\b(FOR|KEY|DO|THEN)\s+$", sql[: match.start()], re.I):
                continue
            if word in ("DELETE", "UPDATE"):
                drops.append(Drop("rows" if word == "DELETE" else "values", table, None, line))
            notes.append(Note("changes_data", line, f"{word} of {table or 'a table ' + AT_RUN_TIME}"))
            written = True
        if not written:
            notes.append(Note("unknown", line, "a query that is run for what it does"))
    elif sql.startswith(_UNKNOWN):
        notes.append(Note("unknown", line, f"SQL {AT_RUN_TIME.replace('named', 'made')}"))
    elif _RUN_TIME_SQL.match(sql):
        word = sql.split()[0].upper()
        notes.append(Note("unknown", line, f"{word} runs code whose effect its text does not tell: the rehearsal does"))
    elif re.match(r"DROP\b", sql, re.I):
        drops.append(Drop("object", None, None, line))
    elif re.match(r"ALTER\s+TYPE\b.*\bDROP\s+ATTRIBUTE\b", sql, re.I):
        notes.append(Note("loses_data", line, "an attribute of a type is gone"))
    return notes, drops


class _Bound(NamedTuple):
    """What a name stands for where that is no literal: ``op``, ``batch`` (with its table), ``connection``, ``call``."""

    what: str
    value: Any = None


_NOTHING = object()


class _Reader:
    """Follows one function through its file, and notes what it comes by."""

    def __init__(self, tree: ast.Module) -> None:
        self.functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self.imported: dict[str, str] = {}
        self.notes: list[Note] = []
        self.drops: list[Drop] = []
        self.effects = 0
        self.steps = 0
        self.stack: list[str] = []
        self.top: dict[str, Any] = {}
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions[node.name] = node
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                self._import(node)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                self._assign(node, self.top)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        module = getattr(node, "module", None)
        for item in node.names:
            name = item.asname or item.name.split(".")[0]
            whole = item.name if isinstance(node, ast.Import) else f"{'.' * node.level}{module or ''}.{item.name}"
            self.imported[name] = whole

    # Values

    def value(self, node: ast.expr | None, env: Mapping[str, Any]) -> Any:
        """A literal's value (in texts, a NUL for a part made at run time), a ``_Bound``, or ``_NOTHING``."""
        if node is None:
            return _NOTHING
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return env.get(node.id, self.top.get(node.id, _NOTHING))
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            return [self.value(item, env) for item in node.elts]
        if isinstance(node, ast.Dict):
            return {
                self._text(self.value(key, env)): self.value(node.values[n], env) for n, key in enumerate(node.keys)
            }
        if isinstance(node, ast.JoinedStr):
            return "".join(self._text(self.value(_inner(part), env)) for part in node.values)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)):
            return self._combined(node, env)
        if isinstance(node, ast.Subscript):
            return self._item(node, env)
        if isinstance(node, ast.Call):
            return self._call_value(node, env)
        if isinstance(node, ast.IfExp):
            return self.value(node.body, env)
        return _NOTHING

    def _text(self, value: Any) -> str:
        return str(value) if isinstance(value, (str, int)) else _UNKNOWN

    def _combined(self, node: ast.BinOp, env: Mapping[str, Any]) -> Any:
        left, right = self.value(node.left, env), self.value(node.right, env)
        if isinstance(node.op, ast.Mod):
            if not isinstance(left, str):
                return _NOTHING
            return re.sub(r"%(\(\w+\))?[sdr]", _UNKNOWN if not isinstance(right, str) else right, left)
        if isinstance(left, list) and isinstance(right, list):
            return left + right
        if isinstance(left, str) or isinstance(right, str):
            return self._text(left) + self._text(right)
        return _NOTHING

    def _item(self, node: ast.Subscript, env: Mapping[str, Any]) -> Any:
        whole, key = self.value(node.value, env), self.value(node.slice, env)
        if isinstance(whole, list) and isinstance(key, int) and -len(whole) <= key < len(whole):
            return whole[key]
        if isinstance(whole, dict) and isinstance(key, str):
            return whole.get(key, _NOTHING)
        return _NOTHING

    def _call_value(self, node: ast.Call, env: Mapping[str, Any]) -> Any:
        name = _called(node.func)
        if name in ("get_bind", "connect", "begin", "Session", "Connection", "sessionmaker", "execution_options"):
            return _Bound("connection")
        if name == "format" and isinstance(node.func, ast.Attribute):
            text = self.value(node.func.value, env)
            return re.sub(r"\{[^{}]*\}", _UNKNOWN, text) if isinstance(text, str) else _NOTHING
        if name in ("strip", "lower", "upper") and isinstance(node.func, ast.Attribute):
            text = self.value(node.func.value, env)
            return text if isinstance(text, str) else _NOTHING
        if name in _WRAPPERS and node.args:
            return self.value(node.args[0], env)
        if name in ("bindparams", "execution_options", "columns") and isinstance(node.func, ast.Attribute):
            return self.value(node.func.value, env)
        if name in ("reversed", "sorted", "list", "tuple") and node.args:
            return self._listed(self.value(node.args[0], env))
        if name in ("items", "keys", "values") and isinstance(node.func, ast.Attribute):
            whole = self.value(node.func.value, env)
            if isinstance(whole, dict):
                pairs = [list(pair) for pair in whole.items()]
                return pairs if name == "items" else [pair[name == "values"] for pair in pairs]
        return _Bound("call", (node, dict(env)))

    def _listed(self, value: Any) -> Any:
        """What a loop over that value gives, as far as it is literal."""
        if isinstance(value, dict):
            return list(value)
        return value if isinstance(value, list) else _NOTHING

    def name_of(self, node: ast.expr | None, env: Mapping[str, Any]) -> str | None:
        """A name as literal text, or None where it is made at run time."""
        value = self.value(node, env)
        return value if isinstance(value, str) and _UNKNOWN not in value else None

    # Statements

    def run(self, body: Sequence[ast.stmt], env: dict[str, Any], certain: bool = True) -> bool:
        """Follow statements. Returns whether the rest of the function is never reached."""
        for node in body:
            self.steps += 1
            if self.steps > _STEPS_MOST:
                self.note("unknown", node, "the code is too long to be followed: the rehearsal tells")
                return True
            if self._statement(node, env, certain):
                return True
        return False

    def _statement(self, node: ast.stmt, env: dict[str, Any], certain: bool) -> bool:
        if isinstance(node, ast.Raise):
            self._raises(node, certain)
            return True
        if isinstance(node, ast.Return):
            self.expression(node.value, env)
            return True
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) and not node.test.value:
            self._raises(node, certain)
            return True
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.functions[node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            self.expression(node.value, env)
            self._assign(node, env)
        elif isinstance(node, (ast.Expr, ast.AugAssign)):
            return self.expression(node.value, env, certain)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            return self._with(node, env, certain)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            self._for(node, env)
        elif isinstance(node, ast.While):
            self.expression(node.test, env)
            self.run(node.body, env, False)
        elif isinstance(node, ast.If):
            self.expression(node.test, env)
            ends = [self.run(part, env, False) for part in (node.body, node.orelse)]
            return bool(node.orelse) and all(ends)
        elif isinstance(node, ast.Try):
            ended = self.run(node.body, env, certain and not node.handlers)
            for handler in node.handlers:
                self.run(handler.body, env, False)
            self.run(node.orelse, env, certain)
            return self.run(node.finalbody, env, certain) or (ended and not node.handlers)
        elif isinstance(node, ast.ClassDef):
            self.run(node.body, env, False)
        elif hasattr(node, "cases"):
            self.expression(node.subject, env)
            for case in node.cases:
                self.run(case.body, env, False)
        elif not isinstance(node, (ast.Pass, ast.Global, ast.Nonlocal, ast.Break, ast.Continue, ast.Delete)):
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.expr):
                    self.expression(part, env)
        return False

    def _raises(self, node: ast.Raise | ast.Assert, certain: bool) -> None:
        what = getattr(node, "exc", None)
        name = _called(what.func if isinstance(what, ast.Call) else what) if what is not None else None
        word = f"raises {name}" if name else "raises"
        if certain:
            self.note("raises", node, f"downgrade() {word}")
        else:
            self.note("unknown", node, f"{word} under a condition: the rehearsal tells")

    def _assign(self, node: ast.Assign | ast.AnnAssign, env: dict[str, Any]) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            self._bind(target, self.value(node.value, env), env)

    def _bind(self, target: ast.expr, value: Any, env: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            env[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            fits = isinstance(value, list) and len(value) == len(target.elts)
            for number, part in enumerate(target.elts):
                self._bind(part, value[number] if fits else _NOTHING, env)

    def _with(self, node: ast.With | ast.AsyncWith, env: dict[str, Any], certain: bool) -> bool:
        for item in node.items:
            call = item.context_expr
            name = _called(call.func) if isinstance(call, ast.Call) else ""
            bound: Any = self.value(call, env)
            if name == "batch_alter_table" and isinstance(call, ast.Call):
                bound = _Bound("batch", self._qualified(self.argument(call, 0, "table_name", env), call, env))
            else:
                self.expression(call, env)
            if item.optional_vars is not None:
                self._bind(item.optional_vars, bound, env)
        return self.run(node.body, env, certain)

    def _for(self, node: ast.For | ast.AsyncFor, env: dict[str, Any]) -> None:
        self.expression(node.iter, env)
        values = self._listed(self.value(node.iter, env))
        for value in values if isinstance(values, list) else [_NOTHING]:
            self._bind(node.target, value, env)
            self.run(node.body, env, False)
        self.run(node.orelse, env, False)

    # Calls

    def expression(self, node: ast.expr | None, env: dict[str, Any], certain: bool = False) -> bool:
        """Follow all calls in an expression, inner ones last. Returns whether it never comes back."""
        if node is None:
            return False
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            self._comprehension(node, env)
            return False
        if isinstance(node, (ast.Await, ast.Starred)):
            return self.expression(node.value, env, certain)
        if isinstance(node, ast.Lambda):
            return False
        if isinstance(node, ast.Call):
            return self.call(node, env, certain)
        if isinstance(node, ast.Attribute) and self._is_op(node.value):
            self.effects += 1
            self.note("unknown", node, f"op.{node.attr} is given on: the rehearsal tells what is done with it")
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.expr):
                self.expression(part, env)
        return False

    def _is_op(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and self.imported.get(node.id) == "alembic.op"

    def _comprehension(self, node: Any, env: dict[str, Any]) -> None:
        inner = dict(env)
        sources = []
        for generator in node.generators:
            self.expression(generator.iter, env)
            values = self._listed(self.value(generator.iter, inner))
            sources.append(values if isinstance(values, list) else [_NOTHING])
        for chosen in itertools.islice(itertools.product(*sources), _STEPS_MOST):
            for number, generator in enumerate(node.generators):
                self._bind(generator.target, chosen[number], inner)
            for part in (getattr(node, "elt", None), getattr(node, "key", None), getattr(node, "value", None)):
                self.expression(part, inner)

    def call(self, node: ast.Call, env: dict[str, Any], certain: bool) -> bool:
        """Note what one call does. Returns whether it never comes back."""
        self.steps += 1
        if self.steps > _STEPS_MOST:
            self.note("unknown", node, "the code is too long to be followed: the rehearsal tells")
            return True
        function, name = node.func, _called(node.func)
        if isinstance(function, ast.Name) and name in self.functions:
            self._arguments(node, env)
            return self._follow(self.functions[name], node, env, certain)
        if name == "partial" or name == "run_async" or name == "run_sync":
            self._given_functions(node, env, certain)
            return False
        base = function.value if isinstance(function, ast.Attribute) else None
        owner = self.value(base, env) if base is not None else _NOTHING
        if isinstance(owner, _Bound) and owner.what == "batch":
            self._operation(name, node, env, owner)
        elif name in _DROP_OPS or name in _HARMLESS_OPS or name == "bulk_insert":
            self._operation(name, node, env, None)
        elif name == "drop" or name == "drop_all":
            self._drops_itself(name, base, node, env)
        elif name in _EXECUTES and (base is not None or self._from(name, "alembic")):
            self._executes(node, base, env)
        elif name in ("commit", "autocommit_block"):
            self.effects += 1
            self.note("autocommit", node, f"{name}() commits what came before it")
        elif name in _READS or (name == "Session" and node.args):
            self.effects += 1
            self.note("reads_data", node, f"{name}() reads from the database, which no offline SQL can show")
        elif name in ("delete", "update") and base is not None and "query" in _chain(base):
            self.effects += 1
            self.note("changes_data", node, f"{name}() of rows {AT_RUN_TIME}")
            self._drop("rows" if name == "delete" else "values", None, None, node)
        else:
            self._other(name, node, env)
        if any(_is_autocommit(keyword) for keyword in node.keywords):
            self.effects += 1
            self.note("autocommit", node, "a connection in AUTOCOMMIT commits each statement at once")
        self._arguments(node, env)
        if base is not None:
            self.expression(base, env)
        return False

    def _arguments(self, node: ast.Call, env: dict[str, Any]) -> None:
        for part in (*node.args, *(keyword.value for keyword in node.keywords)):
            # What a type or a column is made with does nothing by itself.
            deep = not isinstance(part, ast.Call) or _called(node.func) in _QUIET_CALLS
            if deep or _called(part.func) in (*_READS, *self.functions, *_EXECUTES):
                self.expression(part, env)

    def argument(self, node: ast.Call, place: int, name: str, env: Mapping[str, Any]) -> ast.expr | None:
        for keyword in node.keywords:
            if keyword.arg == name:
                return keyword.value
        return node.args[place] if len(node.args) > place else None

    def _qualified(self, table: ast.expr | None, node: ast.Call, env: Mapping[str, Any]) -> str | None:
        name = self.name_of(table, env)
        schema = self.argument(node, 99, "schema", env)
        if schema is None or self.value(schema, env) is None:
            return name
        prefix = self.name_of(schema, env)
        return f"{prefix}.{name}" if prefix and name else None

    def _operation(self, name: str, node: ast.Call, env: dict[str, Any], batch: _Bound | None) -> None:
        """One of Alembic's own operations, of ``op`` or of a batch, whose table is the batch's."""
        self.effects += 1
        concurrently = self.value(self.argument(node, 99, "postgresql_concurrently", env), env)
        if concurrently is not _NOTHING and concurrently is not False:
            self.note("autocommit", node, "CONCURRENTLY can't run in a transaction")
        kind = _DROP_OPS.get(name)
        if kind == "table":
            self._drop("table", self._qualified(self.argument(node, 0, "table_name", env), node, env), None, node)
        elif kind == "column":
            if batch is None:
                table = self._qualified(self.argument(node, 0, "table_name", env), node, env)
                column = self.argument(node, 1, "column_name", env)
            else:
                table, column = batch.value, self.argument(node, 0, "column_name", env)
            self._drop("column", table, self.name_of(column, env), node)
        elif kind is not None:
            own = self.argument(node, 0, f"{kind}_name", env)
            if batch is None:
                table = self._qualified(self.argument(node, 1, "table_name", env), node, env)
            else:
                table = batch.value
            self._drop(kind, table, self.name_of(own, env), node)
        elif name == "alter_column":
            cast = self.value(self.argument(node, 99, "type_", env), env)
            if cast is not _NOTHING and cast is not None:
                table = batch.value if batch else self._qualified(self.argument(node, 0, "table_name", env), node, env)
                column = self.name_of(self.argument(node, 0 if batch else 1, "column_name", env), env)
                self.note("changes_data", node, f"{column or 'a column'} of {table or 'a table'} gets another type")
        elif name == "bulk_insert":
            self.note("changes_data", node, "rows are inserted")
        elif batch is not None and name not in _HARMLESS_OPS and name not in ("f", "create_foreign_key"):
            self.note("unknown", node, f"{name}() of a batch")

    def _drops_itself(self, name: str, base: ast.expr | None, node: ast.Call, env: dict[str, Any]) -> None:
        """``status.drop(bind)`` of an enum, a table or all of a metadata."""
        self.effects += 1
        owner = self.value(base, env) if base is not None else _NOTHING
        if name == "drop_all":
            self._drop("table", None, None, node)
            return
        if isinstance(owner, _Bound) and owner.what == "call":
            made, inner = owner.value
            word = _called(made.func).lower()
            named = self.argument(made, 99, "name", inner)
            if word in _TYPES:
                self._drop("type", None, self.name_of(named, inner), node)
            elif word == "sequence":
                self._drop("sequence", None, self.name_of(self.argument(made, 0, "name", inner), inner), node)
            elif word == "index":
                self._drop("index", None, self.name_of(self.argument(made, 0, "name", inner), inner), node)
            else:
                self._drop("table", self._qualified(self.argument(made, 0, "name", inner), made, inner), None, node)
            return
        self._drop("table", None, None, node)

    def _executes(self, node: ast.Call, base: ast.expr | None, env: dict[str, Any]) -> None:
        self.effects += 1
        if not node.args and not node.keywords:
            self.note("reads_data", node, f"{_called(node.func)}() of a query, which no offline SQL can show")
            return
        through_op = base is None or self._is_op(base) or _called(base) == "op"
        first = next(iter(node.args), None) or next((item.value for item in node.keywords), None)
        sql = self.value(first, env)
        if isinstance(sql, str):
            selects = [text for text in statements(sql) if re.match(r"(SELECT|VALUES|SHOW|TABLE)\b", text, re.I)]
            if selects and not through_op:
                self.note("reads_data", node, "a query on the connection, which no offline SQL can show")
                sql = ";".join(text for text in statements(sql) if text not in selects)
            notes, drops = sql_effects(sql, node.lineno)
            self.notes += notes
            for drop in drops:
                self._drop(drop.kind, drop.table, drop.name, node)
            return
        self._builds(node, first, sql, env)

    def _builds(self, node: ast.Call, first: ast.expr | None, sql: Any, env: dict[str, Any]) -> None:
        """A statement built by SQLAlchemy: ``users.update().values(...)``, ``sa.delete(users)``, ``sa.select(...)``."""
        if isinstance(sql, _Bound) and sql.what == "call":
            first, env = sql.value
        words = _chain(first) if first is not None else []
        verb = next((word for word in words if word in ("update", "delete", "insert", "select")), None)
        if verb == "select":
            self.note("reads_data", node, "a query on the connection, which no offline SQL can show")
        elif verb is not None:
            table = self._table_of(first, verb, env)
            self.note("changes_data", node, f"{verb.upper()} of {table or 'a table ' + AT_RUN_TIME}")
            if verb != "insert":
                self._drop("rows" if verb == "delete" else "values", table, None, node)
        else:
            self.note("unknown", node, "SQL made at run time: the rehearsal tells")

    def _table_of(self, node: ast.expr | None, verb: str, env: Mapping[str, Any]) -> str | None:
        """The table's name in such a chain, where a literal in this file tells it."""
        for call in ast.walk(node) if node is not None else ():
            if isinstance(call, ast.Call) and _called(call.func) == verb:
                of = call.args[0] if call.args else getattr(call.func, "value", None)
                made = self.value(of, env)
                if isinstance(made, _Bound) and made.what == "call":
                    table, inner = made.value
                    if _called(table.func).lower() == "table":
                        return self._qualified(self.argument(table, 0, "name", inner), table, inner)
        return None

    def _follow(self, function: Any, node: ast.Call, env: dict[str, Any], certain: bool) -> bool:
        """Go into a function of this file with what it is called with."""
        if function.name in self.stack:
            return False
        inner = {key: value for key, value in env.items() if key not in self.top}
        names = [item.arg for item in (*function.args.posonlyargs, *function.args.args)]
        inner.update({item: _NOTHING for item in (*names, *(item.arg for item in function.args.kwonlyargs))})
        defaults = function.args.defaults
        for number, default in enumerate(defaults):
            inner[names[len(names) - len(defaults) + number]] = self.value(default, env)
        for number, value in enumerate(node.args[: len(names)]):
            inner[names[number]] = self.value(value, env)
        if function.args.vararg:
            inner[function.args.vararg.arg] = [self.value(item, env) for item in node.args[len(names) :]]
        inner.update({item.arg: self.value(item.value, env) for item in node.keywords if item.arg})
        self.stack.append(function.name)
        before = len(self.notes)
        self.run(function.body, inner, certain)
        self.stack.pop()
        return certain and any(note.mark == "raises" for note in self.notes[before:])

    def _given_functions(self, node: ast.Call, env: dict[str, Any], certain: bool) -> None:
        """``op.run_async(f)`` and the like call the function that they are given."""
        followed = False
        for item in node.args:
            if isinstance(item, ast.Name) and item.id in self.functions:
                self._follow(self.functions[item.id], ast.Call(item, [], []), env, certain)
                followed = True
        if not followed:
            self.effects += 1
            self.note(
                "unknown", node, f"{_called(node.func)}() runs code that is not in this file: the rehearsal tells"
            )

    def _from(self, name: str, module: str) -> bool:
        return self.imported.get(name, "").split(".")[0] == module

    def _other(self, name: str, node: ast.Call, env: dict[str, Any]) -> None:
        """A call that is none of the known ones: harmless where it belongs to a known library, unknown elsewhere."""
        root = _root(node.func)
        origin = self.imported.get(root or "", None)
        if root is None or (root not in self.imported and root not in env and root not in self.top):
            known = name in _QUIET_CALLS or isinstance(node.func, ast.Attribute)
            if not known:
                self.effects += 1
                self.note("unknown", node, f"{name or 'a'}() is not in this file: the rehearsal tells what it does")
            return
        if origin is None:
            # Of an object it is taken for what it is called; a name of its own may be anything.
            if isinstance(node.func, ast.Name):
                self.effects += 1
                self.note("unknown", node, f"what {name}() does is not followed: the rehearsal tells")
            return
        direct = isinstance(node.func, ast.Name) or isinstance(getattr(node.func, "value", None), ast.Name)
        own = origin == "alembic.op" or origin.startswith("alembic.op.")
        if own and direct and name not in ("get_bind", "get_context", "f", "batch_alter_table"):
            self.effects += 1
            self.note("unknown", node, f"op.{name}() is none of Alembic's own operations: the rehearsal tells")
        elif origin.split(".")[0] not in _SAFE_MODULES:
            self.effects += 1
            self.note("unknown", node, f"{name}() comes from {origin}, not from this file: the rehearsal tells")

    # Findings

    def note(self, mark: str, node: ast.AST, reason: str) -> None:
        self.notes.append(Note(mark, getattr(node, "lineno", 0), reason))

    def _drop(self, kind: str, table: str | None, name: str | None, node: ast.AST) -> None:
        drop = Drop(kind, table, name, getattr(node, "lineno", 0))
        self.drops.append(drop)
        if kind in LOSING or (kind == "object"):
            self.note(
                "loses_data", node, f"{drop_text(drop._asdict())} {'are' if kind in ('rows', 'values') else 'is'} gone"
            )


def _inner(part: ast.expr) -> ast.expr:
    return part.value if isinstance(part, ast.FormattedValue) else part


def _called(node: ast.expr | None) -> str:
    """The last name of what is called: ``drop_table`` of ``op.drop_table``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _root(node: ast.expr) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _chain(node: ast.expr) -> list[str]:
    """The names in a chain such as ``sa.update(users).where(...)``, the last called first."""
    names = []
    while isinstance(node, (ast.Attribute, ast.Call)):
        if isinstance(node, ast.Call):
            node = node.func
            names.append(_called(node))
        if isinstance(node, ast.Attribute):
            node = node.value
        elif not isinstance(node, ast.Call):
            break
    return names


def _is_autocommit(keyword: ast.keyword) -> bool:
    return (
        keyword.arg == "isolation_level"
        and isinstance(keyword.value, ast.Constant)
        and str(keyword.value.value).upper() == "AUTOCOMMIT"
    )


def _followed(tree: ast.Module, name: str) -> tuple[_Reader, Any]:
    """A function of the file, and what was found in it. The function is None where the file has none of that name."""
    reader = _Reader(tree)
    function = reader.functions.get(name)
    if function is not None:
        reader.stack.append(name)
        try:
            reader.run(function.body, {})
        except RecursionError:
            reader.effects += 1
            reader.note("unknown", function, "the code is nested too deeply to be followed: the rehearsal tells")
    return reader, function


def read(source: str, down_revisions: Sequence[str] = ()) -> Downgrade:
    """Read what a revision file's downgrade() does.

    Args:
        source: the file's text. It must be valid Python.
        down_revisions: what the revision stands on. Several make it a merge.

    Raises:
        SyntaxError, ValueError: it is not valid Python.
    """
    tree = ast.parse(source)
    title = (ast.get_docstring(tree) or "").strip().split("\n")[0].strip()
    reader, function = _followed(tree, "downgrade")
    if function is None:
        return Downgrade(title, *_without(reader))
    if reader.effects == 0 and not any(note.mark == "raises" for note in reader.notes):
        reader.note(*_nothing(tree, function, len(set(down_revisions)) > 1))
    notes = sorted(dict.fromkeys(reader.notes), key=lambda note: note.line)
    marks = {note.mark for note in notes}
    if not marks:
        notes.append(Note("harmless", function.lineno, "nothing that holds data is dropped or changed"))
        marks.add("harmless")
    drops = sorted(dict.fromkeys(reader.drops), key=lambda drop: drop.line)
    return Downgrade(title, tuple(mark for mark in MARKS if mark in marks), tuple(notes), tuple(drops))


def _without(reader: _Reader) -> tuple[tuple[str, ...], tuple[Note, ...], tuple[Drop, ...]]:
    """A file that defines no downgrade(): it may still get one from elsewhere."""
    if "downgrade" in reader.imported or "downgrade" in reader.top:
        note = Note("unknown", 1, "downgrade() comes from elsewhere: the rehearsal tells what it does")
    else:
        note = Note("missing", 1, "there is no function downgrade()")
    return (note.mark,), (note,), ()


def _nothing(tree: ast.Module, function: Any, merges: bool) -> tuple[str, Any, str]:
    """What a downgrade() that does nothing means: that depends on what upgrade() does."""
    reader, _upgrade = _followed(tree, "upgrade")
    if reader.effects or any(note.mark == "raises" for note in reader.notes):
        return "empty", function, "downgrade() does nothing, and upgrade() does something"
    if merges:
        return "merge", function, "it brings branches together, and changes nothing"
    return "harmless", function, "downgrade() does nothing, and neither does upgrade()"
