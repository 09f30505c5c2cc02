"""Client of the AWS Lambda Runtime API, on the standard library alone.

Started as ``python3 bootstrap.py`` with

    AWS_LAMBDA_RUNTIME_API  host:port of the Runtime API
    _HANDLER                "<module>.<function>", default "handler.handler"
    LAMBDA_TASK_ROOT        directory of the unpacked code package

It imports the handler once and then serves one invocation at a time until the
host closes the connection. Python 3.9 to 3.13.
"""

import importlib
import json
import os
import socket
import sys
import time
import traceback

API = "/2018-06-01/runtime"
PACKAGES = os.path.join(".python_packages", "lib", "site-packages")


class HostGone(Exception):
    """The host closed the connection: there is nothing left to serve."""


class Connection:
    """A kept-alive HTTP/1.1 connection to the Runtime API.

    Requests are written by one call each and Nagle's algorithm is off:
    head and body in two segments would wait for a delayed acknowledgement,
    some 40 ms a call. The few lines of HTTP that the API needs are spoken here
    because importing http.client costs more than the whole start otherwise.
    """

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.address = address
        self.target = (host.strip("[]"), int(port))
        self.socket = None
        self.reader = None

    def _open(self):
        self.socket = socket.create_connection(self.target)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb", 1 << 16)

    def _close(self):
        if self.socket is not None:
            self.reader.close()
            self.socket.close()
            self.socket = None

    def request(self, method, path, body=b"", headers=()):
        """Returns (status, headers with lower-case names, body)."""
        lines = ["%s %s HTTP/1.1" % (method, path), "Host: " + self.address]
        if method != "GET":
            lines.append("Content-Type: application/json")
            lines.append("Content-Length: %d" % len(body))
        lines.extend("%s: %s" % pair for pair in headers)
        message = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body

        fresh = self.socket is None
        try:
            if fresh:
                self._open()
            return self._exchange(message)
        except (ConnectionError, HostGone):
            self._close()
            # A kept connection may have been closed by the host since the
            # last answer. A request for work is repeated, an answer never is:
            # it might have been taken.
            if fresh or method != "GET":
                raise
        self._open()
        return self._exchange(message)

    def _exchange(self, message):
        self.socket.sendall(message)
        status_line = self.reader.readline()
        if not status_line.endswith(b"\n"):
            raise HostGone("the Runtime API at %s closed the connection" % self.address)
        status = int(status_line.split(None, 2)[1])
        headers = {}
        while True:
            line = self.reader.readline()
            if line in (b"\r\n", b"\n"):
                break
            if not line:
                raise HostGone("the Runtime API at %s broke off an answer" % self.address)
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = self._chunks()
        else:
            body = self._exactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self._close()
        return status, headers, body

    def _exactly(self, size):
        body = self.reader.read(size)
        if len(body) != size:
            raise HostGone("the Runtime API at %s broke off an answer" % self.address)
        return body

    def _chunks(self):
        parts = []
        while True:
            size = int(self.reader.readline().split(b";")[0], 16)
            if size == 0:
                break
            parts.append(self._exactly(size))
            self.reader.readline()
        while self.reader.readline() not in (b"\r\n", b"\n", b""):
            pass
        return b"".join(parts)


class Context:
    """What a Lambda handler expects as its second argument."""

    def __init__(self, headers):
        env = os.environ.get
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id", "")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn", "")
        self.function_name = env("AWS_LAMBDA_FUNCTION_NAME", "")
        self.function_version = env("AWS_LAMBDA_FUNCTION_VERSION", "")
        self.memory_limit_in_mb = env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        self.log_group_name = env("AWS_LAMBDA_LOG_GROUP_NAME", "")
        self.log_stream_name = env("AWS_LAMBDA_LOG_STREAM_NAME", "")
        self.identity = None
        self.client_context = None
        if headers.get("lambda-runtime-client-context"):
            self.client_context = json.loads(headers["lambda-runtime-client-context"])
        self._deadline_ms = int(headers.get("lambda-runtime-deadline-ms") or 0)

    def get_remaining_time_in_millis(self):
        if not self._deadline_ms:
            return 0
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message):
        sys.stdout.write(str(message))


class InitError(Exception):
    """The handler could not be loaded; kind is the Runtime API's error type."""

    def __init__(self, kind, message, stack=()):
        super().__init__(message)
        self.kind = kind
        self.stack = list(stack)


def stack_of(error):
    """Frames of the function's own code, outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
    return [line.rstrip("\n") for line in traceback.format_list(own)]


def load_handler(task_root, name):
    module_name, dot, function_name = name.rpartition(".")
    if not dot or not module_name or not function_name:
        raise InitError(
            "Runtime.MalformedHandlerName",
            "handler name %r must have the form <module>.<function>" % name,
        )
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = "cannot import module %r of the function: %s" % (module_name, error)
        if isinstance(error, ModuleNotFoundError) and error.name and error.name != module_name:
            message += "; add the package that holds it to the function's requirements"
        raise InitError("Runtime.ImportModuleError", message, stack_of(error)) from error
    except SyntaxError as error:
        file = error.filename or "?"
        if file.startswith(os.path.join(task_root, "")):
            file = os.path.relpath(file, task_root)
        where = "%s, line %s" % (file, error.lineno)
        raise InitError(
            "Runtime.UserCodeSyntaxError",
            "syntax error in the function's code (%s): %s" % (where, error.msg),
            [where],
        ) from error
    except (Exception, SystemExit) as error:
        raise InitError(
            type(error).__name__,
            "the function's code failed while it was imported: %s" % error,
            stack_of(error),
        ) from error
    handler = getattr(module, function_name, None)
    if not callable(handler):
        raise InitError(
            "Runtime.HandlerNotFound",
            "module %r in %s has no function %r" % (module_name, task_root, function_name),
        )
    return handler


def extend_path(task_root):
    """Makes the package importable instead of the bootstrap's own directory.

    The function's dependencies go behind the standard library but before
    whatever the machine has installed: a function runs with the versions it
    was packaged with.
    """
    sys.path[0] = task_root
    installed = (i for i, p in enumerate(sys.path) if p.endswith(("site-packages", "dist-packages")))
    sys.path.insert(next(installed, len(sys.path)), os.path.join(task_root, PACKAGES))
    importlib.invalidate_caches()


def error_body(kind, message, stack, request_id=None):
    body = {"errorType": kind, "errorMessage": message, "stackTrace": stack}
    if request_id is not None:
        body["requestId"] = request_id
    return json.dumps(body).encode()


def report_error(connection, path, kind, message, stack, request_id=None):
    # The log gets what the caller gets: a function's log must explain itself.
    sys.stderr.write("[ERROR] %s: %s\n%s" % (kind, message, "".join(line + "\n" for line in stack)))
    sys.stderr.flush()
    # Type names may carry any character; a header may not.
    safe = "".join(c if " " < c <= "~" else "_" for c in kind)
    connection.request(
        "POST",
        API + path,
        error_body(kind, message, stack, request_id),
        [("Lambda-Runtime-Function-Error-Type", safe)],
    )


def flush_output():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # the function closed it; that is its right


def serve(connection, handler):
    while True:
        status, headers, payload = connection.request("GET", API + "/invocation/next")
        if status != 200:
            raise HostGone("the Runtime API answered %d to a request for work" % status)
        request_id = headers["lambda-runtime-aws-request-id"]
        path = "/invocation/%s" % request_id
        trace = headers.get("lambda-runtime-trace-id")
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace

        try:
            event = json.loads(payload) if payload else None
        except ValueError as error:
            report_error(connection, path + "/error", "Runtime.UnmarshalError",
                         "the payload is not JSON: %s" % error, [], request_id)
            continue

        try:
            result = handler(event, Context(headers))
        except Exception as error:
            flush_output()
            report_error(connection, path + "/error", type(error).__name__, str(error),
                         stack_of(error), request_id)
            continue
        except BaseException as error:
            # sys.exit and the like end the process, but not without an answer.
            flush_output()
            report_error(connection, path + "/error", "Runtime.ExitError",
                         "the function ended the process: %r" % error, stack_of(error), request_id)
            raise

        try:
            body = json.dumps(result, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            flush_output()
            report_error(connection, path + "/error", "Runtime.MarshalError",
                         "the function's return value is not JSON: %s; return only dict, list, "
                         "str, finite numbers, bool and None" % error, [], request_id)
            continue
        del result, event
        flush_output()
        status, _, answer = connection.request("POST", API + path + "/response", body)
        if status >= 300:
            sys.stderr.write("[ERROR] the Runtime API answered %d to the response of %s: %s\n"
                             % (status, request_id, answer[:500].decode("utf-8", "replace")))
            sys.stderr.flush()


def main():
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if not address:
        sys.exit("AWS_LAMBDA_RUNTIME_API is not set; give the Runtime API's host:port")
    task_root = os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd()
    name = os.environ.get("_HANDLER") or "handler.handler"

    # Lines reach the log as they are written, so that they survive a kill.
    # Text the log's encoding lacks must not fail an invocation.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")

    extend_path(task_root)

    connection = Connection(address)
    try:
        handler = load_handler(task_root, name)
    except InitError as error:
        flush_output()
        report_error(connection, "/init/error", error.kind, str(error), error.stack)
        sys.exit(1)
    try:
        serve(connection, handler)
    except (HostGone, ConnectionError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
