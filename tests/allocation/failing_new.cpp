#include "tests/allocation/failing_new.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace heddle::test {
namespace {

thread_local std::int64_t to_go = 0;  // 0: none fails
thread_local bool has_failed = false;
std::atomic<std::int64_t> alive = 0;

bool fails_now() {
  if (to_go == 0 || --to_go > 0) return false;
  has_failed = true;
  return true;
}

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (fails_now()) return nullptr;
  const std::size_t size = bytes == 0 ? 1 : bytes;
  void* p = alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__
                ? std::malloc(size)
                : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (p != nullptr) alive.fetch_add(1, std::memory_order_relaxed);
  return p;
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  void* p = allocate(bytes, alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

void release(void* p) noexcept {
  if (p != nullptr) alive.fetch_sub(1, std::memory_order_relaxed);
  std::free(p);
}

}  // namespace

FailNth::FailNth(std::int64_t nth) {
  has_failed = false;
  to_go = nth;
}

FailNth::~FailNth() {
  to_go = 0;
}

bool FailNth::failed() const {
  return has_failed;
}

std::int64_t n_allocated() {
  return alive.load();
}

}  // namespace heddle::test

// The other forms of new and delete call these.
void* operator new(std::size_t bytes) {
  return heddle::test::allocate_or_throw(bytes, 1);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return heddle::test::allocate_or_throw(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return heddle::test::allocate(bytes, 1);
}
void operator delete(void* p) noexcept {
  heddle::test::release(p);
}
void operator delete(void* p, std::size_t) noexcept {
  heddle::test::release(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
  heddle::test::release(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  heddle::test::release(p);
}
