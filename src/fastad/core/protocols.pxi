# Parts of Array's protocols: methods, ufunc calls, in-place operators.

cdef class BoundMethod:
    """A registered method with its Array."""

    cdef object function, owner

    def __cinit__(self, function, owner):
        self.function = function
        self.owner = owner

    def __call__(self, *args, **kwargs):
        return self.function(self.owner, *args, **kwargs)


def record_row(row, *operands):
    return record(row[0], row[1], *operands)


cdef dict names_of_ufuncs = {}


cdef dict object_ufuncs():
    """Ufuncs by name, as NumPy's loops over object arrays look them up on the elements."""
    if not names_of_ufuncs:
        names_of_ufuncs.update({ufunc.__name__: op for ufunc, op in elementwise_ufuncs.items()})
    return names_of_ufuncs


cdef str function_name(function):
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module}.{getattr(function, '__name__', function)}"


cdef str unknown(str what):
    return (f"{what} has no derivative rule in fastad yet. Write it with functions that have one, or give it a rule: "
            "subclass fad.Function")


cdef object in_place(Array self, object result):
    """Finish self op= other: 0-d values are replaced, as Python's numbers are; arrays are written to."""
    cdef Array new
    cdef uint32_t node
    if result is NotImplemented:
        return NotImplemented
    if type(result) is not Array:
        raise TypeError(f"in place: an Array of dtype {self.dtype} cannot take a result of dtype "
                        f"{np.asarray(result).dtype}")
    new = <Array>result
    if self.scalar:
        return new
    self.writable()
    node = new.node
    if new.shape != self.shape:
        raise ValueError(f"non-broadcastable output operand with shape {self.shape} doesn't match the broadcast shape "
                         f"{new.shape}")
    self.recorder.check(fad_record_cast(self.recorder.tape, node, fad_node_dtype(self.recorder.tape, self.node), &node),
                        "in place")
    self.write(node)
    return self


cdef object ufunc_call(ufunc, str method, tuple inputs, dict kwargs):
    """Ufunc calls beyond the plain one of a table row: out=, reduce, accumulate, outer, and registered rules."""
    out = kwargs.pop("out", None)
    if kwargs.get("where", True) is True:
        kwargs.pop("where", None)
    if out is not None:
        return ufunc_out(ufunc, method, inputs, kwargs, out)
    op = elementwise_ufuncs.get(ufunc)
    if method == "__call__" and not kwargs:
        if op is not None:
            return record_operands(op, inputs)
        rule = rule_of(ufunc)
        if rule is not None:
            return rule(*inputs)
    elif method == "outer" and not kwargs and op is not None and len(inputs) == 2:
        left, right = [x if is_traced(x) else np.asarray(x) for x in inputs]
        return record_operands(op, (rule_of(np.reshape)(left, tuple(left.shape) + (1,) * right.ndim), right))
    elif method in ("reduce", "accumulate"):
        rule = rule_of((ufunc, method))
        if rule is not None:
            if method == "reduce":
                kwargs.setdefault("axis", 0)
            return rule(*inputs, **kwargs)
    if method != "__call__":
        raise NotImplementedError(unknown(f"numpy.{ufunc.__name__}.{method}"))
    if kwargs and (op is not None or rule_of(ufunc) is not None):
        name = sorted(kwargs)[0]
        raise NotImplementedError(f"numpy.{ufunc.__name__} of an Array takes no {name}= argument"
                                  + " without out=: what is left out would have no value" * (name == "where"))
    raise NotImplementedError(unknown(f"numpy.{ufunc.__name__}"))


def where_mask(where):
    """The mask of a where= argument: bools, recorded or not."""
    mask = where if type(where) is Array else np.asarray(value_of(where))
    if mask.dtype != bool:
        raise TypeError(f"where: expected a mask of dtype bool, got {mask.dtype}")
    return mask


cdef object ufunc_out(ufunc, str method, tuple inputs, dict kwargs, tuple out):
    if len(out) != 1 or type(out[0]) is not Array:
        raise TypeError(f"out: numpy.{ufunc.__name__} of an Array can be written to an Array only: an ndarray cannot hold "
                        "a recorded value")
    where = kwargs.pop("where", True) if method == "__call__" else True
    result = ufunc_call(ufunc, method, inputs, kwargs)
    if where is not True:
        result = select(where_mask(where), result, out[0])
    if (<Array>out[0]).scalar:
        out[0][()] = result   # 0-d, but named as the place to write to: not replaced as by `+=`
        return out[0]
    return in_place(out[0], result)
