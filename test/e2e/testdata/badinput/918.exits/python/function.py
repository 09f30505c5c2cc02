import os

calls = 0


def handler(event):
    global calls
    calls += 1
    if calls % 2 == 0:
        os._exit(9)
    return {"result": calls}
