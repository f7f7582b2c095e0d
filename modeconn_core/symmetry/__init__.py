"""Channel permutations that leave a network's function unchanged, found from any module by following one run of it."""

from modeconn_core.symmetry.find import find_symmetries
from modeconn_core.symmetry.groups import Group, Placement, Symmetries, permute, share_moved
from modeconn_core.symmetry.matching import Alignment, align

__all__ = ["Alignment", "Group", "Placement", "Symmetries", "align", "find_symmetries", "permute", "share_moved"]
