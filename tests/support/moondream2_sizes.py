"""The sizes at which answers of Moondream2's own code are recorded, and where they are."""

from dataclasses import replace
from pathlib import Path

from tritonvision.exporters.families.moondream2.sizes import RELEASED

RECORDED = Path(__file__).parents[2] / "exporters" / "families" / "moondream2" / "golden.json"
# Its code fixes crops of 27 x 27 patches, as many layers as that, and heads of 64 of which half is turned.
TRUE_CROPS = replace(
    RELEASED, text_dim=128, text_ff_dim=96, text_n_layers=2, text_vocab_size=1088, text_max_context=2048,
    text_n_heads=2, text_n_kv_heads=2, vision_enc_dim=16, vision_enc_ff_dim=24, vision_enc_n_heads=2,
    vision_max_crops=4, vision_proj_inner_dim=32, region_coord_feat_dim=16, region_size_feat_dim=32,
    region_inner_dim=32,
)  # fmt: skip
