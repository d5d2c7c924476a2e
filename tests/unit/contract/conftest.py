"""A tokenizer small enough to read: words in lower case, split at spaces, with the special tokens of BERT."""

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import CHUNKER_VERSIONS, ChunkerSettings, make_contract

TEXT = (
    "The consumer reads the log and writes each document to the index. It commits after the write. "
    "A deleted document leaves a head behind, so that a late update cannot bring it back. "
)


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer.to_str().encode()


@pytest.fixture(params=CHUNKER_VERSIONS, scope="session")
def preprocessor(request: pytest.FixtureRequest, tokenizer_json: bytes) -> Preprocessor:
    """Each version of the chunker in turn: what a chunk promises holds for all of them."""
    settings = ChunkerSettings(version=request.param, overlap_tokens=4, title_max_tokens=8)
    return Preprocessor(*make_contract(tokenizer_json, max_tokens=32, dimension=8, chunker=settings))
