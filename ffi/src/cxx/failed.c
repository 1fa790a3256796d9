/* What a C++ allocation operator does when there is no memory left: ask the new-handler, then throw.
 *
 * C, because exceptions pass through these frames and must never pass through a Rust one (cxx.rs explains), and not
 * C++, because libterrace.so must not pull a C++ runtime into every process it is preloaded into. The runtime that
 * is needed here is the caller's own: an operator new is only called where one is loaded. It may be out of our
 * reach at link time (a plugin loaded it later, or with RTLD_LOCAL), so weak references alone would not do.
 *
 * Zone: cold. Called with no lock held.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

typedef void (*new_handler)(void);
typedef new_handler (*get_new_handler_fn)(void);
typedef void (*throw_bad_alloc_fn)(void);
typedef void *(*retry_fn)(size_t size, size_t align);
typedef void *(*nothrow_new_fn)(size_t size, const void *tag);
typedef void *(*aligned_nothrow_new_fn)(size_t size, size_t align, const void *tag);

/* std::get_new_handler() and std::__throw_bad_alloc(): found at once where the runtime is linked in. */
extern new_handler _ZSt15get_new_handlerv(void) __attribute__((weak));
extern void _ZSt17__throw_bad_allocv(void) __attribute__((weak));

/* `name` in the C++ runtime of this process, if one is loaded; never loads one. */
static void *runtime_symbol(const char *name) {
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++abi.so.1", "libc++.so.1"};
    for (size_t i = 0; i < sizeof runtimes / sizeof runtimes[0]; i++) {
        void *runtime = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        if (runtime == NULL)
            continue;
        void *symbol = dlsym(runtime, name);
        dlclose(runtime); /* drops the reference that dlopen took; the caller of operator new holds its own */
        if (symbol != NULL)
            return symbol;
    }
    return NULL;
}

static new_handler current_new_handler(void) {
    get_new_handler_fn get = _ZSt15get_new_handlerv;
    if (get == NULL)
        get = (get_new_handler_fn)(uintptr_t)runtime_symbol("_ZSt15get_new_handlerv");
    return get == NULL ? NULL : get();
}

static void throw_bad_alloc(void) {
    throw_bad_alloc_fn throw_it = _ZSt17__throw_bad_allocv;
    if (throw_it == NULL)
        throw_it = (throw_bad_alloc_fn)(uintptr_t)runtime_symbol("_ZSt17__throw_bad_allocv");
    if (throw_it != NULL)
        throw_it();
    static const char line[] = "terrace: out of memory in operator new, and no C++ runtime to throw std::bad_alloc\n";
    if (write(STDERR_FILENO, line, sizeof line - 1) < 0) { /* nothing more to do: the abort says the rest */
    }
    abort();
}

/* The failure path of the throwing operators: [new.delete.single]/4. Returns memory or throws. */
void *terrace_cxx_new_failed(size_t size, size_t align, retry_fn retry) {
    if ((align & (align - 1)) != 0)
        throw_bad_alloc(); /* no new-handler can help */
    for (;;) {
        new_handler handler = current_new_handler();
        if (handler == NULL)
            throw_bad_alloc();
        handler(); /* frees something, throws, or ends the program */
        void *p = retry(size, align);
        if (p != NULL)
            return p;
    }
}

/* The failure path of the nothrow operators. With a new-handler installed, the runtime's own nothrow operator is
 * called: it calls the (our) throwing one inside a try block, which C cannot write. `align` 0: the unaligned form. */
void *terrace_cxx_nothrow_failed(size_t size, size_t align, const void *tag) {
    if (current_new_handler() == NULL)
        return NULL;
    if (align == 0) {
        nothrow_new_fn new_nothrow = (nothrow_new_fn)(uintptr_t)runtime_symbol("_ZnwmRKSt9nothrow_t");
        return new_nothrow == NULL ? NULL : new_nothrow(size, tag);
    }
    aligned_nothrow_new_fn new_nothrow =
        (aligned_nothrow_new_fn)(uintptr_t)runtime_symbol("_ZnwmSt11align_val_tRKSt9nothrow_t");
    return new_nothrow == NULL ? NULL : new_nothrow(size, align, tag);
}
