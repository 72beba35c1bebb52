"""What every result says of itself, and what its parts mean wherever they are shown."""

NOTICE = "Research software. Not a medical device, not for diagnosis or treatment."
NO_CANDIDATE = "No candidate above {threshold:.2f} (model {model}). This does not mean that there is no nodule."
THRESHOLD_CAVEAT = (
    "Expected sensitivity and false positives per scan come from the model's own held-out scans (see its model card); "
    "other scanners and patients differ."
)
CATEGORY_CAVEAT = "Lung-RADS v2022 aid, not a diagnosis."
HEATMAP_CAVEAT = (
    "Where the network's score for this candidate came from. Not proof of a nodule or of malignancy, not a contour."
)
