#include "crime.h"

int main(void) {
    char *p = block(MEDIUM);
    free(p);
    free(p);
    return 0;
}
