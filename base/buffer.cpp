#include "base/buffer.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/tensor_view.h"

namespace heddle {
namespace {

constexpr std::size_t kHuge = std::size_t{2} << 20;

// Not to kHuge: the end would take a huge page for the little that is left, of matrices of 2.1 MiB
// nearly their size again. A multiple of every page size.
std::size_t rounded(std::size_t bytes) {
  constexpr std::size_t kPage = std::size_t{64} << 10;
  return (bytes + kPage - 1) / kPage * kPage;
}

[[noreturn]] void out_of_memory(std::size_t bytes) {
  throw Error(ErrorKind::kMemory, fmt::format("cannot allocate {} bytes of host memory", bytes));
}

Buffer mapped_buffer(std::size_t bytes, HostPages pages) {
  // Over-map by one huge page and cut the ends, so that the block is 2 MiB aligned.
  const std::size_t size = rounded(bytes);
  void* raw =
      ::mmap(nullptr, size + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) out_of_memory(bytes);
  auto* const begin = static_cast<std::byte*>(raw);
  const std::size_t lead = (kHuge - reinterpret_cast<std::uintptr_t>(raw) % kHuge) % kHuge;
  if (lead > 0) ::munmap(begin, lead);
  if (kHuge - lead > 0) ::munmap(begin + lead + size, kHuge - lead);
  // Wishes; the other kind works too.
  ::madvise(begin + lead, size, pages == HostPages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return {begin + lead, bytes,
          [](void* data, std::size_t n) noexcept { ::munmap(data, rounded(n)); }};
}

}  // namespace

Buffer host_buffer(std::size_t bytes, HostPages pages) {
  if (bytes > (std::size_t{1} << 47)) out_of_memory(bytes);
  // A sparse buffer of a few pages gains nothing from a mapping of its own.
  const bool mapped = bytes >= (pages == HostPages::kHuge ? kHuge : kHuge / 32);
  if (mapped) return mapped_buffer(bytes, pages);
  const std::size_t size = (bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0);
  void* data = std::aligned_alloc(64, size);
  if (data == nullptr) out_of_memory(bytes);
  std::memset(data, 0, size);
  return {data, bytes, [](void* p, std::size_t) noexcept { std::free(p); }};
}

std::string shape_text(const TensorView& view) {
  std::string text = "[";
  for (int i = 0; i < view.rank; ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", view.dim(i));
  }
  return text + fmt::format("] {}", name(view.dtype));
}

}  // namespace heddle
