"""A client for S3 and for object stores compatible with it."""

import hashlib
import os
import re
import xml.etree.ElementTree as ElementTree
from urllib.parse import quote

from . import sebs_sigv4

BLOCK = 1 << 20
# Beyond this S3 takes no object in one request.
LARGEST_PUT = 5 << 30


class Client:
    def __init__(self, address, signer):
        """``address`` is host:port or an http(s) URL. Buckets are the first part
        of the path, or of the host where ``address`` has "{bucket}." in it."""
        self._address = address
        self._signer = signer
        self._endpoints = {}

    def _locate(self, bucket):
        """The endpoint that serves a bucket and the bucket's path there."""
        address, path = self._address, "/" + quote(bucket, safe="-_.~")
        if "{bucket}." in address:
            # S3's certificate covers one more label: names with dots go by path.
            if re.fullmatch("[a-z0-9-]+", bucket):
                address, path = address.replace("{bucket}", bucket), ""
            else:
                address = address.replace("{bucket}.", "")
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            endpoint = self._endpoints.setdefault(address, sebs_sigv4.Endpoint(address))
        return endpoint, path

    def _request(self, method, bucket, key, consume, query=(), body=b"", file=None):
        endpoint, path = self._locate(bucket)
        path += "/" + quote(key, safe="/-_.~") if key is not None else "" if path else "/"
        size = os.fstat(file.fileno()).st_size if file else memoryview(body).nbytes
        if endpoint.secure:
            digest = "UNSIGNED-PAYLOAD"  # TLS protects the body already
        else:
            digest = hash_file(file) if file else hashlib.sha256(body).hexdigest()
        target = path + ("?" + sebs_sigv4.encode_query(query) if query else "")

        def prepare():
            headers = self._signer.headers(method, endpoint.host, path, query, {}, digest)
            if method == "PUT":
                headers["content-length"] = str(size)
                headers["content-type"] = "application/octet-stream"
            if file:
                file.seek(0)
            return method, target, file or body or None, headers

        try:
            return endpoint.exchange(prepare, consume)
        except sebs_sigv4.ServiceError as error:
            if error.region and error.region != self._signer.region:
                raise sebs_sigv4.ServiceError(
                    error.status,
                    "bucket %s is in region %s and the function in %s; use a bucket of the function's region (%s)"
                    % (bucket, error.region, self._signer.region, error),
                    error.code, error.region,
                ) from None
            raise

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
