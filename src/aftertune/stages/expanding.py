"""The models of a study, before any of them is trained."""

from aftertune.core.recipe import StudyModel
from aftertune.study import expand_models
from aftertune.workspace import Run


def expand_study(run: Run) -> tuple[StudyModel, ...]:
    """Return the study's models; identities come from the engines, which load no weights for it."""
    return expand_models(
        run.study,
        run.engines.training_identity,
        folder=run.models_folder,
        template_sha256=run.engines.tokenizer_sha256,
        bundled_sha256=_bundled_sha256,
    )


def _bundled_sha256(name: str) -> str:
    from aftertune.data.bundled.safety_rows import (  # a study without safety rows needs none
        SAFETY_SET,
        safety_sha256,
    )

    return safety_sha256() if name == SAFETY_SET else ""
