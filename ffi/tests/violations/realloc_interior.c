#include "crime.h"

int main(void) {
    char *p = realloc(block(SMALL) + 32, 1000);
    return p == NULL;
}
