#!/usr/bin/env python3
"""Row 3: power is lost at every moment of a save.

    power_loss.py HELPER [--seeds N]

Records the file operations of one save (strace), with all that is written. Then, for every prefix of them, makes the
folders that a disk may hold after the power went, and starts the helper on each (tests/checkpoints/fault_helper.cpp):
it must find the state before or the new one, with every value right, and the new one for sure once the save has
returned. What a disk may hold: all that was made durable by fsync of the file, or of the folder for its names, and of
the rest

    dropped    nothing
    names      every name and size, no data: a journal of metadata
    kept       everything: what a killed process leaves
    random N   names up to a random moment, and writes at random, some torn

Prints counts; exit 1 with the first failures otherwise.
"""
import argparse
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

CALLS = ("openat,mkdir,mkdirat,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,unlink,"
         "unlinkat,rmdir")
LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
DESCRIPTOR = re.compile(r"^(\d+)<([^>]*)>")

# What happened, in terms of numbered files and folders, so that a part of it can happen without the rest.
Names = collections.namedtuple("Names", "folders changes")  # changes: (folder, name, file or None), all or nothing
Data = collections.namedtuple("Data", "file offset bytes")
Size = collections.namedtuple("Size", "file size keep")  # keep: never smaller than it is
Sync = collections.namedtuple("Sync", "file")


def plain(text):
    """What strace -xx writes as \\x41\\x42."""
    return bytes(int(byte, 16) for byte in text.split("\\x")[1:])


class Recorder:
    """Turns strace's lines about files below a root into operations."""

    def __init__(self, root):
        self.root, self.count, self.operations = root, 1, []
        self.names = {0: {}}  # of each folder; the root is 0
        self.start = {}       # contents of files that were there
        self.take_in(root, 0)

    def take_in(self, path, folder):
        for entry in sorted(os.scandir(path), key=lambda e: e.name):
            number = self.new_number()
            self.names[folder][entry.name] = number
            if entry.is_dir():
                self.names[number] = {}
                self.take_in(entry.path, number)
            else:
                with open(entry.path, "rb") as file:
                    self.start[number] = file.read()
        self.first = {folder: dict(names) for folder, names in self.names.items()}

    def new_number(self):
        self.count += 1
        return self.count - 1

    def find(self, path):
        """(folder, name, file or None) of a path below the root; None elsewhere."""
        if path == self.root:
            return 0, "", 0
        if not path.startswith(self.root + "/"):
            return None
        folder, parts = 0, path[len(self.root) + 1:].split("/")
        for part in parts[:-1]:
            folder = self.names[folder][part]
        return folder, parts[-1], self.names[folder].get(parts[-1])

    def change(self, *changes):
        for folder, name, file in changes:
            if file is None:
                self.names[folder].pop(name, None)
            else:
                self.names[folder][name] = file
        self.operations.append(Names({folder for folder, _, _ in changes}, changes))

    def line(self, text):
        if "<unfinished" in text or "resumed>" in text:
            sys.exit(f"power_loss: calls of two threads interleave, which this does not follow: {text[:200]}")
        match = LINE.match(text)
        if not match or int(match[3]) < 0:
            return
        call, words = match[1], match[2]
        texts = [plain(found) for found in TEXT.findall(words)]
        described = DESCRIPTOR.match(words)
        if call in ("write", "pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync"):
            path = plain(described[2]).decode() if described[2].startswith("\\x") else described[2]
            place = self.find(path)
            if place is not None:
                self.content(call, place[2], words, texts, int(match[3]))
            return
        places = [self.find(text.decode()) for text in texts]
        if not places or places[0] is None:
            return
        folder, name, file = places[0]
        if call == "openat":
            if file is None and "O_CREAT" in words:
                self.change((folder, name, self.new_number()))
            elif "O_TRUNC" in words:
                self.operations.append(Size(file, 0, False))
        elif call in ("mkdir", "mkdirat"):
            number = self.new_number()
            self.names[number] = {}
            self.change((folder, name, number))
        elif call.startswith("rename"):
            to_folder, to_name, replaced = places[1]
            back = replaced if "RENAME_EXCHANGE" in words else None
            self.change((folder, name, back), (to_folder, to_name, file))
        else:  # unlink, unlinkat, rmdir
            self.change((folder, name, None))

    def content(self, call, file, words, texts, result):
        numbers = [int(word) for word in re.findall(r"(?<=, )\d+", words)]
        if call == "pwrite64":
            self.operations.append(Data(file, numbers[-1], texts[0][:result]))
        elif call == "write":
            sys.exit("power_loss: a write() without an offset to a file of the run; teach it offsets")
        elif call == "ftruncate":
            self.operations.append(Size(file, numbers[-1], False))
        elif call == "fallocate":
            self.operations.append(Size(file, numbers[-2] + numbers[-1], True))
        else:
            self.operations.append(Sync(file))


def durable(operations, end):
    """Which of the first `end` operations are on the disk for sure."""
    synced, sure = set(), [False] * end
    for i in range(end - 1, -1, -1):
        operation = operations[i]
        if isinstance(operation, Sync):
            synced.add(operation.file)
            sure[i] = True
        elif isinstance(operation, Names):
            sure[i] = operation.folders <= synced
        else:
            sure[i] = operation.file in synced
    return sure


def disk_after(recorder, end, chosen):
    """Names of each folder and contents of each file when of what is not sure `chosen(i, operation)` is there:
    True, False, or for data how many of its bytes."""
    names = {folder: dict(entries) for folder, entries in recorder.first.items()}
    contents = {file: bytearray(data) for file, data in recorder.start.items()}
    sure = durable(recorder.operations, end)
    for i, operation in enumerate(recorder.operations[:end]):
        there = True if sure[i] else chosen(i, operation)
        if there is False or isinstance(operation, Sync):
            continue
        if isinstance(operation, Names):
            for folder, name, file in operation.changes:
                entries = names.setdefault(folder, {})
                if file is None:
                    entries.pop(name, None)
                else:
                    entries[name] = file
            continue
        content = contents.setdefault(operation.file, bytearray())
        if isinstance(operation, Size):
            size = max(operation.size, len(content)) if operation.keep else operation.size
            content[:] = content[:size].ljust(size, b"\0")
        else:
            data = operation.bytes if there is True else operation.bytes[:there]
            content[:] = content.ljust(operation.offset + len(data), b"\0")
            content[operation.offset:operation.offset + len(data)] = data
    return names, contents


def write_out(recorder, disk, path, folder=0):
    names, contents = disk
    os.makedirs(path)
    for name, number in names.get(folder, {}).items():
        if number in recorder.names:  # a folder
            write_out(recorder, disk, f"{path}/{name}", number)
        else:
            with open(f"{path}/{name}", "wb") as file:
                file.write(contents.get(number, b""))


def variants(operations, end, seeds):
    yield "dropped", lambda i, operation: False
    yield "names", lambda i, operation: not isinstance(operation, Data)
    yield "kept", lambda i, operation: True
    for seed in range(seeds):
        dice = random.Random(f"{seed} {end}")
        moment = dice.randrange(end + 1)
        luck = [dice.random() for _ in operations]

        def chosen(i, operation, moment=moment, luck=luck):
            if not isinstance(operation, Data):
                return i < moment
            if luck[i] < 0.4:
                return True
            return int(len(operation.bytes) * luck[i]) if luck[i] < 0.6 else False
        yield f"random {seed}", chosen


def record(helper, folder):
    run = f"{folder}/run"
    subprocess.run([helper, "save", run, "1", "2"], check=True, stdout=subprocess.DEVNULL)
    recorder = Recorder(run)
    trace = f"{folder}/trace"
    subprocess.run(["strace", "-f", "-qq", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-e", "signal=none",
                    "-o", trace, helper, "save", run, "3"], check=True, stdout=subprocess.DEVNULL)
    with open(trace) as lines:
        for text in lines:
            recorder.line(text)
    return recorder


def newest(helper, path):
    """The step that the next start finds and checks, or what it says instead."""
    done = subprocess.run([helper, "resume", path], capture_output=True, text=True, timeout=60)
    match = re.fullmatch(r"newest (\w+)\n", done.stdout)
    return match[1] if match and done.returncode == 0 else f"exit {done.returncode}: {done.stdout}{done.stderr}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("helper")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="dm-power-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    os.environ["LC_ALL"] = "C"
    found, wrong = collections.Counter(), []
    try:
        recorder = record(arguments.helper, folder)
        operations = recorder.operations
        commits = [i for i, o in enumerate(operations) if isinstance(o, Names) and len(o.changes) == 2
                   and o.changes[1][1] == "step_000000003"]
        if len(commits) != 1:
            sys.exit(f"power_loss: the save has {len(commits)} commits")
        for end in range(len(operations) + 1):
            for name, chosen in variants(operations, end, arguments.seeds):
                path = f"{folder}/after"
                write_out(recorder, disk_after(recorder, end, chosen), path)
                step = newest(arguments.helper, path)
                legal = ("2",) if end <= commits[0] else ("3",) if end == len(operations) else ("2", "3")
                found[step if step in ("2", "3") else "neither"] += 1
                if step not in legal:
                    wrong.append(f"after {end} of {len(operations)} operations, {name}: {step}")
                shutil.rmtree(path)
    finally:
        shutil.rmtree(folder)
    trials = sum(found.values())
    print(f"{len(operations)} operations, {trials} disks: {found['2']} the state before, {found['3']} the new one, "
          f"{found['neither']} neither; {len(wrong)} wrong")
    for text in wrong[:20]:
        print(text)
    sys.exit(1 if wrong or not found["3"] else 0)


if __name__ == "__main__":
    main()
