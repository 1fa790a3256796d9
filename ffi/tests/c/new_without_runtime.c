/* C code that calls operator new by its mangled name, in a process without a C++ runtime. */
#include "check.h"
#include <stdint.h>

void *_Znwm(size_t);

int main(void) {
    volatile size_t impossible = (size_t)PTRDIFF_MAX - 4096;
    CHECK(_Znwm(impossible) == NULL);
    return 0;
}
