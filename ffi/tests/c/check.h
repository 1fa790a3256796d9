/* CHECK: a condition that must hold, or the program ends with the line that failed. */
#ifndef CHECK_H
#define CHECK_H
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            fprintf(stderr, "%s:%d: not true: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);               \
            _exit(1);                                                                                                 \
        }                                                                                                             \
    } while (0)
#endif
