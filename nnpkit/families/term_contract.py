"""What the program asks of a kind of term that models may have beside their networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nnpkit.models.terms import Term
from nnpkit.section import Section

if TYPE_CHECKING:
    from nnpkit.families.training_data import TrainingData

__all__ = ["TermKind"]


class TermKind(ABC):
    """A kind of `nnpkit.models.terms.Term`, found by its name; any family may have it.

    Attributes
    ----------
    kind : str
        Its key in the section ``model.terms`` of the YAML and in a model's description.
    settings : type
        What stands under that key.
    """

    kind: ClassVar[str]
    settings: ClassVar[type[Section]]

    @abstractmethod
    def describe(self, settings: Any, data: TrainingData) -> dict[str, Any]:
        """All that `make` needs, JSON-able, so that a model file can be read without the data.

        Raises
        ------
        InputError
            If an element lacks something.
        """

    @abstractmethod
    def make(self, description: Mapping[str, Any], elements: Sequence[str]) -> Term:
        """The term of a description, for a model whose type indices count `elements`."""
