import io
import os
import time

from PIL import Image

from . import storage

client = storage.storage.get_instance()


def shrink(data, width, height):
    """The picture fitted into width × height, as a JPEG."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.thumbnail((width, height))
        out = io.BytesIO()
        picture.convert("RGB").save(out, format="JPEG")
    out.seek(0)
    return out


def handler(event):
    bucket = event["bucket"]["bucket"]
    key = event["object"]["key"]

    started = time.perf_counter()
    data = client.download_stream(bucket, os.path.join(event["bucket"]["input"], key))
    downloaded = time.perf_counter()
    thumbnail = shrink(data, event["object"]["width"], event["object"]["height"])
    shrunk = time.perf_counter()
    size = len(thumbnail.getbuffer())
    stored_key = client.upload_stream(bucket, os.path.join(event["bucket"]["output"], key), thumbnail)
    uploaded = time.perf_counter()

    return {
        "result": {"bucket": bucket, "key": stored_key},
        "measurement": {
            "download_time": (downloaded - started) * 1e6,
            "download_size": len(data),
            "upload_time": (uploaded - shrunk) * 1e6,
            "upload_size": size,
            "compute_time": (shrunk - downloaded) * 1e6,
        },
    }
