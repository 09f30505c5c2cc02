"""Runs the functions of a benchmark's input.py and talks to the builder about them.

One JSON document a line: commands come on the standard input, calls and the outcome leave on the standard output that
this program was started with. Both are moved away before any foreign code runs: what that code prints goes to the
standard error, and what it reads is empty.
"""

import importlib.util
import itertools
import json
import os
import shutil
import sys
import traceback
import types


class NotJSON(Exception):
    """The payload cannot be sent. There is nothing of interest in the traceback."""


class Host:
    """The builder at the other end of the pipes."""

    def __init__(self):
        self._replies = os.fdopen(os.dup(0), "r", encoding="utf-8", newline="\n")
        self._calls = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self._exchange = None
        self._numbers = itertools.count()

    def command(self):
        command = json.loads(self._replies.readline())
        self._exchange = command["exchange_dir"]
        return command

    def send(self, message):
        self._calls.write(json.dumps(message, allow_nan=False) + "\n")
        self._calls.flush()

    def call(self, name, **arguments):
        self.send({"call": name, **arguments})
        line = self._replies.readline()
        if not line:
            raise SystemExit("the builder has gone away")
        reply = json.loads(line)
        if reply.get("error"):
            raise RuntimeError(reply["error"])
        return reply

    def _slot(self):
        return os.path.join(self._exchange, str(next(self._numbers)))

    def upload(self, prefix_index, key, path):
        slot = self._slot()
        shutil.copyfile(path, slot)
        try:
            self.call("upload", prefix=int(prefix_index), key=str(key), file=os.path.basename(slot))
        finally:
            os.remove(slot)

    def write_item(self, benchmark, table, data, primary_key, secondary_key=None):
        self.call(
            "write_item",
            benchmark=str(benchmark),
            table=str(table),
            data=plain(data),
            primary_key=pair(primary_key, "primary key"),
            secondary_key=None if secondary_key is None else pair(secondary_key, "secondary key"),
        )


class Storage:
    """What validate_output gets to look at objects."""

    def __init__(self, host):
        self._host = host

    def download(self, bucket, key, path):
        host = self._host
        slot = host._slot()
        with open(slot, "wb"):
            pass
        try:
            host.call("download", bucket=str(bucket), key=str(key), file=os.path.basename(slot))
            shutil.copyfile(slot, path)
        finally:
            os.remove(slot)


def pair(key, what):
    if not isinstance(key, (tuple, list)) or len(key) != 2:
        raise TypeError(f"the {what} must be a pair (name, value), not {key!r}")
    return [str(key[0]), str(key[1])]


def plain(value):
    """Turns numbers of other types into those that JSON knows."""
    return json.loads(json.dumps(value, default=lambda v: int(v) if v == int(v) else float(v), allow_nan=False))


def offer_stub(root):
    """Makes `from sebs.utils import get_project_root` work without SeBS."""
    package, utils = types.ModuleType("sebs"), types.ModuleType("sebs.utils")
    package.__path__ = []
    utils.get_project_root = lambda: root
    package.utils = utils
    sys.modules["sebs"], sys.modules["sebs.utils"] = package, utils


def load(path):
    sys.path.insert(0, os.path.dirname(path))
    spec = importlib.util.spec_from_file_location("input", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["input"] = module
    spec.loader.exec_module(module)
    return module


def required(module, name):
    function = getattr(module, name, None)
    if not callable(function):
        raise AttributeError(f"input.py defines no function {name}")
    return function


def generate(host, module, command):
    generate_input = required(module, "generate_input")
    declaration = {}
    if hasattr(module, "buckets_count"):
        counts = module.buckets_count()
        if not isinstance(counts, (tuple, list)) or len(counts) != 2:
            raise TypeError(f"buckets_count must return (inputs, outputs), not {counts!r}")
        declaration["buckets"] = [int(counts[0]), int(counts[1])]
    if hasattr(module, "allocate_nosql"):
        declaration["tables"] = plain(module.allocate_nosql())
    granted = host.call("declare", **declaration)
    uses_buckets = "buckets" in declaration
    payload = generate_input(
        command["data_dir"],
        command["size"],
        granted.get("bucket"),
        granted.get("input_prefixes", []),
        granted.get("output_prefixes", []),
        host.upload if uses_buckets else None,
        host.write_item if "tables" in declaration else None,
    )
    if not isinstance(payload, dict):
        raise TypeError(f"generate_input must return a dict, not {type(payload).__name__}")
    try:
        json.dumps(payload, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as problem:
        raise NotJSON(f"generate_input returned what is not JSON: {problem}; return only what the json module can write") from None
    return {"payload": payload}


def validate(host, module, command):
    if not callable(getattr(module, "validate_output", None)):
        return {"verdict": "input.py defines no function validate_output, so that nothing tells whether the output is right"}
    verdict = module.validate_output(
        command["data_dir"],
        command["payload"],
        command["output"],
        command["language"],
        Storage(host) if command["storage"] else None,
    )
    return {"verdict": None if verdict is None else str(verdict)}


def main():
    host = Host()
    command = host.command()
    sys.path[:0] = command["packages"]
    offer_stub(command["project_root"])
    try:
        module = load(command["input_file"])
        outcome = (generate if command["task"] == "generate" else validate)(host, module, command)
    except BaseException as problem:  # also SystemExit: user code must not end the conversation unnoticed
        failure = {"error": f"{type(problem).__name__}: {problem}", "traceback": trace(problem, command)}
        if isinstance(problem, NotJSON):
            failure = {"error": str(problem), "traceback": ""}
        if isinstance(problem, ModuleNotFoundError) and problem.name:
            failure["missing_module"] = problem.name.partition(".")[0]
        host.send(failure)
        return
    host.send({"outcome": outcome})


def trace(problem, command):
    """The traceback from the first line of foreign code on, with paths from the benchmark's folder on."""
    frames = problem.__traceback__
    while frames.tb_next and frames.tb_frame.f_code.co_filename in (__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(problem), problem, frames))
    return text.replace(os.path.join(os.path.dirname(command["input_file"]), ""), "")


if __name__ == "__main__":
    main()
