"""Where S3 and DynamoDB are, and the credentials of the function's role.

Lambda gives both to the function by environment variables. AWS_ENDPOINT_URL_S3,
AWS_ENDPOINT_URL_DYNAMODB and AWS_ENDPOINT_URL lead elsewhere, as in AWS's SDKs.
"""

import os


def objects():
    """A client of S3, or of the store that takes its place."""
    from . import sebs_s3

    signer = _signer("s3")
    address = _elsewhere("S3") or "https://{bucket}.s3." + _domain(signer.region)
    return sebs_s3.Client(address, signer)


def tables():
    """(endpoint, signer) of DynamoDB, or of the store that takes its place."""
    from . import sebs_sigv4

    signer = _signer("dynamodb")
    address = _elsewhere("DYNAMODB") or "https://dynamodb." + _domain(signer.region)
    return sebs_sigv4.Endpoint(address), signer


def _signer(service):
    from . import sebs_sigv4

    env = os.environ.get
    values = {
        "AWS_REGION": env("AWS_REGION") or env("AWS_DEFAULT_REGION"),
        "AWS_ACCESS_KEY_ID": env("AWS_ACCESS_KEY_ID"),
        "AWS_SECRET_ACCESS_KEY": env("AWS_SECRET_ACCESS_KEY"),
    }
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise RuntimeError("no credentials for %s: %s not set; Lambda sets them for the function's role"
                           % (service, ", ".join(missing)))
    return sebs_sigv4.Signer(service, *values.values(), env("AWS_SESSION_TOKEN"))


def _elsewhere(service):
    return os.environ.get("AWS_ENDPOINT_URL_" + service) or os.environ.get("AWS_ENDPOINT_URL")


def _domain(region):
    return region + (".amazonaws.com.cn" if region.startswith("cn-") else ".amazonaws.com")
