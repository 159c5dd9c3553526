"""Which answers belong to which kind of estimate."""

from __future__ import annotations

from ranef.inference.generalised import GeneralisedInference
from ranef.inference.linear import LinearInference
from ranef.inference.protocol import Inference
from ranef.models.records import Estimate, GeneralisedEstimate, LinearEstimate

__all__ = ["inference_of"]

KINDS: dict[type[Estimate], type[Inference]] = {
    LinearEstimate: LinearInference,
    GeneralisedEstimate: GeneralisedInference,
}


def inference_of(estimate: Estimate) -> Inference:
    """Return what can be asked of an estimate."""
    return KINDS[type(estimate)](estimate)
