"""Calls the functions of an input.py: one JSON command in, one JSON answer out.

Uploads and items are collected in the answer; downloads come from a directory.
"""

import importlib.util
import json
import os
import shutil
import sys


class Storage:
    def __init__(self, directory):
        self.directory = directory

    def download(self, bucket, key, path):
        shutil.copyfile(os.path.join(self.directory, bucket, key), path)


def main():
    command = json.load(sys.stdin)
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location("input", command["input"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    if command["task"] == "validate":
        storage = Storage(command["directory"]) if command.get("directory") else None
        verdict = module.validate_output(
            None, command["payload"], command["output"], command["language"], storage)
        json.dump({"verdict": verdict}, sys.stdout)
        return

    name = command["benchmark"]
    uploads, items = [], []
    inputs, outputs = module.buckets_count() if hasattr(module, "buckets_count") else (0, 0)
    buckets = inputs + outputs > 0
    prefixes = ["%s-%d-input" % (name, i) for i in range(inputs)]

    def upload(index, key, path):
        target = os.path.join(command["directory"], str(len(uploads)))
        shutil.copyfile(path, target)
        uploads.append({"key": prefixes[index] + "/" + key, "path": target})

    def write(benchmark, table, data, primary, secondary=None):
        assert benchmark == name, benchmark
        items.append({"table": table, "item": dict([primary, secondary], **data)})

    tables = module.allocate_nosql() if hasattr(module, "allocate_nosql") else None
    payload = module.generate_input(
        None,
        command["size"],
        command["bucket"] if buckets else None,
        prefixes,
        ["%s-%d-output" % (name, i) for i in range(outputs)],
        upload if buckets else None,
        write if tables else None,
    )
    json.dump({"payload": payload, "uploads": uploads, "items": items, "tables": tables or {}}, sys.stdout)


main()
