"""The one pass over the text: hashes, MinHash bands, token counts, logits."""
