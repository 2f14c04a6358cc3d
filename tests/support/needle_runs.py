"""Runs of `heddle needle` as tests look at them."""
import json
import pathlib

from command_line import heddle

KEYS = ["suite", "task", "model", "attention", "length", "depth", "seed", "sample", "score", "answer", "expected",
        "prompt_tokens", "cached_tokens", "prefill_s", "decode_s", "kv_bytes", "state_bytes", "error"]
FILES = {"results.jsonl", "run.json", "summary.csv", "report.html", "heatmap.svg", "heatmap.png"}
MEASURED = ("prefill_s", "decode_s", "cached_tokens")  # depends on the run
CELL = ("suite", "task", "length", "depth", "seed", "sample")


def needle(*args, **kw):
    """(exit code, stdout, stderr)"""
    return heddle("needle", *args, **kw)


def rows_of(folder):
    """Of a file that is whole."""
    text = (pathlib.Path(folder) / "results.jsonl").read_text()
    assert text.endswith("\n") or not text, text[-200:]
    return [json.loads(line) for line in text.splitlines()]


def without(rows, *keys):
    return [{k: v for k, v in row.items() if k not in keys} for row in rows]


def settled(rows):
    """What two runs of the same prompts have in common."""
    return without(rows, *MEASURED)


def cells(rows):
    return [tuple(row[k] for k in CELL) for row in rows]


def answers(rows):
    """Cell for cell, whoever was asked."""
    return {cell: (row["score"], row["answer"], row["expected"], row["prompt_tokens"], row["error"])
            for cell, row in zip(cells(rows), rows, strict=True)}


def snapshot(folder):
    """All files with their bytes and times."""
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
            for p in sorted(pathlib.Path(folder).rglob("*")) if p.is_file()}
