"""Which answers belong to which kind of estimate."""

from __future__ import annotations

from ranef.inference.protocol import Inference
from ranef.models.equally_good import equally_good
from ranef.models.records import Estimate, GeneralisedEstimate, LinearEstimate

__all__ = ["inference_of", "inference_of_kind"]


def inference_of(estimate: Estimate) -> Inference:
    """Return what can be asked of an estimate, masked where the data do not determine it."""
    model, twin = inference_of_kind(estimate), equally_good(estimate)
    if twin is None:
        return model
    from ranef.inference.undetermined import partly

    return partly(model, inference_of_kind(twin))


def inference_of_kind(estimate: Estimate) -> Inference:
    """Return what can be asked of an estimate; a first fit need not import its numbers."""
    from ranef.inference.generalised import GeneralisedInference
    from ranef.inference.linear import LinearInference

    kinds: dict[type[Estimate], type[Inference]] = {
        LinearEstimate: LinearInference,
        GeneralisedEstimate: GeneralisedInference,
    }
    return kinds[type(estimate)](estimate)
