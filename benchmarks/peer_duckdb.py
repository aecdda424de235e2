"""Near-duplicates in SQL on a Parquet file (id, text), on one core, as one would write it for DuckDB; `cost.py` runs it.

    python benchmarks/peer_duckdb.py DOCUMENTS.parquet FOLDER

The shingles, bands and threshold of betr-spark: 5-grams of words, 14 bands of 8 MinHash values, Jaccard similarity of 0.75,
verified on the shingles against the first document of each bucket. No order by score, no chains of similar documents; only the
ids of removed documents are written. Prints the seconds of each step as JSON. Requires duckdb.
"""

import json
import sys
import time

import duckdb

STEPS = {
    "shingles": """
        CREATE TABLE shingles AS
        WITH texts AS (
            SELECT id, list_filter(regexp_split_to_array(lower(text), '[^\\w]+'), lambda w: w <> '') AS w
            FROM read_parquet($documents)
        ),
        words AS (SELECT id, unnest(w) AS w, generate_subscripts(w, 1) AS position FROM texts),
        grams AS (
            SELECT id,
                hash(concat_ws(' ', w, lead(w, 1) OVER f, lead(w, 2) OVER f, lead(w, 3) OVER f, lead(w, 4) OVER f)) AS h,
                lead(position, 4) OVER f IS NOT NULL AS is_whole
            FROM words WINDOW f AS (PARTITION BY id ORDER BY position)
        )
        SELECT id, list(DISTINCT h) AS h FROM grams WHERE is_whole GROUP BY id
    """,
    "signatures": """
        CREATE TABLE signatures AS
        SELECT id, list_transform(range(112), lambda k: list_min(list_transform(h, lambda x: hash(x + k)))) AS s
        FROM (SELECT id, list_transform(h, lambda x: (x >> 1)::BIGINT >> 8) AS h FROM shingles)
    """,
    "buckets": """
        CREATE TABLE pairs AS
        WITH bands AS (SELECT id, unnest(range(14)) AS band, s FROM signatures),
        firsts AS (
            SELECT id, min(id) OVER (PARTITION BY band, list_slice(s, band * 8 + 1, band * 8 + 8)) AS keeper FROM bands
        )
        SELECT DISTINCT id, keeper FROM firsts WHERE id <> keeper
    """,
    "verification": """
        COPY (
            SELECT DISTINCT p.id FROM pairs p JOIN shingles a ON a.id = p.id JOIN shingles b ON b.id = p.keeper
            WHERE len(list_intersect(a.h, b.h)) >= 0.75 * len(list_distinct(list_concat(a.h, b.h)))
        ) TO '{folder}.parquet' (FORMAT parquet)
    """,
}


def main(documents: str, folder: str) -> None:
    """Run the steps in sequence."""
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    seconds = {}
    for name, statement in STEPS.items():
        start = time.perf_counter()
        parameters = {"documents": documents} if "$documents" in statement else None
        connection.execute(statement.replace("{folder}", folder), parameters)
        seconds[name] = time.perf_counter() - start
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
