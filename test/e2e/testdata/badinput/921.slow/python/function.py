import time


def handler(event):
    time.sleep(2)
    return {"result": 1}
