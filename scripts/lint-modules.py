#!/usr/bin/env python3
"""Fails when sibling modules of a crate import each other in a cycle. Test code does not count.

usage: lint-modules.py [CRATE_FOLDER ...]     default: every crate of the workspace

Every `use` declaration and every path that begins with `crate`, `self` or `super` is resolved to the module that defines
its item, through re-exports and imports. It is an edge between the two sibling modules above which the paths of its own
module and of the target are the same. So `commands::jobs` using `crate::output::Printer` is an edge from `commands` to
`output`. Edges between a module and its own submodules are not checked.

A cycle is removed by moving the shared item into a module below both, not by re-exporting it from elsewhere.
"""

import re
import subprocess
import sys
from collections import defaultdict
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESOLUTION_DEPTH_MAX = 16
USES_SHOWN_MAX = 3

TOKEN = re.compile(
    r"""
      (?P<skip> //[^\n]* | \s+
              | b?c?r(?P<hashes>\#*)"(?s:.*?)"(?P=hashes)       # raw string
              | [bc]?"(?:[^"\\]|\\.)*"                          # string
              | b?'(?:[^'\\\n]|\\(?:[^u]|u\{[^}]*\}|x[0-9a-fA-F]{2}))'   # character
              | '\w+ )                                          # lifetime
    | (?P<comment> /\* )
    | (?P<word> (?:r\#)?\w+ )
    | (?P<sign> :: | . )
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(text):
    """Yields (line, token) for words and signs of a Rust source."""
    position, line = 0, 1
    while position < len(text):
        match = TOKEN.match(text, position)
        if match["comment"]:
            end = end_of_block_comment(text, position)
        else:
            end = match.end()
            if not match["skip"]:
                yield line, match[0]
        line += text.count("\n", position, end)
        position = end


def end_of_block_comment(text, start):
    depth, position = 0, start
    for match in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    return len(text)


class Source:
    """Uses and imports of the modules in one file."""

    def __init__(self, file, module):
        self.file = file
        self.tokens = list(tokens(file.read_text(encoding="utf8")))
        self.position = 0
        self.modules = {module}
        self.test_modules = set()
        # (module, path as segments, line)
        self.uses = []
        # module -> imported name -> path as segments
        self.imports = defaultdict(dict)
        if not self.is_for_tests_only():
            self.items(module)

    def is_for_tests_only(self):
        start = [token for _, token in self.tokens[:8]]
        return start == ["#", "!", "[", "cfg", "(", "test", ")", "]"]

    def peek(self, ahead=0):
        index = self.position + ahead
        return self.tokens[index][1] if index < len(self.tokens) else ""

    def next(self):
        token = self.peek()
        self.position += 1
        return token

    def items(self, module):
        """Reads up to the end of the file, or of the present block in braces."""
        while self.position < len(self.tokens):
            token = self.peek()
            if token == "}":
                return
            if token == "#" and self.attribute_is_for_tests(module):
                self.skip_test_item(module)
            elif token == "mod" and self.peek(2) == "{":
                name = self.peek(1)
                self.position += 3
                self.modules.add(module + (name,))
                self.items(module + (name,))
                self.next()
            elif token == "{":
                self.next()
                self.items(module)
                self.next()
            elif token == "use" and self.peek(1) != "<":
                self.next()
                self.use_tree(module, [])
            elif self.is_at_path():
                self.path(module)
            else:
                self.next()

    def is_at_path(self):
        return self.peek() in ("crate", "super", "self") and self.peek(1) == "::" and self.peek(-1) != "::"

    def attribute_is_for_tests(self, module):
        """Reads an attribute; true if it is `cfg` with a condition that holds in tests only."""
        self.next()
        if self.peek() == "!":
            self.next()
        if self.peek() != "[":
            return False
        words, depth = [], 0
        while self.position < len(self.tokens):
            if self.is_at_path():
                self.path(module)
                continue
            token = self.next()
            words.append(token)
            depth += (token == "[") - (token == "]")
            if depth == 0:
                break
        return words[1] == "cfg" and "test" in words and "not" not in words

    def skip_block(self):
        depth = 0
        while self.position < len(self.tokens):
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return

    def skip_test_item(self, module):
        while self.peek() == "#":
            self.attribute_is_for_tests(module)
        depth = 0
        while self.position < len(self.tokens):
            token = self.peek()
            if token == "mod" and self.peek(2) == ";":
                self.test_modules.add(module + (self.peek(1),))
            if token == "{" and depth == 0:
                self.skip_block()
                return
            depth += (token in "([") - (token in ")]")
            self.next()
            if depth == 0 and token in (";", ","):
                return
            if depth < 0:
                return

    def use_tree(self, module, prefix):
        """Reads one tree of a `use` declaration, up to the sign behind it."""
        path = list(prefix)
        line = self.tokens[self.position][0]
        while True:
            token = self.next()
            if token == "{":
                while self.peek() != "}":
                    self.use_tree(module, path)
                    if self.peek() == ",":
                        self.next()
                self.next()
                return
            if token == "*":
                self.uses.append((module, path, line))
                return
            if token != "::":
                path.append(token.removeprefix("r#"))
            if self.peek() not in ("::", "{", "*") and token != "::":
                break
        if path[-1] == "self":
            path.pop()
        name = path[-1]
        if self.peek() == "as":
            self.next()
            name = self.next()
        self.imports[module][name] = path
        self.uses.append((module, path, line))

    def path(self, module):
        line = self.tokens[self.position][0]
        path = [self.next()]
        while self.peek() == "::" and (self.peek(1)[:1].isalnum() or self.peek(1)[:1] == "_"):
            self.next()
            path.append(self.next())
        self.uses.append((module, path, line))


class Crate:
    """Modules of a crate and the uses between them."""

    def __init__(self, root, files):
        self.modules = set()
        self.imports = {}
        self.uses = []
        sources = [Source(file, module_of(root, file)) for file in files]
        test_modules = set().union(*(source.test_modules for source in sources))
        for source in sources:
            for module in source.modules:
                self.modules |= {module[:length] for length in range(len(module) + 1)}
            self.imports.update(source.imports)
            self.uses += [(source.file, *use) for use in source.uses]
        self.uses = [use for use in self.uses if not is_within(use[1], test_modules)]

    def resolve(self, module, path, depth=0):
        """Returns the module of this crate that a path leads to, or `None`; and true if it names the module itself."""
        first, rest = path[0], path[1:]
        if depth > RESOLUTION_DEPTH_MAX:
            return None, False
        if first == "crate":
            current = ()
        elif first == "self":
            current = module
        elif first == "super":
            ups = 1 + sum(1 for _ in takewhile(lambda name: name == "super", rest))
            current, rest = module[:-ups], path[ups:]
        elif module + (first,) in self.modules:
            current = module + (first,)
        else:
            return None, False
        while rest:
            name, rest = rest[0], rest[1:]
            if current + (name,) in self.modules:
                current += (name,)
                continue
            imported = self.imports.get(current, {}).get(name)
            target, is_module = self.resolve(current, imported, depth + 1) if imported else (None, False)
            if not is_module:
                # Defined in `target`, or else here: as an item, or as an import from another crate.
                return (current if target is None else target), False
            current = target
        return current, True

    def edges(self):
        """Returns parent -> module -> sibling -> the uses that make the edge."""
        edges = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        for file, module, path, line in self.uses:
            target, _ = self.resolve(module, path)
            if target is None:
                continue
            common = 0
            while common < min(len(module), len(target)) and module[common] == target[common]:
                common += 1
            if common < len(module) and common < len(target):
                use = f"{file.relative_to(ROOT)}:{line}: {'::'.join(path)}"
                edges[module[:common]][module[common]][target[common]].append(use)
        return edges


def module_of(root, file):
    parts = list(file.relative_to(root).with_suffix("").parts)
    if parts[-1] in ("mod", "lib", "main"):
        parts.pop()
    return tuple(parts)


def is_within(module, ancestors):
    return any(module[:length] in ancestors for length in range(len(module) + 1))


def cycles(graph):
    """Returns the strongly connected components of more than one node (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            start = stack.index(node)
            component = stack[start:]
            del stack[start:]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def crate_roots():
    """Returns the source folder and the files of every crate; each program in `src/bin` is a crate of its own."""
    listed = subprocess.check_output(["git", "-C", ROOT, "ls-files", "*.rs"], text=True).split()
    files = [ROOT / name for name in listed if (ROOT / name).is_file()]
    manifests = subprocess.check_output(["git", "-C", ROOT, "ls-files", "*Cargo.toml"], text=True).split()
    roots = {}
    for manifest in manifests:
        source = ROOT / Path(manifest).parent / "src"
        programs = [path.parent for path in source.glob("bin/*/main.rs")]
        for root in programs:
            roots[root] = [file for file in files if root in file.parents]
        roots[source] = [
            file for file in files if source in file.parents and source / "bin" not in file.parents
        ]
    return {root: sources for root, sources in roots.items() if sources}


def main():
    wanted = [(ROOT / name).resolve() for name in sys.argv[1:]]
    failed = False
    for root, files in sorted(crate_roots().items()):
        if wanted and not any(folder == root or folder in root.parents for folder in wanted):
            continue
        for parent, graph in sorted(Crate(root, files).edges().items()):
            for cycle in cycles(graph):
                failed = True
                names = ", ".join("::".join(parent + (name,)) for name in cycle)
                print(f"error: {root.relative_to(ROOT)}: these modules import each other in a cycle: {names}")
                for module in cycle:
                    for other in cycle:
                        uses = graph[module].get(other, []) if module != other else []
                        for use in uses[:USES_SHOWN_MAX]:
                            print(f"  {module} -> {other}: {use}")
                        if len(uses) > USES_SHOWN_MAX:
                            print(f"  {module} -> {other}: and {len(uses) - USES_SHOWN_MAX} more")
    sys.exit(failed)


if __name__ == "__main__":
    main()
