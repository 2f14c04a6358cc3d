#pragma once
#include <cstdint>

#include "kernels/backend.h"

namespace heddle::cli {

/// Bytes per second at which `threads` threads read main memory, the best of several passes over a
/// buffer larger than the last cache. Takes a few hundred milliseconds.
double measure_read_speed(int threads);

/// The same for a device's memory: a copy on the device, its reads and writes both counted.
double measure_device_speed(Backend& backend);

/// Sum of `n` words (what the measurement does); for tests.
std::uint64_t sum_words(const std::uint64_t* words, std::int64_t n);

}  // namespace heddle::cli
