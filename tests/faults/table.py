#!/usr/bin/env python3
"""The table of faults in docs/reliability.md: rows.txt beside this file, with what tests/results/*.jsonl says of each row.

    table.py --check   every row has its tests, each of them exists, and the page holds the table as it would be written
    table.py --write   writes it into the page
"""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reliability.md"
ROWS = 77
BEGIN, END = "<!-- written by tests/faults/table.py -->\n", "<!-- end -->\n"


def soaked():
    runs = lines_of("soak")
    if not runs:
        return "\nSoak (`launch/test --nightly soak`): not run.\n"
    kinds = {}
    for run in runs:
        for kind, count in run["faults"].items():
            kinds[kind] = kinds.get(kind, 0) + count
    failed = sum(run["outcome"] != "ok" for run in runs)
    steps, exact = (sum(run[key] for run in runs) for key in ("steps", "bit_exact"))
    return (f"\nSoak (`launch/test --nightly soak`): {sum(run['minutes'] for run in runs):.0f} minutes in {len(runs)} run{'s' * (len(runs) > 1)}, of which "
            f"{failed} failed; {steps:,} steps, {exact:,} of them bit for bit those of a run to which nothing happened, the others, "
            f"on other numbers of ranks, with the same samples and losses to rounding. Faults: "
            + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())) + ".\n")


class Row:
    def __init__(self, line):
        number, self.fault, self.how, tests = (part.strip() for part in line.split("|"))
        self.number = int(number)
        self.reason = tests[5:].strip() if tests.startswith("none:") else ""
        self.tests = [] if self.reason else tests.split()


def rows():
    lines = (ROOT / "tests/faults/rows.txt").read_text().splitlines()
    return [Row(line) for line in lines if line.strip() and not line.startswith("#")]


def results():
    """Per row and test the lines of its newest revision."""
    found = {}
    for line in lines_of("faults") + [of_ledger_trials(line) for line in lines_of("ledger")]:
        lines = found.setdefault((line["row"], line["test"]), [])
        if lines and lines[-1]["revision"] != line["revision"]:
            lines.clear()
        lines.append(line)
    for line in lines_of("fuzz"):  # minutes of every revision count, findings of the newest
        row = found.setdefault((45, "nightly:fuzz"), [{"trials": 0, "outcome": "ok"}])[0]
        row["trials"] += line["executions"]
    if any(target["open"] for target in fuzzed().values()):
        found[45, "nightly:fuzz"][0]["outcome"] = "failed"
    return found


def lines_of(name):
    path = ROOT / f"tests/results/{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def of_ledger_trials(line):
    """A line of tests/e2e/ledger_trials.cpp, which knows nothing of rows."""
    return {"row": 46, "test": "nightly:ledger", "trials": 1, "outcome": "ok" if line["ok"] else "failed",
            "revision": line["revision"]}


def fuzzed():
    """Of each target minutes, executions and findings of all runs, and the findings of its last one."""
    targets = {}
    for line in lines_of("fuzz"):
        target = targets.setdefault(line["target"], {"minutes": 0, "executions": 0, "findings": 0})
        for key in target.keys() & line.keys():
            target[key] += line[key]
        target["open"] = line["findings"]
    return dict(sorted(targets.items()))


def table():
    found = results()
    text = ["| row | fault | how injected | trials | outcome |\n", "| --- | --- | --- | --- | --- |\n"]
    for row in rows():
        lines = [line for test in row.tests for line in found.get((row.number, test), [])]
        missing = [test for test in row.tests if (row.number, test) not in found]
        trials = sum(line["trials"] for line in lines)
        failed = sum(line["outcome"] != "ok" for line in lines)
        outcome = row.reason and f"not run: {row.reason}" or (
            f"{failed} failed" if failed else "not run" if not lines else
            "as it should be" + ("; not run: " + ", ".join(f"`{test}`" for test in missing) if missing else ""))
        text.append(f"| {row.number} | {row.fault} | {row.how} | {trials:,} | {outcome} |\n")
    text += ["\n| fuzzed (row 45) | minutes | executions | findings, all runs | in the last run |\n", "| --- | --- | --- | --- | --- |\n"]
    text += [f"| {name} | {sums['minutes']:.0f} | {sums['executions']:,} | {sums['findings']} | {sums['open']} |\n"
             for name, sums in fuzzed().items()]
    return "".join(text) + soaked()


def page():
    text = PAGE.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:begin] + "\n" + table() + "\n" + text[end:]


def exists(test):
    kind, name = test.split(":", 1)
    if kind == "nightly":
        path = ROOT / "tests/nightly" / name
        return path.is_file() and path.stat().st_mode & 0o100 != 0
    lists = [path.read_text() for path in (ROOT / "tests").rglob("CMakeLists.txt")]
    if kind == "ctest":
        pattern = re.sub(r"\d+$", "", name)
        return any(f"NAME {name} " in text or f"NAME {pattern}${{ranks}} " in text for text in lists)
    suite, case = name.split("/")[-2 if name.endswith("/*") or name.count("/") == 2 else -1].split(".") \
        if "/" in name else name.split(".")
    declared = re.compile(rf"^TEST(_F|_P)?\({suite}, {case}\)", re.M)
    for folder in (path.parent for path in (ROOT / "tests").rglob("CMakeLists.txt")):
        text = (folder / "CMakeLists.txt").read_text()
        match = re.search(rf"(?:dm_add_test\({kind}\s+SOURCES|add_executable\({kind})\s([^)]*)\)", text)
        if match:
            sources = [folder / word for word in match[1].split() if word.endswith(".cpp")]
            return any(declared.search(source.read_text()) for source in sources)
    return False


def check():
    problems = []
    numbers = [row.number for row in rows()]
    if numbers != list(range(1, ROWS + 1)):
        problems.append(f"rows.txt: rows 1 to {ROWS}, each once and in order, are wanted, not {numbers}")
    for row in rows():
        if not row.tests and not row.reason:
            problems.append(f"rows.txt: row {row.number} has neither tests nor a reason")
        problems += [f"rows.txt: row {row.number}: there is no {test}" for test in row.tests if not exists(test)]
    if page() != PAGE.read_text():
        problems.append("docs/reliability.md: its table is not what tests/results says; tests/faults/table.py --write")
    return problems


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page())
    elif sys.argv[1:] == ["--check"]:
        problems = check()
        print("\n".join(problems) or "77 rows, their tests and their table are in order")
        sys.exit(1 if problems else 0)
    else:
        sys.exit(__doc__)
