"""Writes the model card from the files of a training: its scores, its log, its sources.

FOLDER has seed1*.json and seed2*.json (evaluate.py, all of a seed merged), seed1.log and seed2.log
(train.py's output), ablations/NAME.json (evaluate.py), heddle.json (check_heddle.py).
"""

import argparse
import json
import pathlib
import re

import tasks

Table = dict[str, dict[str, dict[str, list[int]]]]  # task, length, depth: right, all

TASK_TEXT = {
    "passkey": "pass key in noise",
    "number": "number in prose",
    "word": "word in prose",
    "uuid": "uuid in prose",
    "multikey8": "8 keys in prose, one asked for",
    "san_francisco": "the San Francisco sentence in prose",
    "queries4": "4 keys asked for at once",
    "values4": "4 values of one key, in their order",
    "dense_number": "number, nothing but needles around it",
    "dense_uuid": "uuid to uuid, nothing but needles around it",
}
ABLATIONS = {
    "shorter": "nothing changed, 2500 steps",
    "no-lightning": "trained so: power layers in place of the lightning layers, 2500 steps",
    "no-log-scale": "trained so: without the log-n temperature, 2500 steps",
    "window512": "softmax layers see 512 tokens",
    "all-heads": "mixture-of-heads layers use all heads",
    "power-off": "power layers add nothing",
    "log-scale-off": "without the log-n temperature, trained with it",
}


def read(paths: list[pathlib.Path]) -> Table:
    """Tables of several files as one."""
    merged: Table = {}
    for path in paths:
        for task, lengths in json.loads(path.read_text()).items():
            merged.setdefault(task, {}).update(lengths)
    return merged


def share(depths: dict[str, list[int]]) -> str:
    right, n = (sum(pair[i] for pair in depths.values()) for i in (0, 1))
    return f"{100 * right / n:.1f}".removesuffix(".0")


def rows(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def score_table(table: Table) -> str:
    lengths = sorted({n for of_task in table.values() for n in of_task}, key=int)
    body = [
        [TASK_TEXT[task], *(share(table[task][n]) if n in table[task] else "" for n in lengths)]
        for task in tasks.TASKS
        if task in table
    ]
    return rows(["%", *(f"{int(n) // 1024}k" for n in lengths)], body)


def ablation_table(folder: pathlib.Path) -> str:
    found = {name: json.loads((folder / f"{name}.json").read_text()) for name in ABLATIONS}
    first = next(iter(found.values()))
    columns = [(task, n) for task in first for n in sorted(first[task], key=int)]
    head = ["%", *(f"{TASK_TEXT[task]}, {int(n) // 1024}k" for task, n in columns)]
    body = [
        [ABLATIONS[name], *(share(table[task][n]) for task, n in columns)]
        for name, table in found.items()
    ]
    return rows(head, body)


def curve(log: str) -> str:
    """Every thousandth step, the hundredth and the last."""
    pattern = r"([\d.]+) s step (\d+) length (\d+) answers: entropy ([\d.]+) right ([\d.]+)"
    steps = re.findall(pattern, log)
    kept = [
        s
        for s in steps
        if int(s[1]) % 1000 == 0 or int(s[1]) in (100, 200, 300, 500) or s == steps[-1]
    ]
    return rows(
        ["step", "seconds", "tokens of a sequence", "entropy of an answer's token", "right"],
        [[step, seconds, length, entropy, right] for seconds, step, length, entropy, right in kept],
    )


def source_table(prepared: dict) -> str:
    return rows(
        ["package", "version", "licence of what is used", "characters", "why it may be used"],
        [
            [s["package"], s["version"], s["licence"], f"{s['characters']:,}", s["reason"]]
            for s in prepared["sources"]
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--results", type=pathlib.Path, required=True, metavar="FOLDER")
    parser.add_argument("--prepared", type=pathlib.Path, required=True, help="prepared.json")
    parser.add_argument(
        "--shipped", type=int, choices=(1, 2), required=True, help="the seed of the weights"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    prepared = json.loads(args.prepared.read_text())
    checked = json.loads((args.results / "heddle.json").read_text())
    heddle = checked["percent"]
    logs = {seed: (args.results / f"seed{seed}.log").read_text() for seed in (1, 2)}
    prose = {
        seed: re.search(r"held-out prose: ([\d.]+)", log).group(1) for seed, log in logs.items()
    }
    template = (pathlib.Path(__file__).parent / "card.md").read_text()
    values = {
        "scores": score_table(read(sorted(args.results.glob(f"seed{args.shipped}*.json")))),
        "other_scores": score_table(
            read(sorted(args.results.glob(f"seed{3 - args.shipped}*.json")))
        ),
        "same": "{} of {}".format(*checked["same"]),
        "shipped": str(args.shipped),
        "other": str(3 - args.shipped),
        "ablations": ablation_table(args.results / "ablations"),
        "curve": curve(logs[args.shipped]),
        "prose": prose[args.shipped],
        "seconds": re.search(r"(\d+)\.\d s saved", logs[args.shipped]).group(1),
        "sources": source_table(prepared),
        "train_tokens": f"{prepared['train_tokens'] / 1e6:.2f} M",
        "train_characters": f"{prepared['train_characters'] / 1e6:.1f} M",
        "heddle": rows(
            ["%", *(f"{int(n) // 1024}k" for n in sorted(heddle["number"], key=int))],
            [
                [
                    TASK_TEXT[task],
                    *(f"{heddle[task][n]:.0f}" for n in sorted(heddle[task], key=int)),
                ]
                for task in tasks.TASKS
            ],
        ),
    }
    args.out.write_text(re.sub(r"\{(\w+)\}", lambda match: values[match.group(1)], template))


if __name__ == "__main__":
    main()
