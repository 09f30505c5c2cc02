"""Input of 120.uploader: which file of the web to store.

SEBS_UPLOADER_BASE_URL is where the suite serves generated files of fixed
content. Without it, or with SEBS_UPLOADER_ORIGINAL=1, the files come from the
public addresses that SeBS uses.
"""

import hashlib
import os
import tempfile

ORIGINAL = {
    "test": "https://upload.wikimedia.org/wikipedia/commons/thumb/e/e7/Jammlich_crop.jpg/800px-Jammlich_crop.jpg",
    "small": "https://github.com/STEllAR-GROUP/hpx/archive/refs/tags/1.4.0.zip",
    "large": "https://download.pytorch.org/models/resnet50-19c8e357.pth",
}
SERVED = {"test": "test.bin", "small": "small.bin", "large": "large.bin"}

# What the suite serves: bytes and MD5 by file name.
CONTENT = {
    "test.bin": (230000, "364d6717fd16e38c7c013694d82cdc5e"),
    "small.bin": (6700000, "be07723bf3c2eb768cc045fb01c87421"),
    "large.bin": (98000000, "3830e3e5f28ba10d46df017755eee372"),
}
# How the public files begin, and what is known of the digest of one.
MAGIC = {
    ORIGINAL["test"]: b"\xff\xd8\xff",
    ORIGINAL["small"]: b"PK",
}
SHA256_PREFIX = {ORIGINAL["large"]: "19c8e357"}


def buckets_count():
    return (0, 1)


def generate_input(data_dir, size, benchmarks_bucket, input_paths, output_paths, upload_func, nosql_func):
    base = os.environ.get("SEBS_UPLOADER_BASE_URL", "")
    if base and os.environ.get("SEBS_UPLOADER_ORIGINAL", "") != "1":
        url = base.rstrip("/") + "/" + SERVED[size]
    else:
        url = ORIGINAL[size]
    return {
        "object": {"url": url, "size": size},
        "bucket": {"bucket": benchmarks_bucket, "output": output_paths[0]},
    }


def validate_output(data_dir, input_config, output, language, storage):
    result = output.get("result")
    if not isinstance(result, dict):
        return f"the result is a {type(result).__name__}, not an object"
    url = input_config["object"]["url"]
    if result.get("url") != url:
        return f"fetched {result.get('url')!r} instead of {url!r}"
    if result.get("bucket") != input_config["bucket"]["bucket"]:
        return f"stored in bucket {result.get('bucket')!r}"
    key = result.get("key") or ""
    if not key.startswith(input_config["bucket"]["output"] + "/"):
        return f"stored as {key!r}, outside prefix {input_config['bucket']['output']!r}"
    if storage is None:
        return None

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "stored")
        storage.download(result["bucket"], key, path)
        return check_content(url, path)


def check_content(url, path):
    md5, sha256, length = hashlib.md5(), hashlib.sha256(), 0
    with open(path, "rb") as file:
        start = file.read(16)
        file.seek(0)
        for block in iter(lambda: file.read(1 << 20), b""):
            md5.update(block)
            sha256.update(block)
            length += len(block)
    if length == 0:
        return "the stored object is empty"
    if url in MAGIC and not start.startswith(MAGIC[url]):
        return f"the stored object begins with {start!r}, which is not the file at {url}"
    if url in SHA256_PREFIX and not sha256.hexdigest().startswith(SHA256_PREFIX[url]):
        return f"the stored object has SHA-256 {sha256.hexdigest()}, not {SHA256_PREFIX[url]}…"
    expected = CONTENT.get(url.rsplit("/", 1)[-1])
    if expected and url not in ORIGINAL.values() and (length, md5.hexdigest()) != expected:
        return f"the stored object has {length} bytes and MD5 {md5.hexdigest()}, not {expected[0]} and {expected[1]}"
    return None
