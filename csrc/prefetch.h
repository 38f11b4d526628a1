/* prefetch.h: asks for memory that will be read soon. */
#ifndef FAD_PREFETCH_H
#define FAD_PREFETCH_H

/* The empty statement is for gcc, which leaves out calls of functions that do nothing but this. */
#if defined(__GNUC__)
#define FAD_PREFETCH(ADDRESS)               \
    do {                                    \
        __builtin_prefetch(ADDRESS, 0, 2);  \
        __asm__ volatile("");               \
    } while (0)
#else
#define FAD_PREFETCH(ADDRESS) ((void)(ADDRESS))
#endif

#endif
