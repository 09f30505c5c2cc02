calls = 0


def handler(event):
    global calls
    calls += 1
    if calls % 2 == 0:
        hoard = [bytearray(b"x") * (16 << 20) for _ in range(64)]
        return {"result": len(hoard)}
    return {"result": calls}
