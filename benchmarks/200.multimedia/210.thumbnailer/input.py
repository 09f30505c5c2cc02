"""Input of 210.thumbnailer: a picture to make smaller.

Pictures come from the data directory (``*.jpg``) where there is one, else from
``pictures`` beside this file.
"""

import os
import struct
import tempfile

# The picture SeBS takes from its data set.
SEBS_PICTURE = "6_astronomy-desktop-wallpaper-evening-1624438.jpg"


def buckets_count():
    return (1, 1)


def pictures(data_dir):
    shipped = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pictures")
    for directory in (data_dir, shipped):
        if directory and os.path.isdir(directory):
            names = sorted(name for name in os.listdir(directory) if name.endswith(".jpg"))
            if names:
                return directory, names
    raise FileNotFoundError(f"no *.jpg in {data_dir} or {shipped}")


def generate_input(data_dir, size, benchmarks_bucket, input_paths, output_paths, upload_func, nosql_func):
    directory, names = pictures(data_dir)
    for name in names:
        upload_func(0, name, os.path.join(directory, name))
    return {
        "object": {
            "key": SEBS_PICTURE if SEBS_PICTURE in names else names[0],
            "width": 200,
            "height": 200,
        },
        "bucket": {"bucket": benchmarks_bucket, "input": input_paths[0], "output": output_paths[0]},
    }


def validate_output(data_dir, input_config, output, language, storage):
    result = output.get("result")
    if not isinstance(result, dict) or not result.get("key"):
        return f"the result {result!r} names no object"
    bucket, prefix = input_config["bucket"]["bucket"], input_config["bucket"]["output"]
    key = result["key"]
    if result.get("bucket") != bucket or not key.startswith(prefix + "/"):
        return f"stored as {result.get('bucket')!r}/{key!r}, outside {bucket!r}/{prefix!r}"
    if storage is None:
        return None

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "thumbnail")
        storage.download(bucket, key, path)
        try:
            width, height = dimensions(path)
        except (ValueError, struct.error) as error:
            return f"the thumbnail cannot be read: {error}"
    limits = input_config["object"]["width"], input_config["object"]["height"]
    if not (0 < width <= limits[0] and 0 < height <= limits[1]):
        return f"the thumbnail has {width} × {height} pixels, more than {limits[0]} × {limits[1]}"
    if width != limits[0] and height != limits[1]:
        return f"the thumbnail has {width} × {height} pixels and touches neither limit of {limits[0]} × {limits[1]}"
    return None


def dimensions(path):
    """Width and height of a PNG or JPEG, from its header."""
    with open(path, "rb") as file:
        start = file.read(24)
        if start.startswith(b"\x89PNG\r\n\x1a\n"):
            return struct.unpack(">II", start[16:24])
        if not start.startswith(b"\xff\xd8"):
            raise ValueError(f"it begins with {start[:8]!r}, neither PNG nor JPEG")
        file.seek(2)
        while True:
            marker = file.read(2)
            if len(marker) < 2 or marker[0] != 0xFF:
                raise ValueError("a JPEG without a frame header")
            kind = marker[1]
            if kind == 0xFF:  # padding before a marker
                file.seek(-1, os.SEEK_CUR)
                continue
            if kind == 0x01 or 0xD0 <= kind <= 0xD8:  # markers without content
                continue
            (length,) = struct.unpack(">H", file.read(2))
            # Frame headers, but not the tables that share their range.
            if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack(">xHH", file.read(5))
                return width, height
            file.seek(length - 2, os.SEEK_CUR)
