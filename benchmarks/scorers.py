"""Compare the kinds of scorers on real documents.

    python benchmarks/scorers.py OUTPUT [--documents FILE.parquet] [--targets FOLDER] [--sample 6000]

Ranks a sample by the examples of five benchmarks and trains a scorer of each kind, all with the package's command line. The
first table has the agreement of each scorer with the target ranking on documents that it was not trained on (recall of the top
of the ranking, Spearman, recall by benchmark). The second table is the output of `betr-spark compare`. `benefit.py` compares
granularities and aggregates.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

SHARED = Path(__file__).parents[2] / "shared/data"
TARGETS = {
    "gsm8k": ("gsm8k.train.jsonl", "{question}\n{answer}"),
    "webquestions": ("webquestions.train.jsonl", "{question}\n{answers}"),
    "strategyqa": ("strategyqa.train.jsonl", "{question}\n{facts}"),
    "humaneval": ("humaneval.jsonl", "{prompt}{canonical_solution}"),
    "qasc": ("qasc.dev.jsonl", "{question}\n{answer}"),
}
SCORERS = {
    "betr": {"kind": "betr"},
    "classifier": {"kind": "classifier"},
    "dsir_sum": {"kind": "dsir"},
    "dsir_mean": {"kind": "dsir", "normalize": "mean"},
}


def command(config: Path, *arguments: str) -> str:
    """Run one command of the package."""
    call = [sys.executable, "-m", "betr_spark", arguments[0], "--config", str(config), *arguments[1:]]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=dict(os.environ))
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--documents", type=Path, default=SHARED / "corpus/documents.parquet")
    parser.add_argument("--targets", type=Path, default=SHARED / "targets")
    parser.add_argument("--sample", type=int, default=6000)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    output = arguments.output / "out"
    settings = {
        "input": {"path": str(arguments.documents), "id": "id", "source": "domain"},
        "output": str(output),
        "targets": {n: {"path": str(arguments.targets / f), "template": t} for n, (f, t) in TARGETS.items()},
        "sample": {"documents": arguments.sample},
        "scorers": SCORERS,
        "selections": {},
    }
    config = arguments.output / "conf.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    for stage in ("rank", "train", "features"):
        command(config, stage)
    print(
        "\n| scorer | evaluated | Spearman | recall of the target ranking's top 1 / 3 / 10 / 30 % | with length |",
        end="",
    )
    print(" recall at 10 % by benchmark |\n|---|---|---|---|---|---|")
    for name in SCORERS:
        about = json.loads((output / f"scorers/{name}/scorer.json").read_text())
        metrics = about["metrics"]
        recall = " / ".join(f"{metrics[f'recall_at_{p}_percent']:.2f}" for p in (1, 3, 10, 30))
        each = about["evaluation"]["recall_at_10_percent_by_benchmark"]
        by = ", ".join(f"{benchmark} {value:.2f}" for benchmark, value in each.items())
        spearman = f"{metrics['spearman']:.3f} | {recall} | {metrics['spearman_length']:+.2f}"
        print(f"| {name} | {metrics['n_evaluated']:.0f} | {spearman} | {by} |")
    print("\n" + command(config, "compare"), flush=True)


if __name__ == "__main__":
    main()
