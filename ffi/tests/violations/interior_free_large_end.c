#include "crime.h"

/* Inside the span, beyond its first extent. */
int main(void) {
    free(block(LARGE) + LARGE - 4096);
    return 0;
}
