"""A family whose atoms hear of their neighbours' neighbours, complete in this file.

Another package would offer it by an entry point. Its first stage sums functions of the
neighbours' distances into a message of each atom; its second weights every neighbour with the message of that neighbour
and of the centre. What LAMMPS must carry through its ghosts, and back for the forces, is the message.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from nnpkit.data.graph import edge_centers
from nnpkit.families.contract import Family
from nnpkit.families.shared_settings import ModelSettings, Network
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.stages import StagedDescriptor
from nnpkit.section import Positive, Section

MESSAGES, FEATURES = 2, 3


class HopSettings(Section):
    """Messages."""

    cutoff: Positive = Field(3.0, description="Radius of one hop, A.")


class HopModel(ModelSettings):
    """A potential of messages."""

    trained_descriptor: ClassVar[bool] = True
    kind: Literal["hop"] = Field("hop", description="Kind of the model.")
    descriptor: HopSettings = Field(HopSettings(), description="Messages.")
    network: Network = Field(Network(), description="Networks.")


class Hop(StagedDescriptor):
    """Messages ``m_i = sum_j e_tj tanh(w r_ij + b) fc``, features ``sum_j (u m_j + v m_i) exp(-r_ij) fc``."""

    def __init__(self, n_elements: int, cutoff: float) -> None:
        super().__init__(cutoff, [FEATURES] * n_elements, [("message", MESSAGES)])
        shapes = {
            "w": (MESSAGES,), "b": (MESSAGES,), "e": (n_elements, MESSAGES), "u": (MESSAGES, FEATURES),
            "v": (MESSAGES, FEATURES),
        }  # fmt: skip
        for name, shape in shapes.items():
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)))

    def stage(
        self,
        number: int,
        own: Tensor,
        theirs: Tensor,
        edge_vec: Tensor,
        neighbor_type: Tensor,
        offsets: Tensor,
        types: Tensor,
    ) -> Tensor:
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        smooth = cutoff_function(r, self.cutoff, "poly2", 0.0).unsqueeze(1)
        center = edge_centers(offsets)
        if number == 0:
            values = torch.tanh(r.unsqueeze(1) * self.w + self.b) * self.e.index_select(0, neighbor_type)
        else:
            values = theirs @ self.u + own.index_select(0, center) @ self.v
            values = torch.tanh(values) * torch.exp(-r).unsqueeze(1)
        sums = torch.zeros((types.shape[0], values.shape[1]), dtype=edge_vec.dtype, device=edge_vec.device)
        return sums.index_add(0, center, values * smooth)


class HopFamily(Family):
    kind = "hop"
    settings = HopModel

    def parts(self, spec, elements):
        descriptor = Hop(len(elements), **spec["descriptor"])
        return descriptor, self.networks(spec, elements, descriptor)

    def describe(self, settings, data):
        return {"descriptor": settings.descriptor.model_dump()}, []

    def initialise(self, model, kind, generator):
        super().initialise(model, kind, generator)
        for parameter in model.descriptor.parameters():
            parameter.data.uniform_(-1.0, 1.0, generator=generator)


HOP = HopFamily()
