#include "crime.h"

int main(void) {
    free(block(SMALL) + 1);
    return 0;
}
