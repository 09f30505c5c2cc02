calls = 0


def handler(event):
    global calls
    calls += 1
    if calls % 2 == 0:
        return {"outcome": calls}
    return {"result": calls}
