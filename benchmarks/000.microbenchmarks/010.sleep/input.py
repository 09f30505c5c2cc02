"""Input of 010.sleep: how many seconds to sleep."""

SECONDS = {"test": 1, "small": 100, "large": 1000}


def generate_input(data_dir, size, benchmarks_bucket, input_paths, output_paths, upload_func, nosql_func):
    return {"sleep": SECONDS[size]}


def validate_output(data_dir, input_config, output, language, storage):
    slept = output.get("result")
    if slept != input_config["sleep"]:
        return f"slept {slept!r} s instead of {input_config['sleep']} s"
    return None
