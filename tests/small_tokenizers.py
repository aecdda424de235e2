"""Tokenizer files of a few tokens, made up here, and texts that are hard to count."""

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

AWKWARD = [
    "",
    " ",
    "\0",
    "a\0b",
    "\u2028\u200b",
    "é" * 50,
    "漢字かな交じり文",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "ab" * 5_000,
    "[CLS] the [SEP]",
    "\r\n \n",
]


def byte_level() -> Tokenizer:
    """Byte pairs, with all that must not change a count: a template of special tokens, truncation, padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=["[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(["the tide and the anchor, the tide", "漢字かな abab abab"] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    return tokenizer


def without_pre_tokenizer() -> Tokenizer:
    """Tokens may contain spaces, so that parts of a text do not have its tokens."""
    scores = {"<unk>": 0.0, "a": -2.0, "b": -2.0, " ": -2.5, "a b": -3.0, "e Tide": -3.0}
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), 0))
    tokenizer.enable_truncation(2)
    return tokenizer


def metaspace() -> Tokenizer:
    scores = {"<unk>": 0.0, "▁": -2.0, "a": -2.0, "b": -2.0, "▁the": -2.5, "▁a": -2.1, "▁T": -3.0, "▁▁": -2.2}
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return tokenizer


def with_prefix() -> Tokenizer:
    """Each text gets a prefix, so parts have more tokens than the whole."""
    tokenizer = metaspace()
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def without_outer_spaces() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.Strip()
    return tokenizer


def of_word_pieces() -> Tokenizer:
    words = ["[UNK]", "the", "a", "b", "##b", "##a", "##the", "e", "σ", "."]
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken("<m>", lstrip=True, rstrip=True)])
    return tokenizer


def by_expression(expression: str) -> Tokenizer:
    """Byte pairs of words that an expression finds."""
    tokenizer = byte_level()
    words = pre_tokenizers.Split(Regex(expression), "isolated", invert=False)
    byte_alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, byte_alphabet])
    return tokenizer


def with_a_token_of_two_words() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.add_tokens(["a b"])
    return tokenizer


def with_a_token_that_takes_spaces() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("Tide", lstrip=True)])
    return tokenizer


_END = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS = {  # as in published files, and one that is not
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _END,
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _END,
    "gpt4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "other": r"\w+ \w+|.",
}
_MADE = [byte_level, metaspace, of_word_pieces, without_pre_tokenizer, with_prefix, without_outer_spaces]
_MADE += [with_a_token_of_two_words, with_a_token_that_takes_spaces]
CONTENT = {make.__name__: make().to_str().encode() for make in _MADE}
CONTENT |= {name: by_expression(expression).to_str().encode() for name, expression in EXPRESSIONS.items()}
IN_ONE_PIECE = {*(make.__name__ for make in _MADE[3:]), "other"}


def expected(content: bytes, text: str) -> int:
    tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return len(tokenizer.encode(text, add_special_tokens=False).ids)
