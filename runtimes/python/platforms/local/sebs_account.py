"""Where the stores of the local platform are, and the function's account there."""

import os


def objects():
    """A client of the object store."""
    from . import sebs_s3, sebs_sigv4

    names = ("MINIO_ADDRESS", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise RuntimeError(
            "the object store is not configured: %s not set; a function gets it when its "
            "benchmark's input.py defines buckets_count" % ", ".join(missing)
        )
    address, access_key, secret_key = (os.environ[name] for name in names)
    region = os.environ.get("MINIO_REGION") or "us-east-1"
    return sebs_s3.Client(address, sebs_sigv4.Signer("s3", region, access_key, secret_key))


def tables():
    """(endpoint, signer) of the table store."""
    from . import sebs_sigv4

    env = os.environ.get
    address = env("NOSQL_STORAGE_ENDPOINT")
    if not address:
        raise RuntimeError(
            "the table store is not configured: NOSQL_STORAGE_ENDPOINT not set; a function "
            "gets it when its benchmark's input.py defines allocate_nosql"
        )
    kind = env("NOSQL_STORAGE_TYPE", "scylladb")
    if kind not in ("scylladb", "dynamodb"):
        raise RuntimeError("NOSQL_STORAGE_TYPE %r is not supported; use scylladb or dynamodb" % kind)
    # Alternator asks for no account; SeBS sends the text "None".
    return sebs_sigv4.Endpoint(address), sebs_sigv4.Signer(
        "dynamodb",
        env("NOSQL_STORAGE_REGION") or "None",
        env("NOSQL_STORAGE_ACCESS_KEY") or "None",
        env("NOSQL_STORAGE_SECRET_KEY") or "None",
    )
