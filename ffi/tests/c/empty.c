/* A library with nothing in it. */
int terrace_test_empty = 1;
