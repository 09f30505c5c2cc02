from time import sleep


def handler(event):
    seconds = event["sleep"]
    sleep(seconds)
    return {"result": seconds}
