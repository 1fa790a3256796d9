#include "crime.h"

int main(void) {
    free(block(SMALL) + 16);
    return 0;
}
