#include "crime.h"
#include <sys/mman.h>

/* The start of a mapping that lies behind an inaccessible page. */
int main(void) {
    char *p = mmap(NULL, 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + 4096, 4096, PROT_READ | PROT_WRITE) != 0)
        return 1;
    free(p + 4096);
    return 0;
}
