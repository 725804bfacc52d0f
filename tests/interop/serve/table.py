"""The tables of docs/INTEROP.md, which say what was seen and nothing else."""

import pathlib

DOCS = pathlib.Path(__file__).resolve().parents[3] / "docs/INTEROP.md"


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text):
    """Each as its rows of cells, the header first, without the line below it."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append(cells(line))
        elif rows:
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


def fault(header, row, text=None):
    """What is wrong with the docs, if a table with this header does not have this row, whole, once."""
    text = DOCS.read_text() if text is None else text
    named = [table for table in tables(text) if table[0] == header]
    if len(named) != 1:
        return f"docs/INTEROP.md has {len(named)} tables with the header: | {' | '.join(header)} |"
    if named[0].count(row) != 1:
        return f"docs/INTEROP.md has no such row below {header[0]!r}: | {' | '.join(row)} |"
    # A row of a version that is gone would be a claim that nobody checks.
    peer = row[0].split()
    others = [one[0] for one in named[0][1:] if one != row and one[0].split()[:1] == peer[:1]]
    variant = peer[2:]
    stale = [one for one in others if one.split()[2:] == variant]
    return f"docs/INTEROP.md has another row of it: {stale[0]}" if stale else None


def check():
    text = "| peer | one |\n| --- | --- |\n| a 1 | yes |\n| b 1 x | no |\n| b 1 y | yes |\n"
    assert fault(["peer", "one"], ["a 1", "yes"], text) is None
    assert fault(["peer", "one"], ["b 1 x", "no"], text) is None
    for header, row in [
        (["peer", "one"], ["a 1"]),
        (["peer", "one"], ["1", "yes"]),
        (["peer", "one"], ["a 2", "yes"]),
        (["peer", "one"], ["a 1", "no"]),
        (["peer"], ["a 1", "yes"]),
        (["peer", "two"], ["a 1", "yes"]),
    ]:
        assert fault(header, row, text), (header, row)
    assert fault(["peer", "one"], ["a 1", "yes"], text + "| a 0 | yes |\n")


check()
