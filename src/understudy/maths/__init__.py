"""Pure functions on tensors: each formula once, no modules, no state, no files.

Three conventions hold throughout. Half-precision inputs are computed in float32 (``precision.in_float32``). The teacher's side of a formula never
receives a gradient. A loss that treats samples separately returns ``[B]`` without reduction; one that couples samples returns a scalar over
the batch of all processes, computed in full on every process (see ``understudy.collective``).
"""

from understudy.maths import schedules
from understudy.maths.adversarial import reversed_gradient, told_apart
from understudy.maths.assignment import bag_of_words, centred_softmax, dino_loss, ibot_loss, kmeans, sinkhorn_knopp, updated_centre
from understudy.maths.average import ema_update, interpolated, parameter_distance
from understudy.maths.calibration import accuracy_interval, brier, ece, fit_temperature, paired_difference, reliability
from understudy.maths.contrast import info_nce, koleo, leave_one_out, margin_pairs, nt_xent
from understudy.maths.decorrelation import barlow, cross_correlation, whitened, whitening_mse
from understudy.maths.divergences import (
    cosine_distance,
    expand_topk,
    jsd,
    kl,
    nkd,
    reverse_kl,
    soft_cross_entropy,
    squared_distance,
    symmetric_cross_entropy,
    topk_kl,
    uskd,
    zipf_labels,
)
from understudy.maths.linear import best_label_share, ridge
from understudy.maths.preference import (
    balance,
    dpo,
    group_advantage,
    kl_estimate,
    kto,
    leave_one_out_advantage,
    masked_sum,
    pass_at_k,
    policy_gradient,
    token_log_probabilities,
)
from understudy.maths.reconstruction import masked_cross_entropy, masked_mean, masked_squared_error, norm_pixel_target, patchify, unpatchify
from understudy.maths.relations import relation, relation_kl
from understudy.maths.representation import class_means, nearest, rankme, soft_neighbourhood_density, weighted_knn
from understudy.maths.sampling import next_token
from understudy.maths.targets import (
    balanced_weights,
    certainty,
    class_thresholds,
    edited,
    entropy,
    progressive,
    pseudo_labels,
    select_balanced,
    select_top,
    sharpen,
    smooth,
    softened,
)

__all__ = [
    "accuracy_interval",
    "balance",
    "balanced_weights",
    "bag_of_words",
    "barlow",
    "best_label_share",
    "brier",
    "centred_softmax",
    "certainty",
    "class_means",
    "class_thresholds",
    "cosine_distance",
    "cross_correlation",
    "dino_loss",
    "dpo",
    "ece",
    "edited",
    "ema_update",
    "entropy",
    "expand_topk",
    "fit_temperature",
    "group_advantage",
    "ibot_loss",
    "info_nce",
    "interpolated",
    "jsd",
    "kl",
    "kl_estimate",
    "kmeans",
    "koleo",
    "leave_one_out",
    "kto",
    "leave_one_out_advantage",
    "margin_pairs",
    "masked_cross_entropy",
    "masked_mean",
    "masked_squared_error",
    "masked_sum",
    "nearest",
    "next_token",
    "nkd",
    "norm_pixel_target",
    "nt_xent",
    "paired_difference",
    "parameter_distance",
    "pass_at_k",
    "patchify",
    "policy_gradient",
    "progressive",
    "pseudo_labels",
    "rankme",
    "relation",
    "relation_kl",
    "reliability",
    "reverse_kl",
    "reversed_gradient",
    "ridge",
    "schedules",
    "select_balanced",
    "select_top",
    "sharpen",
    "sinkhorn_knopp",
    "smooth",
    "soft_cross_entropy",
    "soft_neighbourhood_density",
    "softened",
    "squared_distance",
    "symmetric_cross_entropy",
    "token_log_probabilities",
    "told_apart",
    "topk_kl",
    "unpatchify",
    "updated_centre",
    "uskd",
    "weighted_knn",
    "whitened",
    "whitening_mse",
    "zipf_labels",
]
