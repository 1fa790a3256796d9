#include "crime.h"

/* Not an address at all: a pointer overwritten with text. */
int main(void) {
    volatile uintptr_t text = 0x4141414141414140;
    free((void *)text);
    return 0;
}
