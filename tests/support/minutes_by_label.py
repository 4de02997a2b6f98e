#!/usr/bin/env python3
"""Minutes of tests by label, from ctest's own times: minutes_by_label.py BUILD_FOLDER JUNIT_FILE

A test counts once, under its first label (a test that runs under mpirun is "mpi"). Tests run side by side, so the sum is
more than the time that passed.
"""
import json
import subprocess
import sys
import xml.etree.ElementTree

build, junit = sys.argv[1:]
listing = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], check=True, capture_output=True).stdout
labels = {}
for test in json.loads(listing)["tests"]:
    own = [p["value"] for p in test.get("properties", []) if p["name"] == "LABELS"]
    labels[test["name"]] = own[0][0] if own and own[0] else "none"

rows = {}  # label -> tests, seconds, the slowest test's seconds and name
for case in xml.etree.ElementTree.parse(junit).getroot().iter("testcase"):
    name, seconds = case.get("name"), float(case.get("time"))
    count, total, slowest = rows.get(labels[name], (0, 0.0, (0.0, "")))
    rows[labels[name]] = (count + 1, total + seconds, max(slowest, (seconds, name)))

print(f"{'label':<10} {'tests':>5} {'minutes':>8}  slowest")
for label, (count, total, (seconds, name)) in sorted(rows.items(), key=lambda row: -row[1][1]):
    print(f"{label:<10} {count:>5} {total / 60:>8.1f}  {name} {seconds / 60:.1f}")
print(f"{'all':<10} {sum(r[0] for r in rows.values()):>5} {sum(r[1] for r in rows.values()) / 60:>8.1f}")
