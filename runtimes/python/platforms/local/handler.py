"""Adapter of the local platform: Lambda's calling convention, plain answer."""

from function import function, sebs_core

core = sebs_core.Core(getattr(function, "handler", None))


def handler(event, context):
    uploaded = sebs_core.uploaded_object(event)
    if uploaded is not None:
        return from_storage(uploaded, context.aws_request_id)
    return core.invoke(sebs_core.unwrap(event), context.aws_request_id)


def from_storage(uploaded, request_id):
    """Serves an upload: the object is the payload, the answer an object too."""
    import json

    from function import sebs_s3

    bucket, key = uploaded
    store = sebs_s3.Client.from_environment()
    try:
        answer = core.invoke(json.loads(store.get(bucket, key)), request_id)
        body = json.dumps(answer, allow_nan=False)
    except Exception as error:
        failure = {"errorType": type(error).__name__, "errorMessage": str(error), "request_id": request_id}
        store.put(bucket, sebs_core.result_key(key), json.dumps(failure).encode())
        raise
    store.put(bucket, sebs_core.result_key(key), body.encode())
    return answer
