/* What the workloads with threads share. */
#ifndef TERRACE_THREADS_H
#define TERRACE_THREADS_H

#include <pthread.h>

#define MAX_THREADS 32

/* As many threads as CPUs this process may run on, at least 2 and at most 16: the same for every allocator. */
unsigned thread_count(void);

/* pthread_create, or the end of the program. */
void start(pthread_t *thread, void *(*body)(void *), void *arg);

#endif
