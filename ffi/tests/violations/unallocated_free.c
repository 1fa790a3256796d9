#include "crime.h"

/* In the heap's own range, where no block has ever been. */
int main(void) {
    volatile uintptr_t beyond = ((uintptr_t)block(SMALL) & ~(uintptr_t)0xfffffff) + ((uintptr_t)1 << 30);
    free((void *)beyond);
    return 0;
}
