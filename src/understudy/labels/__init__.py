"""The label store: a teacher's answers on disk, with whose they are and of what."""

from understudy.labels.codecs import Codec, Features, Hard, Soft, Tail, TopK, Values
from understudy.labels.kinds import codec
from understudy.labels.manifest import Manifest
from understudy.labels.packed import Packed
from understudy.labels.store import LabelStore
from understudy.labels.tokens import TokenCodec, TokenDraws, TokenTopK
from understudy.labels.verify import Verification, verify

__all__ = [
    "Codec",
    "Features",
    "Hard",
    "LabelStore",
    "Manifest",
    "Packed",
    "Soft",
    "Tail",
    "TokenCodec",
    "TokenDraws",
    "TokenTopK",
    "TopK",
    "Values",
    "Verification",
    "codec",
    "verify",
]
