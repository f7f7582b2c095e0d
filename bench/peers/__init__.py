"""Rival repairs in the form that their papers state, written from the papers; they live here and not in the product."""

from bench.peers.anp import anp
from bench.peers.common import Clean, Peer
from bench.peers.fine_pruning import fine_prune
from bench.peers.fine_tuning import fine_tune, fine_tune_on_lessons
from bench.peers.ft_sam import ft_sam
from bench.peers.ibau import ibau
from bench.peers.nad import nad

PEERS: dict[str, Peer] = {
    "fine-tuning": fine_tune,
    "fine-tuning, our lessons": fine_tune_on_lessons,
    "fine-pruning": fine_prune,
    "NAD": nad,
    "I-BAU": ibau,
    "ANP": anp,
    "FT-SAM": ft_sam,
}

__all__ = ["PEERS", "Clean", "Peer"]
