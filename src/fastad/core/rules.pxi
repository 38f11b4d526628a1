# Custom rules: the calls of the C code, and what is asked of a rule's answer.

cdef fad_status host_sweep(void *context, fad_sweep *sweep, const fad_custom *custom) noexcept with gil:
    cdef Recorder recorder = <Recorder>context
    try:
        recorder.sweep_rule(sweep, custom)
        return FAD_OK
    except BaseException as error:
        recorder.error = error
        return FAD_IN_RULE


cdef fad_status host_reverse(void *context, fad_tape *tape, const fad_custom *custom, const uint32_t *cotangents,
                             uint32_t *results) noexcept with gil:
    cdef Recorder recorder = <Recorder>context
    try:
        recorder.emit_rule(custom, cotangents, results)
        return FAD_OK
    except BaseException as error:
        recorder.error = error
        return FAD_IN_RULE


cdef fad_status host_tangent(void *context, fad_tape *tape, const fad_custom *custom, const uint32_t *tangents,
                             uint32_t *results) noexcept with gil:
    cdef Recorder recorder = <Recorder>context
    try:
        recorder.emit_rule_tangent(custom, tangents, results)
        return FAD_OK
    except BaseException as error:
        recorder.error = error
        return FAD_IN_RULE


cdef void host_retain(void *context, void *rule) noexcept with gil:
    Py_INCREF(<object>rule)


cdef void host_release(void *context, void *rule) noexcept with gil:
    Py_DECREF(<object>rule)


cdef str rule_name(object rule):
    return getattr(rule, "__name__", type(rule).__name__)


cdef bint takes_none(object rule):
    """Whether a rule is given None in place of zeros, where nothing depends on an output or input."""
    return getattr(rule, "takes_none", False)


cdef object rule_results(object rule, tuple inputs, tuple outputs, tuple cotangents):
    results = rule.vjp(inputs, outputs, cotangents)
    if not isinstance(results, (tuple, list)):
        results = (results,)
    if len(results) != len(inputs):
        raise ValueError(f"{rule_name(rule)}: expected {len(inputs)} derivatives, one for each input, "
                         f"got {len(results)}")
    return results
