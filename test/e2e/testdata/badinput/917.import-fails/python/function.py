import there_is_no_such_module


def handler(event):
    return {"result": 1}
