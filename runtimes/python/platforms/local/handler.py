"""Adapter of the local platform: Lambda's calling convention, plain answer."""

from function import function, sebs_core

core = sebs_core.Core(getattr(function, "handler", None))


def handler(event, context):
    return core.serve(event, context.aws_request_id)
