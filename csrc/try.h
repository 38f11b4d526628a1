/* try.h: what functions with a status do when one that they call fails. For .c files only. */
#ifndef FAD_TRY_H
#define FAD_TRY_H

#include "tape.h"

#define TRY(call)                    \
    do {                             \
        fad_status s_ = (call);      \
        if (s_ != FAD_OK)            \
            return s_;               \
    } while (0)

#endif
