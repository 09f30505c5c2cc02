"""Input of 501.graph-pagerank: size of a random graph and the seed it grows from."""

import math

VERTICES = {"test": 10, "small": 10000, "large": 100000}
SEED = 42

# Rank of vertex 0 by number of vertices, for the seed above and the generator
# of python-igraph.
RANK_OF_FIRST = {10: 0.1, 10000: 0.0012122480931530, 100000: 0.00033384438552589}
TOLERANCE = 1e-9


def generate_input(data_dir, size, benchmarks_bucket, input_paths, output_paths, upload_func, nosql_func):
    return {"size": VERTICES[size], "seed": SEED}


def validate_output(data_dir, input_config, output, language, storage):
    rank = output.get("result")
    if isinstance(rank, bool) or not isinstance(rank, (int, float)) or not math.isfinite(rank):
        return f"the result {rank!r} is not a number"
    if not 0 < rank < 1:
        return f"the rank {rank} is not between 0 and 1"
    vertices = input_config["size"]
    # Other languages grow another graph from the same seed.
    if language != "python" or input_config.get("seed") != SEED or vertices not in RANK_OF_FIRST:
        return None
    if abs(rank - RANK_OF_FIRST[vertices]) > TOLERANCE:
        return f"the rank of the first of {vertices} vertices is {rank} instead of {RANK_OF_FIRST[vertices]}"
    return None
