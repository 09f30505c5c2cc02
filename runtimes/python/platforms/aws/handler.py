"""Adapter of AWS Lambda: every answer has the form of an HTTP response.

Function URLs and API Gateway need that form; direct calls get the same one.
"""

import json
import os
import sys


def find_packages():
    """Makes the package's dependencies importable, which the managed runtime does not.

    They go behind the standard library but before what the runtime brings
    (boto3 and what that needs): a function runs with the versions it was
    packaged with.
    """
    packages = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".python_packages", "lib", "site-packages")
    if packages in sys.path:
        return  # the suite's own bootstrap did it
    ends = [i for i, path in enumerate(sys.path, 1) if path.endswith("lib-dynload")]
    sys.path.insert(ends[-1] if ends else len(sys.path), packages)


find_packages()

from function import function, sebs_core  # noqa: E402

core = sebs_core.Core(getattr(function, "handler", None))


def handler(event, context):
    answer = core.serve(event, context.aws_request_id)
    try:
        body = json.dumps(answer, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError("the function's return value is not JSON: %s; return only dict, list, str, finite numbers, "
                        "bool and None" % error) from error
    return {"statusCode": 200, "body": body}
