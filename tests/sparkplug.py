"""Sparkplug B payloads for tests: written by hand, and by protobuf itself as a second opinion on our decoder.

The schema is that of the specification, appendix (sparkplug_b.proto of github.com/eclipse-sparkplug/sparkplug,
EPL-2.0), put together here field by field, as the compiler would. `payload_class` needs the package `protobuf`.
"""

import struct
from functools import cache

LABEL = {"?": 1, "*": 3}
KINDS = {"double": 1, "float": 2, "uint64": 4, "bool": 8, "string": 9, "bytes": 12, "uint32": 13}
VALUE = ["int_value uint32", "long_value uint64", "float_value float", "double_value double", "boolean_value bool",
         "string_value string"]  # fmt: skip
MESSAGES = {
    "Extension": [],
    "DataSetValue": [f"{n} ?{field}" for n, field in enumerate(VALUE, 1)],
    "Row": ["1 *elements DataSetValue"],
    "DataSet": ["1 ?num_of_columns uint64", "2 *columns string", "3 *types uint32", "4 *rows Row"],
    "PropertyValue": ["1 ?type uint32", "2 ?is_null bool", *(f"{n} ?{field}" for n, field in enumerate(VALUE, 3))],
    "PropertySet": ["1 *keys string", "2 *values PropertyValue"],
    "Template": ["1 ?version string", "2 *metrics Metric", "4 ?template_ref string", "5 ?is_definition bool"],
    "Metric": ["1 ?name string", "2 ?alias uint64", "3 ?timestamp uint64", "4 ?datatype uint32",
               "5 ?is_historical bool",
               "6 ?is_transient bool", "7 ?is_null bool", "9 ?properties PropertySet",
               *(f"{n} ?{field}" for n, field in enumerate(VALUE, 10)), "16 ?bytes_value bytes",
               "17 ?dataset_value DataSet", "18 ?template_value Template", "19 ?extension_value Extension"],
    "Payload": ["1 ?timestamp uint64", "2 *metrics Metric", "3 ?seq uint64", "4 ?uuid string", "5 ?body bytes"],
}  # fmt: skip


@cache
def payload_class():
    """The class `Payload`, made by protobuf from the schema."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package="spb", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            number, marked, kind = field.split()
            made = message.field.add(name=marked[1:], number=int(number), label=LABEL[marked[0]])
            made.type = KINDS.get(kind, 11)
            if kind not in KINDS:
                made.type_name = f".spb.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("spb.Payload"))


NUMBERS = {"name": 1, "alias": 2, "timestamp": 3, "datatype": 4, "is_historical": 5, "is_null": 7, "properties": 9,
           "int": 10, "long": 11, "float": 12, "double": 13, "bool": 14, "string": 15, "bytes": 16, "dataset": 17,
           "template": 18}  # fmt: skip
"""Fields of a metric."""


def varint(number: int) -> bytes:
    """A number on the wire."""
    rest, low = number >> 7, number & 0x7F
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, value: object, *, single: bool = False) -> bytes:
    """A field: whole numbers as varint, floats as double or `single`, text and bytes with their length."""
    if isinstance(value, float):
        return varint(number << 3 | (5 if single else 1)) + struct.pack("<f" if single else "<d", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def metric(**fields: object) -> bytes:
    """A metric; names of fields as in `NUMBERS`."""
    return b"".join(field(NUMBERS[name], value, single=name == "float") for name, value in fields.items())


def payload(*metrics: bytes, at_ms: int | None = None, seq: int | None = None) -> bytes:
    """A payload of these metrics."""
    head = b"" if at_ms is None else field(1, at_ms)
    return head + b"".join(field(2, one) for one in metrics) + (b"" if seq is None else field(3, seq))
