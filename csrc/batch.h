/* batch.h: operations over lanes as nodes on the same tape, values computed as they are appended. */
#ifndef FAD_BATCH_H
#define FAD_BATCH_H

#include "tape.h"

/* Nodes start .. end-1 were recorded for one lane. Each of `seeds` among them has a node of `batched` that holds its
 * values in all lanes, with a leading lane axis. Appends the same operations over all lanes, and puts the nodes of
 * `outputs` over all lanes in `results` (FAD_NODE_NONE: it depends on no seed, and is the same in every lane). What
 * depends on no seed is not repeated but broadcast; what no output depends on is left out. */
fad_status fad_emit_batch(fad_tape *tape, size_t start, size_t end, size_t lanes, size_t seed_count,
                          const uint32_t *seeds, const uint32_t *batched, size_t output_count, const uint32_t *outputs,
                          uint32_t *results);

/* Values that are the same in every lane, were overwritten (update.h) and are operands of what differs are held. Part
 * of fad_emit_batch; to be called before a bookmark, where one is returned to afterwards. */
fad_status fad_hold_shared(fad_tape *tape, size_t start, size_t end, size_t seed_count, const uint32_t *seeds);

#endif
