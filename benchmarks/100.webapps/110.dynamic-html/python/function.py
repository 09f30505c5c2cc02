import datetime
import os
import random

from jinja2 import Template

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates", "template.html")


def handler(event):
    with open(PAGE, encoding="utf-8") as file:
        template = Template(file.read())
    page = template.render(
        username=event["username"],
        cur_time=datetime.datetime.now(),
        random_numbers=random.sample(range(1000000), event["random_len"]),
    )
    return {"result": page}
