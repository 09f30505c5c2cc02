"""Signed HTTP requests (AWS Signature Version 4) on the standard library.

Importing an SDK costs a cold start several hundred milliseconds, which would
be measured as if it were the platform's. This module costs some ten.
"""

import datetime
import hashlib
import hmac
import http.client
import os
import re
import threading
import time
from urllib.parse import quote, urlsplit

ATTEMPTS = 5
FIRST_PAUSE_S = 0.05
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60


# Refusals with status 400 that the next attempt may not meet. DynamoDB throttles
# with this status.
PASSING = frozenset((
    "ThrottlingException", "ThrottledException", "Throttling", "RequestThrottled", "RequestThrottledException",
    "ProvisionedThroughputExceededException", "RequestLimitExceeded", "TransactionInProgressException", "SlowDown",
    "RequestTimeout", "RequestTimeoutException", "InternalServerError",
))
# What an answer says of itself, in the XML of S3 or the JSON of DynamoDB.
CODE = re.compile(rb'(?:"__type"\s*:\s*"(?:[^"]*#)?|<Code>)(\w+)')
MESSAGE = re.compile(rb'(?:"[mM]essage"\s*:\s*"|<Message>)([^"<]*)')
REGION = re.compile(rb"<Region>([a-z0-9-]+)</Region>")


class ServiceError(Exception):
    """The store refused a request. ``status`` is the HTTP status, ``code`` the
    name of the refusal, ``region`` where the store says the bucket is; both may
    be empty."""

    def __init__(self, status, message, code="", region=""):
        super().__init__(message)
        self.status = status
        self.code = code
        self.region = region


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Signer:
    def __init__(self, service, region, access_key, secret_key, session_token=None):
        self.region = region
        self._service = service
        self._access_key = access_key
        self._secret_key = secret_key
        self._session_token = session_token

    def headers(self, method, host, path, query, headers, payload_hash, now=None):
        """Headers to send. ``path`` is already URI-encoded, ``query`` is a
        list of raw (name, value) pairs, ``headers`` a dict of raw headers."""
        now = now or datetime.datetime.now(datetime.timezone.utc)
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        scope = "%s/%s/%s/aws4_request" % (stamp[:8], self.region, self._service)
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        signed.update({"host": host, "x-amz-date": stamp, "x-amz-content-sha256": payload_hash})
        if self._session_token:
            signed["x-amz-security-token"] = self._session_token
        names = ";".join(sorted(signed))
        canonical = "\n".join([
            method,
            path,
            encode_query(query),
            "".join("%s:%s\n" % (name, signed[name]) for name in sorted(signed)),
            names,
            payload_hash,
        ])
        to_sign = "\n".join([
            "AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest(),
        ])
        key = ("AWS4" + self._secret_key).encode()
        for part in (stamp[:8], self.region, self._service, "aws4_request"):
            key = _hmac(key, part)
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        sent = dict(signed)
        sent["authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
            self._access_key, scope, names, signature,
        )
        return sent


def encode_query(query):
    pairs = sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in query)
    return "&".join("%s=%s" % pair for pair in pairs)


class Endpoint:
    """A store reached over kept-alive connections, one per thread."""

    def __init__(self, address):
        """``address`` is host:port (plain HTTP) or an http(s) URL."""
        parts = urlsplit(address if "://" in address else "http://" + address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("address %r must be host:port or an http(s) URL" % address)
        self.host = parts.netloc
        self.secure = parts.scheme == "https"
        self._name, self._port = parts.hostname, parts.port
        self._local = threading.local()

    def _connection(self):
        connection = getattr(self._local, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
            connection = kind(self._name, self._port, timeout=CONNECT_TIMEOUT_S)
            connection.connect()  # sets TCP_NODELAY
            connection.sock.settimeout(READ_TIMEOUT_S)
            self._local.connection = connection
        return connection

    def _drop(self):
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def exchange(self, prepare, consume):
        """Sends a request and returns what ``consume(response)`` makes of it.

        ``prepare()`` returns (method, target, body, headers) anew for each
        attempt, as a signature is only good for minutes and a file has to be
        read from its start. Broken connections, answers 429 and 5xx and
        throttling are tried again with growing pauses.
        """
        attempt = 1
        while True:
            kept = getattr(self._local, "connection", None) is not None
            try:
                connection = self._connection()
                connection.request(*prepare())
                response = connection.getresponse()
                if response.status < 300:
                    return consume(response)
                answer = response.read()
                failure = self._failure(response, answer)
                if response.status != 429 and response.status < 500 and failure.code not in PASSING:
                    raise failure
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if kept:
                    # The store closed it since the last request, as it does
                    # while a sandbox is frozen. The next one is new.
                    continue
                failure = error
            if attempt == ATTEMPTS:
                raise failure
            # Clients that were refused together must not come back together.
            longest = FIRST_PAUSE_S * 2 ** attempt
            time.sleep(longest * (256 + os.urandom(1)[0]) / 512)
            attempt += 1

    def _failure(self, response, answer):
        code, message, region = (found.group(1).decode("utf-8", "replace") if found else ""
                                 for found in (pattern.search(answer) for pattern in (CODE, MESSAGE, REGION)))
        if "Signature" in code:
            # The service repeats the request that it would have signed, with the
            # session token.
            message = "the signature is wrong; the credentials or the clock are not the function's own"
        # The rest of an answer may hold the token as well.
        text = ": ".join(filter(None, (code, message))) or "no reason"
        return ServiceError(response.status, "%s answered %d: %s" % (self.host, response.status, text), code,
                            response.getheader("x-amz-bucket-region") or region)
