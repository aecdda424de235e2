"""One type for a column that has several among the files: the widest, by the rules of Delta's type widening."""

from pyspark.sql import types as T

_INTEGERS: list[type] = [T.ByteType, T.ShortType, T.IntegerType, T.LongType]
_DIGITS: dict[type, int] = {T.ByteType: 3, T.ShortType: 5, T.IntegerType: 10, T.LongType: 20}
_MAX_DIGITS = 38


def widened(left: T.DataType, right: T.DataType) -> T.DataType | None:
    """Return the type that holds the values of both, or None if there is none.

    Integers widen to longer integers and to decimals, integers of up to 32 bits and floats to doubles, decimals to more digits,
    dates to timestamps without a time zone, binary to strings; structs get the fields of both.

    >>> widened(T.IntegerType(), T.LongType())
    LongType()
    >>> widened(T.LongType(), T.DoubleType()) is None
    True
    """
    if left == right:
        return left
    if isinstance(left, T.StructType) and isinstance(right, T.StructType):
        return _struct(left, right)
    if isinstance(left, T.ArrayType) and isinstance(right, T.ArrayType):
        element = widened(left.elementType, right.elementType)
        return element and T.ArrayType(element)
    if isinstance(left, T.MapType) and isinstance(right, T.MapType):
        key, value = widened(left.keyType, right.keyType), widened(left.valueType, right.valueType)
        return T.MapType(key, value) if key and value else None
    return _number(left, right) or _number(right, left) or _other(left, right) or _other(right, left)


def _struct(left: T.StructType, right: T.StructType) -> T.StructType | None:
    fields = {field.name.lower(): field for field in left.fields}
    for field in right.fields:
        known = fields.get(field.name.lower())
        kind = field.dataType if known is None else widened(known.dataType, field.dataType)
        if kind is None:
            return None
        fields[field.name.lower()] = T.StructField(known.name if known else field.name, kind)
    return T.StructType(list(fields.values()))


def _number(narrow: T.DataType, wide: T.DataType) -> T.DataType | None:
    if type(narrow) in _INTEGERS and type(wide) in _INTEGERS:
        return max(narrow, wide, key=lambda kind: _INTEGERS.index(type(kind)))
    if isinstance(wide, T.DoubleType) and isinstance(narrow, T.ByteType | T.ShortType | T.IntegerType | T.FloatType):
        return wide
    if isinstance(wide, T.DecimalType):
        if type(narrow) in _INTEGERS:
            narrow = T.DecimalType(_DIGITS[type(narrow)], 0)
        if isinstance(narrow, T.DecimalType):
            scale = max(narrow.scale, wide.scale)
            digits = max(narrow.precision - narrow.scale, wide.precision - wide.scale) + scale
            return T.DecimalType(digits, scale) if digits <= _MAX_DIGITS else None
    return None


def _other(narrow: T.DataType, wide: T.DataType) -> T.DataType | None:
    dates = isinstance(narrow, T.DateType) and isinstance(wide, T.TimestampNTZType)
    texts = isinstance(narrow, T.BinaryType) and isinstance(wide, T.StringType)
    return wide if dates or texts else None
