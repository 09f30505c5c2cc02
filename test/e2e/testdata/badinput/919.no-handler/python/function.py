def handle(event):
    return {"result": 1}
