#include "crime.h"

/* An address at which nothing is mapped. */
int main(void) {
    volatile uintptr_t nowhere = 0x0000123456789ab0;
    free((void *)nowhere);
    return 0;
}
