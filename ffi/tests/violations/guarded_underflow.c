#include "crime.h"

int main(void) {
    char *volatile p = block(4096);
    p[-1] = 'x';
    return 0;
}
