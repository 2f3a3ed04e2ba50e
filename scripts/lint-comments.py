#!/usr/bin/env python3
"""Checks the form of comments and the paths in documentation for contributors. Prints what is wrong and fails.

usage: lint-comments.py [FOLDER ...]     default: the whole checkout

* A doc comment opens with a verb or a noun, not with a noun clause ("Returns true if ...", not "Whether ...").
* Lines with comments have at most 120 columns.
* Paths in backticks in the pages of PAGES_WITH_PATHS exist in the checkout. A path may leave out leading folders, and `*`
  stands for any text.
"""

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS_MAX = 120
NOUN_CLAUSE = re.compile(r"(What|Whether|How|Where|Who|Whose|When|Why|Which|That)\b(?!.*\?)", re.IGNORECASE)
DOC_COMMENT = re.compile(r"\s*//[/!]\s?(.*)")
COMMENT = re.compile(r"(^|\s)//[/!]?(\s|$)")
PAGES_WITH_PATHS = ["docs/ARCHITECTURE.md", "CONTRIBUTING.md"]
# Words with a slash or with the ending of a source file, without placeholders in capitals.
PATH = re.compile(r"`((?![/~])[\w.*-]*(?:/[\w.*-]*|\.(?:rs|py|sh|md)))+`")


def comment_mistakes(name, text):
    """Yields (line number, message) for the comments of a Rust source."""
    is_inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > COLUMNS_MAX and COMMENT.search(line):
            yield number, f"a comment beyond {COLUMNS_MAX} columns"
        doc = DOC_COMMENT.match(line)
        if doc and not is_inside and NOUN_CLAUSE.match(doc[1]):
            yield number, f"a doc comment opens with `{doc[1].split()[0]}`: begin with a verb or a noun"
        is_inside = doc is not None


def path_mistakes(text, known):
    """Yields (line number, message) for paths of a page that do not exist."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in PATH.finditer(line):
            path = match[0].strip("`").rstrip("/")
            if re.search(r"(^|/)[A-Z_]+(/|$)", path):
                continue
            if not any(fnmatch(name, path) or fnmatch(name, f"*/{path}") for name in known):
                yield number, f"there is no `{path}` in the checkout"


def main():
    folders = sys.argv[1:]
    listed = subprocess.check_output(["git", "-C", ROOT, "ls-files"], text=True).splitlines()
    files = [name for name in listed if (ROOT / name).is_file()]
    known = set(files).union(*({str(parent) for parent in Path(name).parents} for name in files))
    mistakes = []
    for name in files:
        if folders and not any(name == folder or name.startswith(folder.rstrip("/") + "/") for folder in folders):
            continue
        found = []
        if name.endswith(".rs"):
            found = comment_mistakes(name, (ROOT / name).read_text(encoding="utf8"))
        elif name in PAGES_WITH_PATHS:
            found = path_mistakes((ROOT / name).read_text(encoding="utf8"), known)
        mistakes += [f"error: {name}:{number}: {message}" for number, message in found]
    print("\n".join(mistakes), end="\n" if mistakes else "")
    sys.exit(1 if mistakes else 0)


if __name__ == "__main__":
    main()
