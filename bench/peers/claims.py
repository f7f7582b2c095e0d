"""What authors report of the rivals, as far as their papers' abstracts and repositories show it.

ACC/ASR in per cent. Their networks, trainings and triggers are others than those here: a claim is checked in kind.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """``figures`` of ``method``, and the suspect and number of clean images on which it is checked here."""

    method: str
    figures: str
    source: str
    suspect: str
    images: int


CLAIMS = (
    Claim(
        method="fine-tuning",
        figures="BadNets, CIFAR-10, WRN-16-1, 2,500 images: 85.7/100 -> 82.3/18.1",
        source="the repository of NAD",
        suspect="badnets",
        images=2500,
    ),
    Claim(
        method="NAD",
        figures="the same: 85.7/100 -> 82.1/3.6",
        source="the repository of NAD",
        suspect="badnets",
        images=2500,
    ),
    Claim(
        method="fine-pruning",
        figures="ASR 0 in some cases for 0.4 points of accuracy",
        source="Liu et al. 2018, abstract",
        suspect="badnets",
        images=2500,
    ),
    Claim(
        method="I-BAU",
        figures="this very checkpoint, 5,000 images, one round: 84.9/97.6 -> 83.1/9.4",
        source="the repository of I-BAU (original pixels; here JPEG, on which the checkpoint is 7 points worse)",
        suspect="ibau-badnets",
        images=2500,
    ),
    Claim(
        method="I-BAU",
        figures="the other checkpoint there, for which no figure is given",
        source="the repository of I-BAU",
        suspect="ibau-trojan",
        images=2500,
    ),
    Claim(
        method="ANP",
        figures="ResNet-18, 500 images, mean of six attacks: ASR 96.4 points less for 1.5 points of accuracy",
        source="Wu and Wang 2021",
        suspect="badnets",
        images=500,
    ),
    Claim(
        method="FT-SAM",
        figures="GTSRB: 95.5/0.5",
        source="the paper of FRBAT, table 5",
        suspect="badnets",
        images=2500,
    ),
    Claim(
        method="MCR, two suspects",
        figures="CIFAR-10: ASR 4.5; with 10 % of the data, BadNets: accuracy 89.2",
        source="the design paper of this project",
        suspect="badnets",
        images=2500,
    ),
)
