"""study.yaml ↔ typed config ↔ models and cells."""

from aftertune.study.config import CheckConfig, Study
from aftertune.study.expand import Declared, cells_of, declared, decodings, expand_models
from aftertune.study.load import (
    config_from_mapping,
    json_schema,
    load_config,
    load_study,
    study_from_mapping,
    to_yaml,
)

__all__ = [
    "CheckConfig",
    "Declared",
    "Study",
    "cells_of",
    "config_from_mapping",
    "declared",
    "decodings",
    "expand_models",
    "json_schema",
    "load_config",
    "load_study",
    "study_from_mapping",
    "to_yaml",
]
