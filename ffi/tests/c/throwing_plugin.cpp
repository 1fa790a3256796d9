// A plugin in C++ for a host in C: its operator new is the preloaded one, its C++ runtime is in no global scope.
#include <cstdint>
#include <new>

static volatile std::size_t impossible = static_cast<std::size_t>(PTRDIFF_MAX) - 4096;

extern "C" int plugin_catches() {
    try {
        ::operator delete(::operator new(impossible));
    } catch (const std::bad_alloc &) {
        return ::operator new(impossible, std::nothrow) == nullptr;
    }
    return 0;
}
