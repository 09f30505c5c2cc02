"""Object storage with the interface of SeBS."""

import os
import uuid

from . import sebs_account


class storage:
    instance = None

    def __init__(self):
        self._client = sebs_account.objects()

    @staticmethod
    def get_instance():
        if storage.instance is None:
            storage.instance = storage()
        return storage.instance

    @staticmethod
    def unique_name(name):
        """``name`` with eight random characters before its extension."""
        stem, extension = os.path.splitext(name)
        return "%s.%s%s" % (stem, uuid.uuid4().hex[:8], extension)

    def upload(self, bucket, file, filepath):
        """Stores a local file under a unique form of ``file``, which is returned."""
        key = storage.unique_name(file)
        self._client.put_file(bucket, key, filepath)
        return key

    def download(self, bucket, file, filepath):
        self._client.get_file(bucket, file, filepath)

    def download_directory(self, bucket, prefix, path):
        """Loads every object under ``prefix`` into ``path/<whole key>``."""
        root = os.path.realpath(path)
        for key in self._client.list(bucket, prefix):
            if key.endswith("/"):
                continue  # a directory marker
            target = os.path.realpath(os.path.join(root, key))
            if not target.startswith(os.path.join(root, "")):
                raise ValueError("object key %r leaves the directory" % key)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            self._client.get_file(bucket, key, target)

    def upload_stream(self, bucket, file, data):
        """Stores what a BytesIO (or bytes) holds; returns the key used."""
        key = storage.unique_name(file)
        if hasattr(data, "getbuffer"):
            data = data.getbuffer()
        elif hasattr(data, "read"):
            data = data.read()
        self._client.put(bucket, key, data)
        return key

    def download_stream(self, bucket, file):
        return self._client.get(bucket, file)
