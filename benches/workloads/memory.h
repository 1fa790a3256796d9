/* What a workload finds out about itself beside its checksum: its resident set, and figures for the runner. */
#ifndef TERRACE_MEMORY_H
#define TERRACE_MEMORY_H

#include <stdint.h>

/* KiB that this process has resident now; read without allocating. */
uint64_t resident_kib(void);

/* The same without pages of files, which the program and its libraries are read from. */
uint64_t anonymous_kib(void);

/* Lines of /proc/self/maps; counted without allocating. */
uint64_t mapping_count(void);

/* Hands a figure to the runner, which reads `metric NAME VALUE` lines on standard error; they are no part of the
 * checksum, since allocators may differ in them. */
void metric(const char *name, double value);

#endif
