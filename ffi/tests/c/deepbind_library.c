/* Allocates in whatever heap its own scope finds first. */
#include <stdlib.h>

void *library_malloc(size_t size) { return malloc(size); }
void *library_memalign(size_t align, size_t size) { return aligned_alloc(align, size); }
