"""datatrove's MinHash pipeline on a Parquet file (id, text), on one core; `cost.py` runs it. Requires datatrove[io,processing].

    python benchmarks/peer_datatrove.py DOCUMENTS.parquet FOLDER

Four stages (signatures, buckets, clusters, filter) with the shingles and bands of betr-spark: 5-grams, 14 buckets of 8 hashes.
Prints the seconds of each as JSON.
"""

import json
import sys
import time

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig


def main(documents: str, folder: str) -> None:
    """Run the stages in sequence."""
    config = MinhashConfig(hash_config=HashConfig(precision=64), n_grams=5, num_buckets=14, hashes_per_bucket=8)
    reader = ParquetReader(documents.rpartition("/")[0], glob_pattern=documents.rpartition("/")[2], text_key="text")
    stages = {
        "signatures": [
            reader,
            MinhashDedupSignature(output_folder=f"{folder}/signatures", config=config, language="en"),
        ],
        "buckets": [
            MinhashDedupBuckets(input_folder=f"{folder}/signatures", output_folder=f"{folder}/buckets", config=config)
        ],
        "clusters": [
            MinhashDedupCluster(input_folder=f"{folder}/buckets", output_folder=f"{folder}/removed", config=config)
        ],
        "filter": [reader, MinhashDedupFilter(input_folder=f"{folder}/removed"), JsonlWriter(f"{folder}/kept")],
    }
    seconds = {}
    for name, pipeline in stages.items():
        start = time.perf_counter()
        tasks = config.num_buckets if name == "buckets" else 1
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{folder}/logs/{name}").run()
        seconds[name] = time.perf_counter() - start
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
