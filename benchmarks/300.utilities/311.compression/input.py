"""Input of 311.compression: a directory tree to put into a zip archive.

Data sets are the directories of the data directory where there is one. Else a
tree of text, tables and incompressible files is generated; it is the same one
each time.
"""

import os
import random
import tempfile
import zipfile
import zlib

DATA_SET = "acmart-master"
SEED = 311


def buckets_count():
    return (1, 1)


def words(generator, count):
    """Text that compresses about as well as prose does."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    lexicon = ["".join(generator.choices(syllables, k=generator.randint(1, 4))) for _ in range(2000)]
    # Few words are frequent, most are rare.
    weights = [1 / (rank + 1) for rank in range(len(lexicon))]
    chosen = generator.choices(lexicon, weights, k=count)
    lines = [" ".join(chosen[i : i + 12]) for i in range(0, count, 12)]
    return ("\n".join(lines) + "\n").encode()


def table(generator, rows):
    lines = ("%d,%.6f,%d" % (row, generator.random(), generator.randrange(1000)) for row in range(rows))
    return ("id,value,class\n" + "\n".join(lines) + "\n").encode()


def generated_files():
    """(path below the data set, content), 2.7 MB in 28 files."""
    generator = random.Random(SEED)
    yield "README.md", words(generator, 800)
    yield "LICENSE", words(generator, 2000)
    for i in range(12):
        yield f"text/chapter-{i:02}.txt", words(generator, 9000)
    for i in range(8):
        yield f"tables/part-{i % 2}/table-{i:02}.csv", table(generator, 6000)
    for i in range(6):
        yield f"figures/figure-{i:02}.bin", generator.randbytes(200000)


def data_sets(data_dir):
    """Names of the data sets of a data directory."""
    if not data_dir or not os.path.isdir(data_dir):
        return []
    return sorted(entry.name for entry in os.scandir(data_dir) if entry.is_dir() and entry.name[0] != ".")


def files_below(directory):
    for root, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted(names):
            path = os.path.join(root, name)
            yield os.path.relpath(path, directory).replace(os.sep, "/"), path


def generate_input(data_dir, size, benchmarks_bucket, input_paths, output_paths, upload_func, nosql_func):
    available = data_sets(data_dir)
    for name in available:
        for relative, path in files_below(os.path.join(data_dir, name)):
            upload_func(0, f"{name}/{relative}", path)
    if not available:
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "file")
            for relative, content in generated_files():
                with open(path, "wb") as file:
                    file.write(content)
                upload_func(0, f"{DATA_SET}/{relative}", path)

    chosen = available[0] if available and DATA_SET not in available else DATA_SET
    return {
        "object": {"key": chosen},
        "bucket": {"bucket": benchmarks_bucket, "input": input_paths[0], "output": output_paths[0]},
    }


def expected_files(data_dir, name):
    """{path below the data set: CRC-32} of what was uploaded."""
    if name not in data_sets(data_dir):
        return {relative: zlib.crc32(content) for relative, content in generated_files()}
    sums = {}
    for relative, path in files_below(os.path.join(data_dir, name)):
        with open(path, "rb") as file:
            sums[relative] = zlib.crc32(file.read())
    return sums


def validate_output(data_dir, input_config, output, language, storage):
    result = output.get("result")
    if not isinstance(result, dict) or not result.get("key"):
        return f"the result {result!r} names no object"
    bucket, prefix = input_config["bucket"]["bucket"], input_config["bucket"]["output"]
    key = result["key"]
    if result.get("bucket") != bucket or not key.startswith(prefix + "/"):
        return f"stored as {result.get('bucket')!r}/{key!r}, outside {bucket!r}/{prefix!r}"
    if not key.endswith(".zip"):
        return f"stored as {key!r}, not as a zip archive"
    if storage is None:
        return None

    name = input_config["object"]["key"]
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "archive.zip")
        storage.download(bucket, key, path)
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
                entries = {entry.filename: entry.CRC for entry in archive.infolist() if not entry.is_dir()}
        except zipfile.BadZipFile as error:
            return f"the archive cannot be read: {error}"
    if damaged:
        return f"{damaged} in the archive is damaged"
    # Entries may carry directories above the data set.
    found = {("/" + entry).split(f"/{name}/", 1)[-1]: crc for entry, crc in entries.items()}
    expected = expected_files(data_dir, name)
    if found.keys() != expected.keys():
        missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        return f"the archive lacks {missing[:5]} and has {extra[:5]} too many"
    changed = sorted(entry for entry in expected if expected[entry] != found[entry])
    if changed:
        return f"the archive holds {changed[0]} with other content"
    return None
