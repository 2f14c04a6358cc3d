#include "base/mapping_guard.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <utility>

namespace heddle {
namespace {

/// One mapping. A signal handler may look at any moment, so there are no locks: a slot counts while
/// `path` is set, and that is set last and cleared first.
struct Slot {
  std::atomic<bool> taken = false;
  std::atomic<std::uintptr_t> begin = 0, end = 0;
  std::atomic<const char*> path = nullptr;
};

// More files than any model has; mappings beyond it are not guarded.
constexpr std::size_t kSlots = 8192;
std::array<Slot, kSlots> slots;  // the handler can be given no other way to them

void write_all(const char* text) {
  std::size_t left = std::strlen(text);
  while (left > 0) {
    const ssize_t n = ::write(STDERR_FILENO, text, left);
    if (n <= 0) return;
    text += n;
    left -= static_cast<std::size_t>(n);
  }
}

/// Only what may be called in a signal handler.
void on_bus_error(int signal, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (const Slot& slot : slots) {
    const char* const path = slot.path.load(std::memory_order_acquire);
    if (path == nullptr || address < slot.begin || address >= slot.end) continue;
    write_all("error: ");
    write_all(path);
    write_all(": was shortened or replaced while it was being read\n");
    ::_exit(1);
  }
  struct sigaction normal = {};
  normal.sa_handler = SIG_DFL;
  ::sigaction(signal, &normal, nullptr);  // returning runs into it once more
}

}  // namespace

void install_mapping_guard() {
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

GuardedMapping::GuardedMapping(const void* data, std::size_t size, const char* path) {
  const std::size_t length = std::strlen(path);
  path_ = std::make_unique<char[]>(length + 1);
  for (std::size_t i = 0; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(path[i]);
    path_[i] = byte < 0x20 || byte == 0x7f ? '?' : path[i];  // one line, no terminal control
  }
  for (std::size_t i = 0; i < kSlots; ++i) {
    if (slots[i].taken.load(std::memory_order_relaxed)) continue;
    bool expected = false;
    if (!slots[i].taken.compare_exchange_strong(expected, true)) continue;
    slot_ = i;
    slots[i].begin = reinterpret_cast<std::uintptr_t>(data);
    slots[i].end = reinterpret_cast<std::uintptr_t>(data) + size;
    slots[i].path.store(path_.get(), std::memory_order_release);
    return;
  }
}

GuardedMapping::GuardedMapping(GuardedMapping&& other) noexcept
    : slot_(std::exchange(other.slot_, kNone)), path_(std::move(other.path_)) {}

GuardedMapping& GuardedMapping::operator=(GuardedMapping&& other) noexcept {
  std::swap(slot_, other.slot_);
  std::swap(path_, other.path_);
  return *this;
}

GuardedMapping::~GuardedMapping() {
  if (slot_ == kNone) return;
  slots[slot_].path.store(nullptr, std::memory_order_release);
  slots[slot_].taken = false;
}

}  // namespace heddle
