#include "engine/engine_stats.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/json.h"
#include "scheduler/scheduler.h"

namespace heddle {

EngineStats engine_stats(const SchedulerStats& s) {
  EngineStats stats{.steps = s.steps,
                    .computed_tokens = s.computed_tokens,
                    .prompt_tokens = s.prompt_tokens,
                    .cached_tokens = s.cached_tokens,
                    .replayed_tokens = s.replayed_tokens,
                    .preemptions = s.preemptions,
                    .evicted_blocks = s.cache.evicted_blocks,
                    .evicted_snapshots = s.cache.evicted_snapshots,
                    .moved_blocks = s.cache.moved_blocks,
                    .moved_snapshots = s.cache.moved_snapshots,
                    .returned_blocks = s.returned_blocks,
                    .returned_snapshots = s.returned_snapshots,
                    .waiting = s.waiting,
                    .running = s.running,
                    .kv_blocks = s.blocks,
                    .kv_blocks_used = s.used_blocks,
                    .kv_blocks_cached = s.blocks - s.used_blocks - s.free_blocks,
                    .kv_blocks_free = s.free_blocks,
                    .state_slots = s.state_slots,
                    .state_slots_used = s.state_slots - s.free_state_slots - s.cache.snapshots,
                    .snapshots = s.cache.snapshots,
                    .state_slots_free = s.free_state_slots,
                    .host_blocks = s.cache.host_blocks,
                    .host_snapshots = s.cache.host_snapshots};
  for (std::size_t i = 0; i < s.misses.size(); ++i) {
    stats.not_reused.emplace_back(name(static_cast<ReuseMiss>(i)), s.misses[i]);
  }
  return stats;
}

std::string describe(const EngineStats& s) {
  std::int64_t begun = 0;
  std::string reasons;
  for (const auto& [reason, n] : s.not_reused) {
    begun += n;
    if (n > 0) reasons += fmt::format("{}{} {}", reasons.empty() ? ": " : ", ", reason, n);
  }
  std::string text = fmt::format("requests   {} running, {} waiting, {} begun{}\n", s.running,
                                 s.waiting, begun, reasons);
  text += fmt::format("prompts    {} tokens, {} cached, {} replayed\n", s.prompt_tokens,
                      s.cached_tokens, s.replayed_tokens);
  text += fmt::format("steps      {}, {} tokens computed, {} preemptions\n", s.steps,
                      s.computed_tokens, s.preemptions);
  text += fmt::format("KV blocks  {}: {} used, {} cached, {} free; {} evicted\n", s.kv_blocks,
                      s.kv_blocks_used, s.kv_blocks_cached, s.kv_blocks_free, s.evicted_blocks);
  if (s.state_slots > 0) {
    text += fmt::format("states     {}: {} used, {} snapshots, {} free; {} snapshots evicted\n",
                        s.state_slots, s.state_slots_used, s.snapshots, s.state_slots_free,
                        s.evicted_snapshots);
  }
  if (s.moved_blocks + s.moved_snapshots > 0) {
    text += fmt::format(
        "host       {} blocks and {} snapshots kept, {} and {} moved there, {} and {} came back\n",
        s.host_blocks, s.host_snapshots, s.moved_blocks, s.moved_snapshots, s.returned_blocks,
        s.returned_snapshots);
  }
  const CacheCheckStats& v = s.verify;
  if (v.checked + v.skipped + v.pending > 0) {
    text += fmt::format("verified   {} hits, {} rows, {} mismatches, {} skipped, {} pending\n",
                        v.checked, v.rows, v.mismatches, v.skipped, v.pending);
  }
  return text;
}

std::string to_json(const EngineStats& s) {
  Json not_reused = Json::object();
  for (const auto& [reason, n] : s.not_reused) not_reused[std::string(reason)] = n;
  const Json json{{"load_s", s.load_s},
                  {"steps", s.steps},
                  {"computed_tokens", s.computed_tokens},
                  {"prompt_tokens", s.prompt_tokens},
                  {"cached_tokens", s.cached_tokens},
                  {"replayed_tokens", s.replayed_tokens},
                  {"preemptions", s.preemptions},
                  {"evicted_blocks", s.evicted_blocks},
                  {"evicted_snapshots", s.evicted_snapshots},
                  {"moved_blocks", s.moved_blocks},
                  {"moved_snapshots", s.moved_snapshots},
                  {"returned_blocks", s.returned_blocks},
                  {"returned_snapshots", s.returned_snapshots},
                  {"not_reused", std::move(not_reused)},
                  {"verify",
                   {{"checked", s.verify.checked},
                    {"rows", s.verify.rows},
                    {"mismatches", s.verify.mismatches},
                    {"skipped", s.verify.skipped},
                    {"pending", s.verify.pending}}},
                  {"waiting", s.waiting},
                  {"running", s.running},
                  {"kv_blocks", s.kv_blocks},
                  {"kv_blocks_used", s.kv_blocks_used},
                  {"kv_blocks_cached", s.kv_blocks_cached},
                  {"kv_blocks_free", s.kv_blocks_free},
                  {"state_slots", s.state_slots},
                  {"state_slots_used", s.state_slots_used},
                  {"snapshots", s.snapshots},
                  {"state_slots_free", s.state_slots_free},
                  {"host_blocks", s.host_blocks},
                  {"host_snapshots", s.host_snapshots}};
  return json.dump();
}

}  // namespace heddle
