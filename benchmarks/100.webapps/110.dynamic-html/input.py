"""Input of 110.dynamic-html: whom to greet, how many random numbers to list."""

import re

NUMBERS = {"test": 10, "small": 1000, "large": 100000}


def generate_input(data_dir, size, benchmarks_bucket, input_paths, output_paths, upload_func, nosql_func):
    return {"username": "testname", "random_len": NUMBERS[size]}


def validate_output(data_dir, input_config, output, language, storage):
    page = output.get("result")
    if not isinstance(page, str):
        return f"the result is a {type(page).__name__}, not a page"
    if not re.search(r"<html\b.*</html>\s*$", page, re.DOTALL):
        return "the page is not enclosed in <html>"
    if input_config["username"] not in page:
        return f"the page does not greet {input_config['username']}"
    numbers = [int(n) for n in re.findall(r"<li>\s*(\d+)\s*</li>", page)]
    if len(numbers) != input_config["random_len"]:
        return f"the page lists {len(numbers)} numbers instead of {input_config['random_len']}"
    if any(not 0 <= n < 1000000 for n in numbers):
        return "the page lists a number outside 0 to 999999"
    return None
