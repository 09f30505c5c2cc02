"""A client for S3-compatible object stores, path-style addressing."""

import hashlib
import os
import xml.etree.ElementTree as ElementTree
from urllib.parse import quote

from . import sebs_sigv4

BLOCK = 1 << 20
# Beyond this S3 takes no object in one request.
LARGEST_PUT = 5 << 30


class Client:
    def __init__(self, address, access_key, secret_key, region="us-east-1"):
        self._endpoint = sebs_sigv4.Endpoint(address)
        self._signer = sebs_sigv4.Signer("s3", region, access_key, secret_key)

    @classmethod
    def from_environment(cls):
        names = ("MINIO_ADDRESS", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY")
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise RuntimeError(
                "the object store is not configured: %s not set; a function gets it when its "
                "benchmark's input.py defines buckets_count" % ", ".join(missing)
            )
        region = os.environ.get("MINIO_REGION") or "us-east-1"
        return cls(*(os.environ[name] for name in names), region)

    def _request(self, method, bucket, key, consume, query=(), body=b"", file=None):
        path = "/" + quote(bucket, safe="-_.~")
        if key is not None:
            path += "/" + quote(key, safe="/-_.~")
        size = os.fstat(file.fileno()).st_size if file else memoryview(body).nbytes
        if self._endpoint.secure:
            digest = "UNSIGNED-PAYLOAD"  # TLS protects the body already
        else:
            digest = hash_file(file) if file else hashlib.sha256(body).hexdigest()
        target = path + ("?" + sebs_sigv4.encode_query(query) if query else "")

        def prepare():
            headers = self._signer.headers(method, self._endpoint.host, path, query, {}, digest)
            if method == "PUT":
                headers["content-length"] = str(size)
                headers["content-type"] = "application/octet-stream"
            if file:
                file.seek(0)
            return method, target, file or body or None, headers

        return self._endpoint.exchange(prepare, consume)

    def put(self, bucket, key, data):
        """Stores bytes, a bytearray or a memoryview."""
        self._request("PUT", bucket, key, lambda response: response.read(), body=data)

    def put_file(self, bucket, key, path):
        if os.path.getsize(path) > LARGEST_PUT:
            raise ValueError("%s is larger than 5 GiB, the most an upload in one request can carry" % path)
        with open(path, "rb") as file:
            self._request("PUT", bucket, key, lambda response: response.read(), file=file)

    def get(self, bucket, key):
        return self._request("GET", bucket, key, lambda response: response.read())

    def get_file(self, bucket, key, path):
        def save(response):
            with open(path, "wb") as file:
                while True:
                    block = response.read(BLOCK)
                    if not block:
                        break
                    file.write(block)
                if response.length:
                    raise ConnectionError("the object %s/%s broke off" % (bucket, key))

        self._request("GET", bucket, key, save)

    def list(self, bucket, prefix):
        """All keys under a prefix, in the store's order."""
        token = None
        while True:
            query = [("list-type", "2"), ("prefix", prefix)]
            if token:
                query.append(("continuation-token", token))
            page = ElementTree.fromstring(
                self._request("GET", bucket, None, lambda response: response.read(), query)
            )
            space = page.tag[: page.tag.index("}") + 1] if "}" in page.tag else ""
            for entry in page.findall("%sContents/%sKey" % (space, space)):
                yield entry.text
            token = page.findtext(space + "NextContinuationToken")
            if page.findtext(space + "IsTruncated") != "true" or not token:
                return


def hash_file(file):
    digest = hashlib.sha256()
    while True:
        block = file.read(BLOCK)
        if not block:
            return digest.hexdigest()
        digest.update(block)
