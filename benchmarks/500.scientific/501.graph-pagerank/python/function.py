import random
import time

import igraph

# Each new vertex of the graph is tied to this many earlier ones.
EDGES_PER_VERTEX = 10


def handler(event):
    if "seed" in event:
        random.seed(event["seed"])

    started = time.perf_counter()
    graph = igraph.Graph.Barabasi(event["size"], EDGES_PER_VERTEX)
    generated = time.perf_counter()
    ranks = graph.pagerank()
    computed = time.perf_counter()

    return {
        "result": ranks[0],
        "measurement": {
            "graph_generating_time": (generated - started) * 1e6,
            "compute_time": (computed - generated) * 1e6,
        },
    }
