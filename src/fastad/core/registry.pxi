# What is registered from outside: rules of NumPy functions, methods of Array, ufuncs of rows.

FUNCTIONS = {}
"""Rules of NumPy functions: function to rule(*args, **kwargs). Filled by fastad._record.implements."""
METHODS = {}
"""Further methods of Array: name to function(self, ...). Filled by fastad._record.method."""

cdef dict functions = FUNCTIONS
cdef dict methods = METHODS
cdef bint rules_are_loaded = False
RULES = "fastad.numpy"
"""The module that registers the rules. It is imported when the first one is looked for: `import fastad` stays quick."""


cdef int load_rules() except -1:
    global rules_are_loaded
    if not rules_are_loaded:
        importlib.import_module(RULES)
        rules_are_loaded = True
    return 0


cdef object rule_of(object function):
    """The registered rule of a NumPy function, or None."""
    rule = functions.get(function)
    if rule is None:
        load_rules()
        rule = functions.get(function)
    return rule


cdef dict elementwise_ufuncs = {}      # ufunc to op number
cdef dict rows = {fad_ops[i].name.decode(): i for i in range(FAD_ELEMENTWISE_COUNT)}
cdef list DTYPES = [np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)]
cdef object FLOAT64 = DTYPES[0]
cdef object ndarray = np.ndarray
cdef object generic = np.generic
cdef object ufunc_type = np.ufunc
