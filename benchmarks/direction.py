"""Does the selection follow the benchmark? Targets one benchmark at a time and compares sources with random-10.

    python benchmarks/direction.py [--config conf/shared-data.yaml] [--output out/direction]

Prints one line for each case: share of the named sources in betr-10 and in random-10, by tokens, their ratio, and the required
ratio. The sample is embedded once for all cases. Exits with 1 if a ratio is below the required one.
"""

import argparse
import json
import sys

from betr_spark.config import load_config
from betr_spark.pipeline.run import run_all
from betr_spark.report.figures import SelectionFigures, selection_figures
from betr_spark.spark.session import build_session

CASES = {
    "gsm8k": (("openstax-physics", "openstax-economics"), 2.5),
    "humaneval": (("python-stdlib",), 2.5),
    "qasc": (("openstax-biology",), 3.0),
}


def share(figures: SelectionFigures, sources: tuple[str, ...]) -> float:
    """Share of the tokens of some sources among the kept tokens, in [0, 1]."""
    return sum(source.after for source in figures.shares if source.source in sources)


def main() -> None:
    """Run the cases in sequence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="conf/shared-data.yaml")
    parser.add_argument("--output", default="out/direction")
    arguments = parser.parse_args()
    spark = build_session("betr-spark direction")
    targets = load_config(arguments.config).targets
    short = False
    print(
        "| only target | sources | share in betr-10 | share in random-10 | ratio | required |\n|---|---|---|---|---|---|"
    )
    for name, (sources, required) in CASES.items():
        only = json.dumps({name: targets[name].model_dump(exclude_none=True)})
        config = load_config(arguments.config, (f"targets={only}", f"output={arguments.output}"))
        run_all(spark, config)
        aimed, control = (share(selection_figures(spark, config, [s])[s], sources) for s in ("betr-10", "random-10"))
        ratio = aimed / control if control else float("inf")
        short |= ratio < required
        print(f"| {name} | {', '.join(sources)} | {aimed:.1%} | {control:.1%} | {ratio:.2f} | {required} |", flush=True)
    spark.stop()
    sys.exit(int(short))


if __name__ == "__main__":
    main()
