// Session files against hostile bytes, up to what an engine does with them: the bytes are parsed
// and put into a small scheduler's prefix cache and its memory. Beyond "no crash": nothing but
// heddle::Error escapes, in one line; what is accepted lies in the file and is found again, and a
// file written from it is the same. The mutator changes one field or part and repairs the
// checksums, so that inputs get behind them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/session.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/session_writer.h"

namespace heddle {
namespace {

using fuzz::only_our_errors;
using fuzz::pick;
using fuzz::replace_input;
using fuzz::require;
using fuzz::Rng;
using test::SessionDoc;

constexpr std::string_view kId = "0123456789abcdef";
constexpr int kVocab = 100;

/// One mixer of each kind of memory.
std::vector<CacheNeed> needs() {
  CacheNeed softmax;
  softmax.paged = {{.n_kv_heads = 1, .head_dim = 2, .n_q_heads = 1}};
  softmax.compressed = {{.n_kv_heads = 1, .head_dim = 2, .kernel = 16, .stride = 8}};
  CacheNeed windowed;
  windowed.paged = {
      {.n_kv_heads = 1, .head_dim = 1, .n_q_heads = 1, .window = 5, .ring_blocks = 2}};
  CacheNeed linear;
  linear.recurrent = {{.n_heads = 1, .key_dim = 1, .value_dim = 1}};
  return {softmax, windowed, linear};
}

Backend& backend() {
  static const std::unique_ptr<Backend> kBackend = make_backend({.threads = 1});
  return *kBackend;
}

struct Ends {
  Scheduler scheduler{{.max_step_tokens = 16,
                       .max_step_outputs = 16,
                       .max_running = 1,
                       .max_chunk = 16,
                       .max_sequence_tokens = 1000,
                       .block_tokens = 32,
                       .n_blocks = 6,
                       .n_state_slots = 4,
                       .state_block_tokens = 16}};
  CacheStorage cache{
      needs(),
      {.kv_dtype = DType::kF16, .n_blocks = 6, .block_tokens = 32, .n_state_slots = 4},
      backend()};
  SessionLayout layout{needs(), DType::kF16, 32};
  SessionEnds ends() { return {scheduler, cache, layout, std::string(kId), kVocab, {}}; }
};

/// What an engine with these needs would write for n tokens.
SessionDoc valid(std::size_t n) {
  const SessionLayout layout(needs(), DType::kF16, 16);
  SessionDoc doc;
  std::ranges::copy(kId, doc.header.numerics_id.begin());
  doc.header.group_bytes = layout.group_bytes();
  doc.header.state_bytes = layout.state_bytes();
  for (std::size_t i = 0; i < n; ++i) doc.tokens.push_back(static_cast<std::int32_t>(i % kVocab));
  doc.positions = {n};
  const auto tokens = static_cast<std::int64_t>(n);
  doc.parts[1].resize(static_cast<std::uint64_t>(layout.n_groups(tokens)) * layout.group_bytes());
  doc.parts[2].resize(layout.compressed_bytes(tokens));
  doc.parts[4].resize(layout.state_bytes());
  doc.finish();
  return doc;
}

SessionDoc document_of(const SessionView& view) {
  SessionDoc doc;
  std::ranges::copy(view.numerics_id, doc.header.numerics_id.begin());
  doc.header.weights = view.weights;
  doc.header.group_bytes = view.group_bytes;
  doc.header.state_bytes = view.state_bytes;
  doc.tokens = view.tokens;
  doc.positions.assign(view.positions.begin(), view.positions.end());
  doc.parts[1].assign(view.kv.begin(), view.kv.end());
  doc.parts[2].assign(view.compressed.begin(), view.compressed.end());
  doc.parts[4].assign(view.states.begin(), view.states.end());
  doc.finish();
  return doc;
}

void check_view(const SessionView& view, std::span<const std::byte> file) {
  for (const auto part : {view.kv, view.compressed, view.states}) {
    require(part.empty() ||
            (part.data() >= file.data() && part.data() + part.size() <= file.data() + file.size()));
  }
  require(!view.tokens.empty() && std::ranges::is_sorted(view.positions));
  for (std::size_t i = 0; i < view.positions.size(); ++i) {
    require(view.state(i).size() == view.state_bytes);
  }
  const std::vector<std::byte> again = document_of(view).bytes();
  require(std::ranges::equal(again, file));
}

void restore(const SessionView& view) {
  Ends engine;
  std::optional<SessionReport> report;
  only_our_errors([&] { report = restore_session(engine.ends(), view, "", "x"); });
  engine.scheduler.check();
  if (!report) return;
  require(report->tokens <= static_cast<std::int64_t>(view.tokens.size()));
  require(engine.scheduler.cached_path("", view.tokens).n_tokens == report->tokens);
}

// --- mutation

std::uint64_t odd_number(Rng& rng) {
  static const std::vector<std::uint64_t> kOdd = {
      0,           1,           2,           15,          16,          17,    224,       1U << 16U,
      1ULL << 31U, 1ULL << 32U, 1ULL << 61U, 1ULL << 62U, 1ULL << 63U, ~0ULL, ~0ULL - 15};
  return kOdd[pick(rng, kOdd.size())];
}

void change(Rng& rng, std::uint64_t& field) {
  switch (pick(rng, 3)) {
    case 0:
      field = odd_number(rng);
      break;
    case 1:
      field += odd_number(rng);
      break;
    default:
      field += pick(rng, 2) == 0 ? 1 : ~std::uint64_t{0};
  }
}

/// A part of another size, or with other bytes; the header then says so.
void change_part(Rng& rng, SessionDoc& doc) {
  std::vector<std::byte>& part = doc.parts[1 + pick(rng, 2) + 2 * pick(rng, 2)];
  if (pick(rng, 2) == 0) part.resize(pick(rng, 400));
  if (!part.empty()) part[pick(rng, part.size())] ^= std::byte{0x80};
}

/// Before finish(): what the header will say is true.
void change_content(Rng& rng, SessionDoc& doc) {
  switch (pick(rng, 5)) {
    case 0:
      doc = valid(1 + pick(rng, 250));
      break;
    case 1:
      if (!doc.tokens.empty()) {
        doc.tokens[pick(rng, doc.tokens.size())] = static_cast<std::int32_t>(odd_number(rng));
      }
      break;
    case 2:
      if (!doc.positions.empty()) change(rng, doc.positions[pick(rng, doc.positions.size())]);
      break;
    case 3: {
      // Another snapshot with its state.
      doc.positions.push_back(1 + pick(rng, doc.tokens.size() + 2));
      std::ranges::sort(doc.positions);
      const std::size_t bytes = doc.header.state_bytes < 1000 ? doc.header.state_bytes : 0;
      doc.parts[4].resize(doc.parts[4].size() + bytes, std::byte{1});
      break;
    }
    default:
      change_part(rng, doc);
  }
}

/// After finish(): a field that lies.
void change_header(Rng& rng, SessionDoc& doc) {
  SessionHeader& h = doc.header;
  const std::vector<std::uint64_t*> fields = {&h.file_bytes,
                                              &h.n_tokens,
                                              &h.n_snapshots,
                                              &h.group_bytes,
                                              &h.state_bytes,
                                              &h.sections[pick(rng, kSessionParts)].bytes,
                                              &h.sections[pick(rng, kSessionParts)].checksum.low};
  switch (pick(rng, 5)) {
    case 0:
      h.numerics_id[pick(rng, h.numerics_id.size())] = static_cast<char>(pick(rng, 256));
      h.weights.low = pick(rng, 2);
      break;
    case 1:
      (pick(rng, 2) == 0 ? h.version : h.byte_order) = static_cast<std::uint32_t>(odd_number(rng));
      break;
    default:
      change(rng, *fields[pick(rng, fields.size())]);
  }
}

}  // namespace
}  // namespace heddle

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heddle;
  const auto bytes = std::as_bytes(std::span(data, size));
  std::optional<SessionView> view;
  only_our_errors([&] { view = parse_session(bytes, "x"); });
  if (!view) return 0;
  check_view(*view, bytes);
  restore(*view);
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data,
                                               std::size_t size,
                                               std::size_t max_size,
                                               unsigned int seed) {
  using namespace heddle;
  Rng rng(seed);
  if (pick(rng, 8) == 0) return LLVMFuzzerMutate(data, size, max_size);
  SessionDoc doc;
  try {
    doc = document_of(parse_session(std::as_bytes(std::span(data, size)), "x"));
  } catch (const Error&) {
    doc = valid(1 + pick(rng, 60));  // broken already: begin again
  }
  for (std::size_t n = 1 + pick(rng, 3); n > 0; --n) change_content(rng, doc);
  doc.finish();
  if (pick(rng, 2) == 0) change_header(rng, doc);
  const std::vector<std::byte> file = doc.bytes();
  return replace_input(data, size, max_size,
                       {reinterpret_cast<const char*>(file.data()), file.size()});
}
