// Refers to each of the 20 replaceable allocation functions of C++17 once; the compiler names them.
#include <new>

void *results[8];
extern void *dead[12];

void refer(std::size_t size, std::align_val_t align) {
    results[0] = ::operator new(size);
    results[1] = ::operator new(size, std::nothrow);
    results[2] = ::operator new(size, align);
    results[3] = ::operator new(size, align, std::nothrow);
    results[4] = ::operator new[](size);
    results[5] = ::operator new[](size, std::nothrow);
    results[6] = ::operator new[](size, align);
    results[7] = ::operator new[](size, align, std::nothrow);
    ::operator delete(dead[0]);
    ::operator delete(dead[1], size);
    ::operator delete(dead[2], std::nothrow);
    ::operator delete(dead[3], align);
    ::operator delete(dead[4], size, align);
    ::operator delete(dead[5], align, std::nothrow);
    ::operator delete[](dead[6]);
    ::operator delete[](dead[7], size);
    ::operator delete[](dead[8], std::nothrow);
    ::operator delete[](dead[9], align);
    ::operator delete[](dead[10], size, align);
    ::operator delete[](dead[11], align, std::nothrow);
}
