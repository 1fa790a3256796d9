#include "crime.h"

void _ZdlPvm(void *, size_t) __attribute__((weak)); /* operator delete(void *, std::size_t) */

int main(void) {
    char *p = block(SMALL);
    free(p);
    _ZdlPvm(p, SMALL);
    return 0;
}
