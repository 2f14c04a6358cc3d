"""The stored goldens are what the reference packages say today: jinja2 for chat templates, tokenizers for
token ids. The C++ tests compare the program with the same files. Exit status 77: a package is missing."""
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def main():
    skipped = False
    for script, command in (("chat_template_parity.py", "verify"), ("tokenizer_parity.py", "check")):
        status = subprocess.run([sys.executable, "-B", HERE / script, command], check=False).returncode
        if status not in (0, 77):
            sys.exit(f"{script} {command}: exit {status}")
        skipped |= status == 77
    sys.exit(77 if skipped else 0)


if __name__ == "__main__":
    main()
