"""List the flags of the released HCL code with their defaults, and those that no setting stands for.

They were read from the released `utils/configs.py` and from the code that uses them.
"""

from __future__ import annotations

from typing import Any

UNSUPPORTED = {
    "reverse": "leave it out; reversed videos would be classes of their own: add them to the lists of a data set",
    "bert_finetune": "leave it out; class-name embeddings are read from a file (hcl data embed)",
}
"""Flags whose effect this program cannot give, with what to do instead."""
ELSEWHERE = {
    "class_split_folder": "lists are read from the folder splits of the data root (--data)",
    "frames_path": "frames are read from the folder images of the data root (--data)",
    "labels_path": "lists are read from the folder splits of the data root (--data)",
    "save_iter": "checkpoints follow train.checkpoint_every, and the best epoch is kept",
    "print_iter": "progress is shown by time",
    "sim_metric": "the release replaces it by the shot's metric, as matching.metric auto does",
    "meta_learn": "train.regime decides whether training learns from episodes",
    "topT": "the release fixes it at 10; here it is matching.top_tuples",
    "topK": "the release fixes it at 40; here it is matching.top_patches",
    "val_data": "the release does not use it; here evaluation.datasets names other data sets",
    "vis": "hcl explain draws what matched",
}
"""Flags that no setting stands for, with what to use here."""
IDLE = frozenset(
    (
        "bidirectional", "bn_threshold", "dec_layers", "dilation", "late_fc", "lr_backbone", "lr_backbone_names",
        "max_interval", "num_group", "num_layers", "pad_option", "random_interval", "random_pad_sample",
        "random_start_position", "transformer_name", "uniform_frame_sample", "use_spatial",
    )
)  # fmt: skip
"""Flags that the release reads and does not use."""
DEFAULTS: dict[str, Any] = {
    "method": "", "model_name": "", "dataset": "ssv2_100_otam", "num_gpus": 1, "vis": False, "print_iter": 10,
    "save_iter": 500, "ckpt_path": "", "meta_learn": False, "way": 5, "shot": 1, "query": 5, "num_epochs": 10,
    "num_train_episode": 200, "num_val_episode": 3000, "episode_per_batch": 16, "sim_metric": "cosine",
    "class_split_folder": "data/splits/", "frames_path": "data/images/", "labels_path": "data/splits/",
    "batch_size": 24, "data_aug": "default", "setname": "train_val", "reverse": False, "val_data": "",
    "amp_opt_level": "O1", "frame_size": 224, "sequence_length": 8, "random_pad_sample": False,
    "pad_option": "default", "uniform_frame_sample": False, "random_start_position": False, "max_interval": 64,
    "random_interval": False, "backbone": "resnet50", "num_layers": 1, "bidirectional": False,
    "transformer_name": "vanilla", "enc_layers": 1, "dec_layers": 2, "dim_feedforward": 2048, "d_model": 256,
    "tf_dropout": 0.1, "nheads": 8, "pre_norm": False, "late_fc": False, "dilation": False, "num_group": 16,
    "position_embedding": "3d_learned", "learning_rate": 0.001, "lr_scdler": "default", "lr_drop": 5,
    "scheduler_epoch_size": 4, "scheduler_gamma": 0.5, "bn_threshold": 2e-2, "optimizer": "sgd",
    "lr_backbone_names": ["encoder.module"], "lr_backbone": 1e-5, "clip_max_norm": 0.1, "temp": 0.07,
    "use_spatial": False, "use_spa_cycle": False, "use_spa_mscale": False, "use_semantic": False, "temp_set": [2],
    "sigma_ce": 1.0, "sigma_global": 1.0, "sigma_temp": 1.0, "sigma_spa": 1.0, "sigma_temp_cycle": 0.25,
    "sigma_spa_cycle": 0.25, "topT": 10, "topK": 40, "bert_finetune": False,
}  # fmt: skip
"""Every flag, without its dashes, with its released default; False stands for a flag without a value."""
