// The 20 C++ allocation operators: they allocate, throw std::bad_alloc, and ask the new-handler first.
#include "check.h"
#include <cstdint>
#include <cstring>
#include <malloc.h>
#include <new>
#include <string>
#include <vector>

namespace {

// Too large to be had, and unknown to the compiler.
volatile std::size_t impossible = static_cast<std::size_t>(PTRDIFF_MAX) - 4096;
volatile std::size_t ordinary = 100;
constexpr std::align_val_t wide{512};

int handler_calls = 0;
void *volatile sink = nullptr; // keeps a new-expression from being optimised away

void give_up_after_three() {
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}

struct custom_error {};

void throw_custom() { throw custom_error(); }

void throw_bad_alloc() {
    handler_calls++;
    throw std::bad_alloc();
}

// A destructor between the throw and the catch must run: the unwinder has to get through the operator's frame.
struct Witness {
    bool &destroyed;
    ~Witness() { destroyed = true; }
};

template <typename Allocate> void throws(Allocate allocate) {
    bool destroyed = false, caught = false;
    handler_calls = 0;
    std::set_new_handler(give_up_after_three);
    try {
        Witness witness{destroyed};
        allocate();
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    CHECK(caught && destroyed && handler_calls == 3);

    std::set_new_handler(throw_custom);
    caught = false;
    try {
        allocate();
    } catch (const custom_error &) {
        caught = true;
    }
    CHECK(caught);
    std::set_new_handler(nullptr);
}

template <typename Allocate> void returns_null(Allocate allocate) {
    CHECK(allocate() == nullptr);
    handler_calls = 0;
    std::set_new_handler(throw_bad_alloc);
    CHECK(allocate() == nullptr && handler_calls == 1);
    handler_calls = 0;
    std::set_new_handler(give_up_after_three);
    CHECK(allocate() == nullptr && handler_calls == 3);
    std::set_new_handler(nullptr);
}

void use(void *p, std::size_t align) {
    CHECK(p != nullptr && reinterpret_cast<std::uintptr_t>(p) % align == 0);
    CHECK(malloc_usable_size(p) >= ordinary);
    std::memset(p, 1, ordinary);
}

void every_pair() {
    const auto w = static_cast<std::size_t>(wide);
    void *p;
    use(p = ::operator new(ordinary), 16), ::operator delete(p);
    use(p = ::operator new(ordinary), 16), ::operator delete(p, std::size_t{ordinary});
    use(p = ::operator new(ordinary, std::nothrow), 16), ::operator delete(p, std::nothrow);
    use(p = ::operator new(ordinary, wide), w), ::operator delete(p, wide);
    use(p = ::operator new(ordinary, wide), w), ::operator delete(p, std::size_t{ordinary}, wide);
    use(p = ::operator new(ordinary, wide, std::nothrow), w), ::operator delete(p, wide, std::nothrow);
    use(p = ::operator new[](ordinary), 16), ::operator delete[](p);
    use(p = ::operator new[](ordinary), 16), ::operator delete[](p, std::size_t{ordinary});
    use(p = ::operator new[](ordinary, std::nothrow), 16), ::operator delete[](p, std::nothrow);
    use(p = ::operator new[](ordinary, wide), w), ::operator delete[](p, wide);
    use(p = ::operator new[](ordinary, wide), w), ::operator delete[](p, std::size_t{ordinary}, wide);
    use(p = ::operator new[](ordinary, wide, std::nothrow), w), ::operator delete[](p, wide, std::nothrow);
    void *a = ::operator new(0), *b = ::operator new(0);
    CHECK(a != nullptr && b != nullptr && a != b);
    ::operator delete(a), ::operator delete(b), ::operator delete(nullptr), ::operator delete[](nullptr);
}

// A handler that frees something lets the pending allocation succeed. The test runs this program with 4 GiB of address
// space: enough for one such block, not for two.
void handler_that_helps() {
    constexpr std::size_t big = std::size_t{2560} << 20;
    sink = ::operator new(big);
    handler_calls = 0;
    std::set_new_handler([] {
        CHECK(++handler_calls == 1);
        ::operator delete(sink);
    });
    char *p = static_cast<char *>(::operator new(big));
    CHECK(p != nullptr && handler_calls == 1);
    p[0] = p[big - 1] = 1;
    ::operator delete(p);
    std::set_new_handler(nullptr);
}

} // namespace

int main() {
    every_pair();
    throws([] { return ::operator new(impossible); });
    throws([] { return ::operator new[](impossible); });
    throws([] { return ::operator new(impossible, wide); });
    throws([] { return ::operator new[](impossible, wide); });
    throws([] { sink = new char[impossible]; });
    returns_null([] { return ::operator new(impossible, std::nothrow); });
    returns_null([] { return ::operator new[](impossible, std::nothrow); });
    returns_null([] { return ::operator new(impossible, wide, std::nothrow); });
    returns_null([] { return ::operator new[](impossible, wide, std::nothrow); });
    handler_that_helps();

    bool caught = false;
    try {
        std::vector<std::string> strings;
        for (int i = 0; i < 1000; i++)
            strings.emplace_back(static_cast<std::size_t>(i), 'x');
        strings.resize(strings.max_size() / 2);
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    CHECK(caught);
    std::puts("operators: ok");
    return 0;
}
