import os
import shutil
import tempfile
import time
import urllib.request

from . import storage

client = storage.storage.get_instance()


def handler(event):
    url = event["object"]["url"]
    bucket, prefix = event["bucket"]["bucket"], event["bucket"]["output"]
    name = os.path.basename(url)

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "download")
        started = time.perf_counter()
        # Some hosts turn away requests without a name.
        request = urllib.request.Request(url, headers={"User-Agent": "sebs-benchmark/1.0"})
        with urllib.request.urlopen(request) as response, open(path, "wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
        fetched = time.perf_counter()
        size = os.path.getsize(path)
        key = client.upload(bucket, os.path.join(prefix, name), path)
        stored = time.perf_counter()

    return {
        "result": {"bucket": bucket, "url": url, "key": key},
        # The download from the web is this benchmark's work, so it counts as
        # compute; nothing is read from the object store.
        "measurement": {
            "download_time": 0,
            "download_size": 0,
            "upload_time": (stored - fetched) * 1e6,
            "upload_size": size,
            "compute_time": (fetched - started) * 1e6,
        },
    }
