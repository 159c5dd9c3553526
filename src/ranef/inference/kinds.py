"""Which answers belong to which kind of estimate."""

from __future__ import annotations

from ranef.inference.protocol import Inference
from ranef.models.records import Estimate, GeneralisedEstimate, LinearEstimate

__all__ = ["inference_of"]


def inference_of(estimate: Estimate) -> Inference:
    """Return what can be asked of an estimate; a first fit need not import its numbers."""
    from ranef.inference.generalised import GeneralisedInference
    from ranef.inference.linear import LinearInference

    kinds: dict[type[Estimate], type[Inference]] = {
        LinearEstimate: LinearInference,
        GeneralisedEstimate: GeneralisedInference,
    }
    return kinds[type(estimate)](estimate)
