/* Each program here breaks one rule of the heap and must die of it, with one line, before it returns from main. */
#ifndef CRIME_H
#define CRIME_H
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A live neighbour, so that no slab or span is empty. */
static inline char *block(size_t size) {
    char *neighbour = malloc(size), *p = malloc(size);
    memset(neighbour, 1, size);
    memset(p, 2, size);
    return p;
}

enum { SMALL = 100, MEDIUM = 40000, LARGE = 3 << 20 };
#endif
