"""Input of 503.graph-bfs: size of a random graph and the seed it grows from."""

import hashlib
import json

VERTICES = {"test": 10, "small": 10000, "large": 100000}
SEED = 42

# MD5 of the answer as compact JSON by number of vertices, for the seed above
# and the generator of python-igraph.
MD5 = {
    10: "1dfb71bebaebcfb1a850f5b81610c2f7",
    10000: "14160bc08930584610005d05cc20989f",
    100000: "55cb168c17d2371637f483c720f29dfd",
}


def generate_input(data_dir, size, benchmarks_bucket, input_paths, output_paths, upload_func, nosql_func):
    return {"size": VERTICES[size], "seed": SEED}


def validate_output(data_dir, input_config, output, language, storage):
    traversal = output.get("result")
    if not isinstance(traversal, list) or len(traversal) != 3 or not all(isinstance(p, list) for p in traversal):
        return "the result is not three lists (order of visits, starts of layers, parents)"
    order, layers, parents = traversal
    vertices = input_config["size"]
    if sorted(order) != list(range(vertices)):
        return f"the traversal does not visit each of the {vertices} vertices once"
    if not layers or layers[0] != 0 or layers[-1] != vertices or layers != sorted(set(layers)):
        return f"the layers start at {layers[:10]}, which does not divide {vertices} visits"
    if len(parents) != vertices:
        return f"there are {len(parents)} parents for {vertices} vertices"
    # Other languages grow another graph from the same seed.
    if language != "python" or input_config.get("seed") != SEED or vertices not in MD5:
        return None
    digest = hashlib.md5(json.dumps(traversal, separators=(",", ":")).encode()).hexdigest()
    if digest != MD5[vertices]:
        return f"the traversal of {vertices} vertices has MD5 {digest} instead of {MD5[vertices]}"
    return None
