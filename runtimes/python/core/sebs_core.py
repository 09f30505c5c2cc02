"""Calls a benchmark's function and makes the answer of the suite around it.

The same on every platform. Adapters translate the platform's calling
convention into one call of ``serve``.
"""

import os
import time
import uuid


def timestamp(nanoseconds):
    """Seconds since the epoch as text with microseconds: "1764061200.104512"."""
    seconds, rest = divmod(nanoseconds // 1000, 1000000)
    return "%d.%06d" % (seconds, rest)


class Core:
    """One per process. ``function`` is the benchmark's handler(event)."""

    def __init__(self, function):
        if not callable(function):
            raise TypeError("function.py defines no function handler(event)")
        self._function = function
        self._cold = True
        self._container_id = uuid.uuid4().hex[:8]

    def serve(self, event, request_id):
        """Answers an event in any of Lambda's forms: the payload itself, an HTTP
        request that carries it, or the notification of an upload."""
        uploaded = uploaded_object(event)
        if uploaded is not None:
            return self._serve_upload(uploaded, request_id)
        return self.invoke(unwrap(event), request_id)

    def _serve_upload(self, uploaded, request_id):
        """The object is the payload, the answer becomes an object too."""
        import json

        from . import sebs_account

        bucket, key = uploaded
        store = sebs_account.objects()
        try:
            answer = self.invoke(json.loads(store.get(bucket, key)), request_id)
            body = json.dumps(answer, allow_nan=False)
        except Exception as error:
            failure = {"errorType": type(error).__name__, "errorMessage": str(error), "request_id": request_id}
            store.put(bucket, result_key(key), json.dumps(failure).encode())
            raise
        store.put(bucket, result_key(key), body.encode())
        return answer

    def invoke(self, event, request_id):
        """Runs the function once. What it raises passes through."""
        income = time.time()
        # Taken before the call: a cold request that fails leaves the sandbox
        # warm for the next one.
        is_cold, self._cold = self._cold, False
        if isinstance(event, dict):
            event["request-id"] = request_id
            event["income-timestamp"] = income

        begin = time.time_ns()
        started = time.perf_counter_ns()
        result = self._function(event)
        elapsed = time.perf_counter_ns() - started

        return {
            "begin": timestamp(begin),
            # From the monotonic clock: a step of the wall clock during the
            # call must not bend the duration.
            "end": timestamp(begin + elapsed),
            "results_time": 0,
            "is_cold": is_cold,
            "result": result,
            "request_id": request_id,
            "container_id": self._container_id,
            "cold_start_var": os.environ.get("cold_start", ""),
        }


def unwrap(event):
    """The payload of an HTTP-style event: its ``body`` where that is a string."""
    if not isinstance(event, dict) or not isinstance(event.get("body"), str):
        return event
    import json

    body = event["body"]
    if event.get("isBase64Encoded") is True:
        import base64

        body = base64.b64decode(body)
    return json.loads(body)


def uploaded_object(event):
    """(bucket, key) when the event is an upload notification, else None."""
    if not isinstance(event, dict) or not isinstance(event.get("Records"), list):
        return None
    try:
        s3 = event["Records"][0]["s3"]
        bucket, key = s3["bucket"]["name"], s3["object"]["key"]
    except (IndexError, KeyError, TypeError):
        return None
    from urllib.parse import unquote_plus

    return bucket, unquote_plus(key)


def result_key(key):
    """Where the answer to an uploaded payload is written."""
    return "results/" + key.rsplit("/", 1)[-1]
