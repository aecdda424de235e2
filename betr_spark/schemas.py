"""Column names and table schemas as constants. Schemas are DDL strings, so this module does not import pyspark."""

from collections.abc import Collection, Sequence

DOC_ID = "doc_id"
SOURCE = "source"
TEXT = "text"
N_BYTES = "n_bytes"
N_WORDS = "n_words"
N_TOKENS = "n_tokens"
N_LM_TOKENS = "n_lm_tokens"
CONTENT_HASH = "content_hash"
BANDS = "bands"
SIGNATURE = "signature"
BEST_RANK = "best_rank"
BEST_COSINE = "best_cosine"
BEST_BENCHMARK = "best_benchmark"
BEST_EXAMPLE = "best_example"
CHOSEN_FOR = "chosen_for"
TARGET_SCORE = "target_score"
BY_BENCHMARK = "by_benchmark"
LABEL = "label"
SPLIT = "split"
KEPT_DOC_ID = "kept_doc_id"
KIND = "kind"
SIMILARITY = "similarity"
COMPONENT_ID = "component_id"
COMPONENT_SIZE = "component_size"
RANK = "rank"
SCORE = "score"
LOGIT = "logit"
REASON = "reason"
DETAIL = "detail"
ROW = "row"
INPUT_FILE = "input_file"
BATCH = "batch"
EVIDENCE = "evidence"
REPEAT_COUNT = "repeat_count"
PHASE = "phase"
BENCHMARK, ITEM = "benchmark", "item"
MATCHED_WORDS = "matched_words"
LONGEST_MATCH = "longest_match"
COVERAGE = "coverage"
POSITION = "position"
ACTION = "action"
NGRAMS, FIRST, COUNT = "ngrams", "first", "count"
IGNORED = "ignored"  # an action
TEST_ITEMS, LOOKED_FOR = "test_items", "looked_for"
EMBEDDING, ENCODER, TEXT_HASH = "embedding", "encoder", "text_hash"

TRAIN, VALIDATION = "train", "validation"
EXACT, NEAR = "exact", "near"
CONTENT, SKETCH, SHINGLES = "content_hash", "signature", "shingles"  # values of `evidence`

RANKED_SAMPLE_TABLE = "ranked_sample"
SAMPLE_TABLE, EMBEDDINGS_TABLE = "_sample", "_embeddings"
FEATURES_TABLE = "features"
DUPLICATES_TABLE, COMPONENTS_TABLE = "duplicates", "_components"
QUARANTINE_TABLE = "quarantine"
RUNS_TABLE = "runs"
REPORT_PAGE = "report.html"  # a file, not a table
TOMBSTONES_TABLE = "tombstones"
EVALUATIONS_TABLE = "evaluations"
CONTAMINATION_TABLE, FOUND_TABLE = "contamination", "_test_items"

EMBEDDINGS = f"{DOC_ID} string, {TEXT_HASH} bigint, {ENCODER} string, {EMBEDDING} binary"
RANKED_SAMPLE = (
    f"{DOC_ID} string, {SOURCE} string, {BEST_RANK} int, {BEST_COSINE} float, {BEST_BENCHMARK} string, "
    f"{BEST_EXAMPLE} int, {TARGET_SCORE} double, {BY_BENCHMARK} map<string,struct<{SCORE}:double,cosine:float>>, "
    f"{LABEL} int, {SPLIT} string"
)
FEATURES = (
    f"{DOC_ID} string, {SOURCE} string, {N_BYTES} int, {N_WORDS} int, {N_TOKENS} int, {CONTENT_HASH} binary, "
    f"{BANDS} array<bigint>, {SIGNATURE} binary"
)
DUPLICATES = (
    f"{DOC_ID} string, {KEPT_DOC_ID} string, {KIND} string, {SIMILARITY} float, {EVIDENCE} string, "
    f"{COMPONENT_ID} string, {COMPONENT_SIZE} bigint"
)
CONTAMINATION = (
    f"{DOC_ID} string, {BENCHMARK} string, {ITEM} bigint, {MATCHED_WORDS} int, {LONGEST_MATCH} int, {COVERAGE} float, "
    f"{POSITION} int, {NGRAMS} array<struct<{FIRST}: int, {COUNT}: int>>"
)
TEST_ITEM = (
    f"struct<{BENCHMARK}: string, {ITEM}: bigint, {MATCHED_WORDS}: int, {LONGEST_MATCH}: int, {COVERAGE}: float, "
    f"{POSITION}: int, {NGRAMS}: array<struct<{FIRST}: int, {COUNT}: int>>>"
)
INVALID_TOKENS = "invalid_tokens"
INVALID_UTF8, NOT_UTF8 = "invalid_utf8", "the text is not UTF-8"  # a reason that two modules use, and its detail
ROW_BYTES = 10_000  # maximum of a row's JSON
QUARANTINE = f"{REASON} string, {DETAIL} string, {ROW} string, {INPUT_FILE} string"
QUARANTINED = f"{DOC_ID} string, {QUARANTINE}"  # the table; doc_id is null where the row has none
QUARANTINE_COLUMNS = (REASON, DETAIL, ROW, INPUT_FILE)
OPTIONAL_COLUMNS = (BEST_BENCHMARK, CHOSEN_FOR, REPEAT_COUNT, PHASE)  # per_benchmark, balance, sample or phases, phases
SELECTED_COLUMNS = (
    RANK,
    DOC_ID,
    TEXT,
    SOURCE,
    SCORE,
    LOGIT,
    N_TOKENS,
    *OPTIONAL_COLUMNS,
)
RUNS = (
    "run_id string, stage string, started_at timestamp, seconds double, rows_in bigint, rows_out bigint, "
    "dropped map<string,bigint>, metrics map<string,double>, key string, config string, package_version string, "
    "input_versions map<string,string>, command string, host string, user string, application_id string, "
    "git_revision string, spark_stages bigint, spark_tasks bigint, task_seconds double, cpu_seconds double, "
    "bytes_read bigint, bytes_written bigint, bytes_spilled bigint, peak_memory_bytes bigint"
)
TOMBSTONES = f"{DOC_ID} string, requested_at timestamp, why string"
EVALUATIONS = (
    "selection string, control boolean, budget double, n_tokens bigint, items string, kind string, n_items bigint, "
    "bits_per_byte double, change double, low double, high double, spread double, verdict string"
)


def logit_column(scorer: str) -> str:
    """Name of a scorer's column in `features`."""
    return f"{LOGIT}_{scorer}"


def features_schema(scorers: Sequence[str], numbers: Collection[str] = (), *, lm_tokens: bool = False) -> str:
    """DDL of the columns that the pass computes for `features`: fixed columns and one nullable logit for each scorer.

    A logit is null if the document has no text. The table has two more columns: `input_file`, the file of the text, and
    `batch`, the number of the commit that added the row.

    Args:
        scorers: in the order of the columns.
        numbers: scorers that are columns of the input; their logit is a double, all others are floats.
        lm_tokens: with the column `n_lm_tokens`, which exists if `input.tokens` is given.
    """
    types = {scorer: "double" if scorer in numbers else "float" for scorer in scorers}
    fixed = [FEATURES, f"{N_LM_TOKENS} int"] if lm_tokens else [FEATURES]
    return ", ".join([*fixed, *(f"{logit_column(scorer)} {types[scorer]}" for scorer in scorers)])
