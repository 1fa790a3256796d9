#include "crime.h"

int main(void) {
    free(block(LARGE) + (1 << 20));
    return 0;
}
