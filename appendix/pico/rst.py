"""reStructuredText to plain text: what pico reads of Python's documentation.

Paragraphs become one line each, roles and literals become `code`, headings get # signs, code blocks stay as
they are, and each `.. function::` and its like shows its qualified signature with the description indented
below, as Sphinx prints it. Markup that is only technical (index entries, labels, comments) disappears. On the
way the cleaner collects every documented name, from which the questions and answers are made.
"""
import re
from dataclasses import dataclass, field


@dataclass
class Entry:
    """One documented name: what the question-answer pairs are made of."""
    kind: str                # function, class, method, exception, data, attribute …
    name: str                # qualified: textwrap.wrap, str.split, os.path.join
    signature: str           # textwrap.wrap(text, width=70, …)
    text: str                # the description's first paragraph, cleaned
    doc: str                 # library/textwrap


@dataclass
class Context:
    """Where the cleaner is: the module and class it is inside of, and the entries found so far."""
    doc: str = ""
    module: str = ""
    scope: str = ""
    entries: list = field(default_factory=list)
    adornments: list = field(default_factory=list)


CALLABLE_ROLES = {"func", "meth", "c:func", "cfunc"}
PLAIN_ROLES = {"term", "ref", "doc", "dfn", "abbr", "menuselection", "guilabel", "sup", "sub", "title-reference",
               "source", "data-ref", "download", "mailheader", "mimetype", "newsgroup", "manpage", "numref"}
NUMBER_ROLES = {"pep": "PEP ", "rfc": "RFC ", "issue": "bpo-", "gh": "gh-", "cve": "CVE-", "cwe": "CWE-"}


def inline(text: str) -> str:
    """Inline markup to plain text: roles and literals become `code`, emphasis and links lose their marks."""
    kept: list[str] = []

    def keep(code: str) -> str:
        kept.append(code)
        return f"\x00{len(kept) - 1}\x00"

    def role(match):
        name, body = match[1].lower(), match[2]
        label = re.fullmatch(r"(.*?)\s*<([^<>]+)>", body, re.DOTALL)
        shown = label[1] if label and label[1] else body
        if name in NUMBER_ROLES:
            return shown if label and label[1] else NUMBER_ROLES[name] + shown
        if name in PLAIN_ROLES:
            return shown
        if not label:
            shown = shown.lstrip("!")
            shown = shown[1:].split(".")[-1] if shown.startswith("~") else shown.lstrip(".")
        if name in CALLABLE_ROLES and not label and not shown.endswith(")") and " " not in shown:
            shown += "()"
        return keep(f"`{shown}`")

    text = re.sub(r"``(.+?)``(?!`)", lambda m: keep(f"`{m[1]}`"), text)
    text = re.sub(r":([a-zA-Z][\w:+-]*):`([^`]+)`", role, text)
    text = re.sub(r"`([^`<]+?)\s*<[^`>]+>`__?", r"\1", text)
    text = re.sub(r"`([^`]+)`__?", r"\1", text)
    text = re.sub(r"(?<![\w*\\])\*\*(?=\S)(.+?)(?<=\S)\*\*(?!\w)", r"\1", text)
    text = re.sub(r"(?<![\w*\\])\*(?=[^\s*])(.+?)(?<=[^\s\\])\*(?![\w*])", r"\1", text)
    text = re.sub(r"(\[[\w#*]+\])_\b", r"\1", re.sub(r"(\[[\w#*]+\])_(?!\w)", r"\1", text))
    text = re.sub(r"\|([\w.-][\w. -]*)\|_?", r"\1", text)
    text = re.sub(r"\b(\w+)_(?=[\s.,;)]|$)", r"\1", text)
    text = re.sub(r"\\(\s|$)", "", text)
    text = re.sub(r"\\(.)", r"\1", text)
    while "\x00" in text:
        text = re.sub("\x00(\\d+)\x00", lambda m: kept[int(m[1])], text)
    return text


OBJECTS = {"function", "class", "method", "exception", "data", "attribute", "decorator", "coroutinemethod",
           "classmethod", "staticmethod", "abstractmethod", "coroutinefunction", "awaitablefunction",
           "awaitablemethod", "decoratormethod"}
OTHER_OBJECTS = {"c:function", "c:member", "c:type", "c:var", "c:macro", "c:struct", "cmdoption", "option", "opcode",
                 "envvar", "pdbcommand", "2to3fixer", "describe", "object"}
VERBATIM = {"code-block", "doctest", "testcode", "testoutput", "sourcecode", "parsed-literal", "productionlist",
            "highlight-block", "epigraph"}
BOXES = {"note": "Note:", "warning": "Warning:", "seealso": "See also:", "important": "Important:",
         "caution": "Caution:", "impl-detail": "CPython implementation detail:", "tip": "Tip:"}
TRANSPARENT = {"topic", "sidebar", "table", "list-table", "glossary", "only", "figure", "rubric", "centered"}
BULLET = re.compile(r"([*+-]|#\.|\d+[.)]|\(\d+\)|\([a-z]\)|[a-zA-Z][.)])(\s+)(?=\S)")
ADORNMENT = re.compile(r"([=\-`:'\"~^_*+#<>.!])\1{2,}\s*$")


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def dedent(lines: list[str]) -> list[str]:
    """The lines without their common indentation, and without blank lines around them."""
    margin = min((indent_of(x) for x in lines if x.strip()), default=0)
    out = [x[margin:] if x.strip() else "" for x in lines]
    while out and not out[0]:
        out.pop(0)
    while out and not out[-1]:
        out.pop()
    return out


def shift(lines: list[str], by: int) -> list[str]:
    return [" " * by + x if x else "" for x in lines]


def block(lines: list[str], start: int, at_least: int = 1) -> int:
    """Index after the run of lines from `start` that are blank or indented by `at_least`."""
    end = start
    while end < len(lines) and (not lines[end].strip() or indent_of(lines[end]) >= at_least):
        end += 1
    return end


def directive(name: str, argument: str, body: list[str], ctx: Context) -> list[str]:
    """One explicit directive as plain lines; unknown and purely technical ones vanish."""
    key = name.lower().removeprefix("py:")
    if key == "module" or key == "currentmodule":
        ctx.module, ctx.scope = argument.strip(), ""
        return []
    if key in OBJECTS or key in OTHER_OBJECTS:
        signatures = [argument]
        while body and body[0].strip() and not body[0].strip().startswith(":"):
            line = body.pop(0)
            if signatures[-1].endswith("\\"):
                signatures[-1] = signatures[-1][:-1].rstrip() + " " + line.strip()
            else:
                signatures.append(line.strip())
        while body and body[0].strip().startswith(":"):
            body.pop(0)
        signatures = [re.sub(r"\s+", " ", s.replace("\\", "")).strip() for s in signatures if s.strip()]
        return documented(key, signatures, dedent(body), ctx)
    while body and re.match(r"\s*:[\w-]+:", body[0]):          # options such as :linenos:
        body.pop(0)
    if key in VERBATIM:
        return ["", *shift(dedent(body), 3), ""]
    if key in ("versionadded", "versionchanged", "deprecated", "deprecated-removed"):
        verb = {"versionadded": "New in version", "versionchanged": "Changed in version"}.get(key, "Deprecated since version")
        version, _, rest = argument.partition(" ")
        if key == "deprecated-removed":
            later, _, rest = rest.strip().partition(" ")
            version += f", will be removed in version {later}"
        text = render([rest.strip(), *dedent(body)] if rest.strip() and body and body[0].strip()
                      else [rest.strip(), "", *dedent(body)] if rest.strip() else dedent(body), ctx)
        return ["", f"{verb} {version}: {text[0]}", *text[1:], ""] if text else ["", f"{verb} {version}.", ""]
    if key in BOXES:
        inner = render([argument.strip(), *dedent(body)] if argument.strip() else dedent(body), ctx)
        return ["", f"{BOXES[key]} {inner[0]}", *inner[1:], ""] if inner else []
    if key == "availability":
        return ["", f"Availability: {inline(argument)}", ""]
    if key in TRANSPARENT:
        head = [inline(argument), ""] if key in ("rubric", "topic", "sidebar") and argument else []
        return ["", *head, *render(dedent(body), ctx), ""]
    return []                                                   # index, toctree, highlight, include, image …


def documented(kind: str, signatures: list[str], body: list[str], ctx: Context) -> list[str]:
    """A documented object: its qualified signatures, then its description, indented as Sphinx shows it."""
    shown, outer = [], ctx.scope
    for signature in signatures:
        bare = re.split(r"[(\[\s]", signature, maxsplit=1)[0] if kind in OBJECTS else ""
        if kind in ("function", "class", "exception", "data", "decorator", "coroutinefunction", "awaitablefunction"):
            prefix = ctx.module + "." if ctx.module and not bare.startswith(ctx.module + ".") else ""
            prefix += outer + "." if outer and not ctx.module and kind not in ("data", "exception") else ""
            qualified = prefix + bare
        else:
            qualified = ".".join(p for p in (ctx.module, outer, bare) if p) if outer else \
                ".".join(p for p in (ctx.module if not bare.startswith(ctx.module + ".") else "", bare) if p)
        full = qualified + signature[len(bare):] if kind in OBJECTS else signature
        head = {"class": "class ", "exception": "exception ", "decorator": "@"}.get(kind, "")
        shown.append(head + (full if kind in ("function", "class", "exception", "data", "decorator") else signature))
        if kind in OBJECTS and bare:
            ctx.entries.append(Entry(kind, qualified, full, "", ctx.doc))
    mine = ctx.entries[-len(signatures):] if kind in OBJECTS else []
    if kind in ("class", "exception") and signatures:
        ctx.scope = re.split(r"[(\[\s]", signatures[0], maxsplit=1)[0].removeprefix(ctx.module + ".")
    text = render(body, ctx)
    ctx.scope = outer
    paragraph = next((t for t in text if t.strip()), "")
    if not re.match(r"(New in|Changed in|Deprecated since) version|Note:|Warning:|See also:|Availability:|>>>|\s", paragraph):
        for entry in mine:
            entry.text = paragraph
    return ["", *shown, "", *shift(text, 3), ""]


def render(lines: list[str], ctx: Context) -> list[str]:
    """reStructuredText lines (common indentation 0) to plain lines: one line per paragraph, code as it is."""
    out: list[str] = []
    i, n = 0, len(lines)
    while i < n:
        line = lines[i].rstrip()
        after = lines[i + 1].rstrip() if i + 1 < n else ""
        if not line:
            out.append("")
            i += 1
        elif indent_of(line):                                     # block quote or definition
            end = block(lines, i)
            out += shift(render(dedent(lines[i:end]), ctx), 3)
            i = end
        elif line == ".." or line.startswith(".. "):
            end = block(lines, i + 1)
            body = lines[i + 1:end]
            match = re.match(r"\.\. ([\w:+-]+)::\s*(.*)", line)
            foot = re.match(r"\.\. (\[[\w#*]+\])\s*(.*)", line)
            if match:
                out += directive(match[1], match[2], dedent_keep(body), ctx)
            elif foot:
                text = render([foot[2], *dedent(body)], ctx)
                out += [f"{foot[1]} {text[0] if text else ''}", *text[1:], ""]
            i = end
        elif ADORNMENT.fullmatch(line) and after and i + 2 < n and ADORNMENT.fullmatch(lines[i + 2].rstrip()) \
                and lines[i + 2][0] == line[0] and not ADORNMENT.fullmatch(after):
            out += title(after.strip(), line[0] * 2, ctx)
            i += 3
        elif after and ADORNMENT.fullmatch(after) and len(after) >= len(line) - 3 and not re.match(r"[=+ -]{3,}$", line):
            out += title(line, after[0], ctx)
            i += 2
        elif re.match(r"(\+[-=+]+\+|=+( +=+)+)$", line) or re.match(r"={4,}$", line) and after:
            out.append("")
            while i < n and lines[i].strip():                     # table: rows without their rules
                row = lines[i].strip()
                if not re.fullmatch(r"[=+ |-]+", row):
                    cells = re.sub(r"\s*\|\s*|\s{2,}", " | ", row.strip("| ").strip())
                    out.append(inline(cells))
                i += 1
            out.append("")
        elif ADORNMENT.fullmatch(line):                           # a transition
            i += 1
        elif line.startswith(">>>"):
            while i < n and lines[i].strip():
                out.append(lines[i].rstrip())
                i += 1
        elif line.startswith("| ") or line == "|":
            out.append(inline(line[2:]))
            i += 1
        elif BULLET.match(line):
            match = BULLET.match(line)
            end = block(lines, i + 1, min(len(match[0]), 2))
            text = render([line[match.end():], *hang(lines[i + 1:end], match.end())], ctx)
            out += [match[1] + " " + (text[0] if text else ""), *shift(text[1:], len(match[1]) + 1)]
            i = end
        elif re.match(r":[\w *,.-]+:(\s|$)", line):               # field list
            match = re.match(r":([\w *,.-]+):\s*", line)
            end = block(lines, i + 1)
            text = render([line[match.end():], *dedent(lines[i + 1:end])], ctx)
            while text and not text[0]:
                text.pop(0)
            out += [inline(match[1]) + ": " + (text[0] if text else ""), *shift(text[1:], 3)]
            i = end
        else:                                                     # a paragraph
            end = i
            while end < n and lines[end].strip() and not indent_of(lines[end]):
                end += 1
            text = re.sub(r"(?<=[.?!:;,)`]) {2,}", " ", " ".join(x.strip() for x in lines[i:end]))
            i = end
            literal = text.endswith("::")
            text = inline(re.sub(r"\s*::$", "" if text.strip() == "::" or re.search(r"\s::$", text) else ":", text))
            if text.strip():
                out.append(text.strip())
            if literal:
                end = block(lines, i)
                code = dedent(lines[i:end])
                if code:
                    out += ["", *shift([c.rstrip() for c in code], 3), ""]
                    i = end
    return tidy(out)


def dedent_keep(body: list[str]) -> list[str]:
    """Directive body: common indentation removed; a blank first line stays, since it ends the argument."""
    margin = min((indent_of(x) for x in body if x.strip()), default=0)
    return [x[margin:].rstrip() if x.strip() else "" for x in body]


def hang(lines: list[str], by: int) -> list[str]:
    """A list item's continuation lines without the item's own indentation."""
    return [x[min(by, indent_of(x)):] if x.strip() else "" for x in lines]


def title(text: str, style: str, ctx: Context) -> list[str]:
    if style not in ctx.adornments:
        ctx.adornments.append(style)
    return ["", "#" * (ctx.adornments.index(style) + 1) + " " + inline(text), ""]


def tidy(lines: list[str]) -> list[str]:
    """No blank lines around the text, and never two in a row."""
    out: list[str] = []
    for line in lines:
        if line.strip() or (out and out[-1]):
            out.append(line.rstrip())
    while out and not out[-1]:
        out.pop()
    return out


def resolve(docs: dict[str, str]) -> dict[str, str]:
    """The same files, with each :ref:`label` replaced by the title of the section it points to, as Sphinx does."""
    titles: dict[str, str] = {}
    for text in docs.values():
        lines, waiting = text.splitlines(), []
        for i, line in enumerate(lines[:-1]):
            if line.startswith(".. _") and line.rstrip().endswith(":"):
                waiting.append(line.rstrip()[4:-1].strip("`").lower())
            elif waiting and line.strip() and not line.startswith((".. ", " ")) and not ADORNMENT.fullmatch(line):
                if ADORNMENT.fullmatch(lines[i + 1]):
                    shown = inline(line.strip()).replace("`", "").replace(" --- ", ": ")
                    titles.update({label: shown for label in waiting})
                waiting = []
    point = re.compile(r":ref:`!?([\w.-]+)`")
    return {name: point.sub(lambda m: titles.get(m[1].lower(), m[1]), text) for name, text in docs.items()}


def clean(rst: str, doc: str = "") -> tuple[str, list[Entry]]:
    """A documentation file as plain text, and the names it documents."""
    ctx = Context(doc=doc)
    lines = render(rst.expandtabs(8).splitlines(), ctx)
    return "\n".join(lines) + "\n", [e for e in ctx.entries if e.text]
