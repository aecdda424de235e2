"""Columns of links, pairs and members of buckets."""

KEEPER, CANDIDATE, EQUAL = "keeper", "candidate", "equal"
PREVIOUSLY_KEPT, KEEPER_PREVIOUSLY_KEPT = "previously_kept", "keeper_previously_kept"
BUCKET, BUCKETS = "bucket", "buckets"
LINKED = (
    f"{KEEPER} binary, {KEEPER_PREVIOUSLY_KEPT} boolean, {CANDIDATE} binary, {PREVIOUSLY_KEPT} boolean, "
    f"{BUCKETS} array<bigint>"
)
