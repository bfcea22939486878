"""Which wire type does a Python annotation of a row's attribute stand for? Only `declare` asks.

Annotations are read as text and never evaluated, so that class modules can refer to each other in circles. A
class whose name a field hides is written with its module (`Ref[vlan.VLAN]`).
"""

from __future__ import annotations

import functools
import re
from typing import Final

from poolnet.model.enums import ENUM_WIRE_NAMES
from poolnet.model.names import wire_name_of
from poolnet.model.types import EnumT, MapT, RefT, SetT, WireType, parse_wire_type

_PLAIN: Final = {"str": "string", "int": "int", "float": "float", "bool": "bool", "datetime": "datetime"}
_NESTED: Final = re.compile(r"(Ref|tuple|Mapping)\[(.*)\]")


@functools.cache
def wire_type_of_annotation(annotation: str) -> WireType:
    """Reads an annotation such as `Mapping[str, Ref[Blob]]`.

    Raises:
        ValueError: it is none of str, int, float, bool, datetime, an enum of `enums`, Ref[X], tuple[X, ...],
            Mapping[K, V].
    """
    if annotation in _PLAIN:
        return parse_wire_type(_PLAIN[annotation])
    if annotation in ENUM_WIRE_NAMES:
        return EnumT(ENUM_WIRE_NAMES[annotation])
    nested = _NESTED.fullmatch(annotation)
    if nested is None:
        raise ValueError(f"no wire type for the annotation {annotation!r}")
    outer, inner = nested.groups()
    if outer == "Ref":
        return RefT(wire_name_of(inner.rpartition(".")[2]))
    if outer == "tuple":
        return SetT(wire_type_of_annotation(inner.removesuffix(", ...")))
    # No key of a map is itself nested but Ref[X], which has no comma: the first comma ends the key.
    key, _, value = inner.partition(", ")
    return MapT(wire_type_of_annotation(key), wire_type_of_annotation(value))
