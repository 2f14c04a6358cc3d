#include "engine/weights_hash.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/session_file.h"

namespace heddle {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::size_t kPieceBytes = std::size_t{1} << 20U;
/// Pieces that are read before their pages are given back: more than threads have use for.
constexpr std::size_t kGroup = 128;

void add_pieces(Bytes bytes, std::vector<Bytes>& pieces) {
  for (std::size_t at = 0; at < bytes.size(); at += kPieceBytes) {
    pieces.push_back(bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at)));
  }
}

/// What a piece is a piece of.
std::string describe(const StoredTensor& tensor) {
  return fmt::format("{} {} {} {} {}\n", tensor.name.size(), tensor.name, shape_text(tensor.view),
                     tensor.bytes().size(), tensor.raw_scales.size());
}

}  // namespace

Hash128 weights_hash(WeightStore& weights, int threads) {
  std::string names;
  std::vector<Bytes> pieces;
  for (const StoredTensor& tensor : weights.tensors()) {
    names += describe(tensor);
    add_pieces(tensor.bytes(), pieces);
    add_pieces(tensor.raw_scales, pieces);
  }
  std::vector<Hash128> hashes(pieces.size());
  ThreadPool pool(threads);
  for (std::size_t begin = 0; begin < pieces.size(); begin += kGroup) {
    const std::size_t n = std::min(kGroup, pieces.size() - begin);
    pool.run(static_cast<std::int64_t>(n), [&](std::int64_t task, int /*worker*/) {
      const std::size_t i = begin + static_cast<std::size_t>(task);
      hashes[i] = session_checksum(pieces[i]);
    });
    for (const Bytes piece : std::span(pieces).subspan(begin, n)) {
      weights.release(
          TensorView(piece.data(), DType::kU8, {static_cast<std::int64_t>(piece.size())}), 0,
          piece.size());
    }
  }
  hashes.push_back(session_checksum(std::as_bytes(std::span(names))));
  return session_checksum(std::as_bytes(std::span(hashes)));
}

}  // namespace heddle
