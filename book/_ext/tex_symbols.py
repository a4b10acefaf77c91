r"""Symbols in formulas: ``S_k W_k`` holds S_k and W_k. One reader for the definitions shown and for their check."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What is read over: layout, relations and operators that every reader of the book knows.
OPERATORS = frozenset(
    re.findall(
        r"\\[a-zA-Z]+|\\.",
        r"""
        \, \; \! \quad \qquad \left \right \big \Big \bigl \bigr \Bigl \Bigr \cdot \times \to \mapsto \leftarrow \in
        \notin \subseteq \cup \cap \le \leq \ge \geq \ne \neq \approx \equiv \ll \gg \sim \propto \pm \top \infty
        \sum \prod \int \bigcup \bigcap \max \min \log \exp \ln \lim \arg \Pr \frac \tfrac \dfrac \sqrt \dots \ldots
        \cdots \vdots \langle \rangle \lfloor \rfloor \lceil \rceil \lVert \rVert \lvert \rvert \mid \forall \exists
        \begin \end \\ \{ \} \| \& \% \emptyset \limits \displaystyle \partial \nabla \odot \oplus \setminus
        \overset \underset \underbrace \text \textstyle \bmod \middle \hline \prime \star \lor \land \neg \circ
        \Rightarrow \iff \implies
        """,
    )
)
# The names of well-known functions, numbers and sets.
NAMES = frozenset(
    re.findall(
        r"\w+",
        r"""
        relu softmax concat LayerNorm sigmoid dropout layernorm bias emb lookup AUC argmax log exp max min mean
        """,
    )
)
WRAPPERS = {"mathcal", "mathbf", "mathbb", "vec", "hat", "tilde", "bar", "boldsymbol"}
INDEX = re.compile(r"[a-zA-Z0-9+-]$")
TEXT = re.compile(r"\\(?:text|textrm|textsf|texttt|label|begin|end|tag)\s*\{[^{}]*\}")
NAMED = re.compile(r"\\(?:operatorname|mathrm|mathit)\*?\s*\{([^{}]*)\}")
# Letters that stand together are one name, not a product: bg_i, emb_i(o), lookup_i^t.
WORDS = re.compile(r"(?<![\\a-zA-Z])(?<!mathop\{)(bg|emb|lookup|bucketize|AUC|all|self|vanilla)(?![a-zA-Z])")


@dataclass(frozen=True)
class Symbol:
    """A letter with its subscript and superscript, as TeX without blanks."""

    base: str
    sub: str = ""
    sup: str = ""

    def __str__(self) -> str:
        return self.base + (f"_{self.sub}" if self.sub else "") + (f"^{self.sup}" if self.sup else "")


def group_at(tex: str, start: int) -> tuple[str, int]:
    """What an argument at `start` holds, and where it ends: ``{...}``, a command or one character."""
    if start < len(tex) and tex[start] == "{":
        depth = 0
        for end in range(start, len(tex)):
            depth += {"{": 1, "}": -1}.get(tex[end], 0)
            if not depth:
                return tex[start + 1 : end], end + 1
        raise ValueError(f"a brace is not closed in {tex!r}")
    if command := re.compile(r"\\[a-zA-Z]+|\\.").match(tex, start):
        if command[0][1:] in WRAPPERS:
            argument, end = group_at(tex, command.end())
            return f"{command[0]}{{{argument}}}", end
        return command[0], command.end()
    return tex[start : start + 1], start + 1


def skip_blanks(tex: str, at: int) -> int:
    while at < len(tex) and tex[at].isspace():
        at += 1
    return at


def plain(script: str) -> str:
    """A subscript without blanks, but for the one that ends a command."""
    script = re.sub(r"\\mathop\{(\w+)\}", r"\1", script)
    return re.sub(r"(?<!\\)(\\[a-zA-Z]+)\s+(?=[a-zA-Z])|\s+", lambda m: f"{m[1]} " if m[1] else "", script)


def symbols_in(tex: str) -> list[Symbol]:
    """Every symbol of a formula in the order of reading; subscripts and exponents are read as formulas too."""
    tex = NAMED.sub(lambda match: rf"\mathop{{{match[1]}}}", TEXT.sub(" ", tex))
    tex = WORDS.sub(lambda match: rf"\mathop{{{match[1]}}}", tex)
    found: list[Symbol] = []
    at = 0
    while (at := skip_blanks(tex, at)) < len(tex):
        base = ""
        if tex[at] == "\\":
            command = re.compile(r"\\[a-zA-Z]+|\\.").match(tex, at)
            assert command
            name = command[0]
            at = command.end()
            if name == r"\mathop":
                base, at = group_at(tex, at)
            elif name[1:] in WRAPPERS:
                argument, at = group_at(tex, skip_blanks(tex, at))
                base = f"{name}{{{argument.strip()}}}"
            elif name not in OPERATORS and name[1].isalpha():
                base = name
        else:
            base = tex[at] if tex[at].isalpha() else ""
            at += 1
        scripts = {"_": "", "^": ""}
        while (mark := skip_blanks(tex, at)) < len(tex) and tex[mark] in "_^":
            argument, at = group_at(tex, skip_blanks(tex, mark + 1))
            scripts[tex[mark]] = plain(argument)
        if base and not (base in NAMES and not scripts["_"]):
            found.append(Symbol(base, scripts["_"], scripts["^"]))
        for script in scripts.values():
            if script and script not in {"all", "self", "vanilla", "+", "-"}:
                found += symbols_in(script)
    return found


@dataclass(frozen=True)
class Row:
    """One line of the notation page: the symbols it explains, how, and in which pages it holds (all, if none)."""

    symbols: str
    meaning: str
    shape: str
    pages: tuple[str, ...]


def read_rows(page: str) -> list[Row]:
    """The rows of all tables of a page in Markdown whose first column is a formula; {doc}`x` limits a row to x."""
    rows = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("$"):
            rows.append(
                Row(cells[0].replace("$", " "), cells[1], cells[2], tuple(re.findall(r"\{doc\}`(\w+)`", cells[3])))
            )
    return rows


class Notation:
    """Looks symbols up in the notation page."""

    def __init__(self, rows: list[Row]) -> None:
        self.by_base: dict[str, list[tuple[Symbol, Row]]] = {}
        for row in rows:
            # the index of an index is no definition of its own: bg_i explains bg, not i
            for symbol in outermost(row.symbols):
                self.by_base.setdefault(symbol.base, []).append((symbol, row))

    def explain(self, symbol: Symbol, page: str) -> Row | None:
        """The row of this very symbol, else of the same letter with another index; a power is no part of a name.

        A row that holds in `page` alone goes before one that holds everywhere.
        """
        known = [(name, row) for name, row in self.by_base.get(symbol.base, []) if not row.pages or page in row.pages]
        known.sort(key=lambda pair: not pair[1].pages)
        for match in (same, same_but_power, other_index, placeholder):
            for name, row in known:
                if match(name, symbol):
                    return row
        return None


def outermost(tex: str) -> list[Symbol]:
    """The symbols of a comma-separated list, without those in their subscripts; a tuple is none."""
    parts = [part.strip() for part in re.split(r",(?![^{(]*[})])", tex)]
    return [found[0] for part in parts if not part.startswith("(") and (found := symbols_in(part))]


def same(name: Symbol, symbol: Symbol) -> bool:
    return (name.sub, name.sup) == (symbol.sub, symbol.sup)


def same_but_power(name: Symbol, symbol: Symbol) -> bool:
    return name.sub == symbol.sub and not name.sup


def other_index(name: Symbol, symbol: Symbol) -> bool:
    shapes = [INDEX.sub("*", sub) for sub in (name.sub, symbol.sub)]
    return shapes in (["*", "*"], ["", "*"], [shapes[1]] * 2) and bool(symbol.sub) and name.sup in ("", symbol.sup)


def placeholder(name: Symbol, symbol: Symbol) -> bool:
    return name.sub.startswith("\\") and bool(symbol.sub)
