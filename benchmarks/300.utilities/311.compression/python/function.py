import os
import shutil
import tempfile
import time

from . import storage

client = storage.storage.get_instance()


def directory_size(directory):
    return sum(
        os.path.getsize(os.path.join(root, name)) for root, _, names in os.walk(directory) for name in names
    )


def handler(event):
    bucket, key = event["bucket"]["bucket"], event["object"]["key"]
    source = os.path.join(event["bucket"]["input"], key)

    with tempfile.TemporaryDirectory() as work:
        started = time.perf_counter()
        client.download_directory(bucket, source + "/", work)
        downloaded = time.perf_counter()
        size = directory_size(work)

        packing = time.perf_counter()
        archive = os.path.join(work, "archive")
        archive = shutil.make_archive(
            archive, "zip", root_dir=os.path.join(work, event["bucket"]["input"]), base_dir=key
        )
        packed = time.perf_counter()

        archive_size = os.path.getsize(archive)
        storing = time.perf_counter()
        stored_key = client.upload(bucket, os.path.join(event["bucket"]["output"], key + ".zip"), archive)
        stored = time.perf_counter()

    return {
        "result": {"bucket": bucket, "key": stored_key},
        "measurement": {
            "download_time": (downloaded - started) * 1e6,
            "download_size": size,
            "upload_time": (stored - storing) * 1e6,
            "upload_size": archive_size,
            "compute_time": (packed - packing) * 1e6,
        },
    }
