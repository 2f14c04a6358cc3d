"""Where the default model's file is, as the program finds it; HEDDLE_TEST_MODEL names another."""
import os
import pathlib


def default_model():
    home = pathlib.Path(os.environ.get("HEDDLE_HOME") or pathlib.Path.home() / ".cache" / "heddle")
    return os.environ.get("HEDDLE_TEST_MODEL") or str(home / "SmolLM2-135M-Instruct.Q4_1.gguf")
