calls = 0


def handler(event):
    global calls
    calls += 1
    if calls % 2 == 0:
        line = "x" * 1023
        for _ in range(100 << 10):
            print(line)
    return {"result": calls}
