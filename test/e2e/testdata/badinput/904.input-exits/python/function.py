def handler(event):
    return {"result": 1}
