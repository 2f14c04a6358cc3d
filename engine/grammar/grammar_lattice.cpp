#include "engine/grammar/grammar_lattice.h"

#include <algorithm>
#include <functional>

#include "base/error.h"

namespace heddle {
namespace {

std::uint64_t packed(const std::pair<std::uint32_t, std::uint32_t>& pair) {
  return std::uint64_t{pair.first} << 32U | pair.second;
}

template <typename Pairs>
std::uint64_t hash_of(const Pairs& pairs, std::uint64_t seed) {
  for (const auto& pair : pairs) seed = mix_hash(seed, packed(pair));
  return seed;
}

}  // namespace

GrammarLattice::GrammarLattice(const GrammarProgram& program) : program_(program) {
  frames_ = {{}, {}};  // kBottom, kNobody: known by their numbers alone
  configs_ = {{}};     // kDead
  config_index_.insert(hash_of(std::vector<Item>(), 0), kDead);
}

GrammarLattice::ConfigId GrammarLattice::start() {
  open_.clear();
  visited_.clear();
  visit(program_.rules[0].start, kBottom);
  return close();
}

void GrammarLattice::visit(std::uint32_t state, FrameId frame) {
  if (visited_.insert(packed({state, frame}))) open_.emplace_back(state, frame);
}

GrammarLattice::ConfigId GrammarLattice::slow_step(ConfigId config, std::uint8_t byte) {
  if (config == kDead) return kDead;
  if (configs_[config].first_next == kUnknown) {
    const auto first = static_cast<std::uint32_t>(next_.size());
    next_.resize(next_.size() + program_.n_classes, kUnknown);
    configs_[config].first_next = first;
  }
  open_.clear();
  visited_.clear();
  const Config c = configs_[config];
  for (std::uint32_t i = 0; i < c.n_items; ++i) {
    const auto [state, frame] = items_[c.first_item + i];
    for (const GrammarProgram::ByteEdge& edge : program_.bytes_of(state)) {
      if (edge.low > byte) break;
      if (byte <= edge.high) visit(edge.target, frame);
    }
  }
  const ConfigId next = close();
  next_[c.first_next + program_.byte_class[byte]] = next;
  return next;
}

/// A rule that is over: its callers go on.
void GrammarLattice::take_return(FrameId frame) {
  if (!returned_.insert(frame)) return;
  if (frame == kBottom) complete_ = true;
  if (frame == kNobody) escaped_ = true;
  const Frame f = frames_[frame];
  work_ += f.n;
  for (std::uint32_t i = 0; i < f.n; ++i) {
    const Link link = links_[f.first + i];
    visit(link.first, link.second);
  }
}

void GrammarLattice::add_call(std::uint32_t rule, const Link& link) {
  const GrammarProgram::Rule& called = program_.rules[rule];
  const std::uint32_t most = called.nesting ? kMostNesting : kMostCalls;
  if (frames_[link.second].depth >= most) return;
  calls_.push_back({called.rank, {rule, link}});
  std::ranges::push_heap(calls_, std::greater());
}

void GrammarLattice::expand(const Item& item) {
  const auto [state, frame] = item;
  if (!program_.bytes_of(state).empty()) found_.push_back(item);
  for (const std::uint32_t target : program_.silent_of(state)) visit(target, frame);
  for (const GrammarProgram::CallEdge& call : program_.calls_of(state)) {
    const GrammarProgram::Rule& rule = program_.rules[call.rule];
    // The empty text is not gone through: its caller goes on at once.
    if (rule.nullable) visit(call.back, frame);
    // A call that is its rule's last returns to the rule's callers: lists written as a rule that
    // ends with itself do not grow deep.
    const Frame f = frames_[frame];
    if (program_.only_returns[call.back] != 0 && f.n > 0) {
      work_ += f.n;
      for (std::uint32_t i = 0; i < f.n; ++i) add_call(call.rule, links_[f.first + i]);
    } else {
      add_call(call.rule, {call.back, frame});
    }
  }
  if (program_.accepting[state] != 0) take_return(frame);
}

/// The calls of the rule that no other rule can call any more: all its callers are known.
void GrammarLattice::enter_calls() {
  const std::uint32_t rule = calls_.front().second.first;
  std::vector<Link> links;
  while (!calls_.empty() && calls_.front().second.first == rule) {
    links.push_back(calls_.front().second.second);
    std::ranges::pop_heap(calls_, std::greater());
    calls_.pop_back();
  }
  visit(program_.rules[rule].start, intern_frame(std::move(links)));
}

GrammarLattice::ConfigId GrammarLattice::close() {
  found_.clear();
  calls_.clear();
  returned_.clear();
  complete_ = escaped_ = false;
  for (;;) {
    while (!open_.empty()) {
      const Item item = open_.back();
      open_.pop_back();
      ++work_;
      expand(item);
      if (visited_.size() > 8 * kMostItems) {
        throw runtime_failure(
            "grammar: too ambiguous: the text so far can be read in too many ways");
      }
    }
    if (calls_.empty()) break;
    enter_calls();
  }
  return intern_config(complete_, escaped_);
}

GrammarLattice::FrameId GrammarLattice::intern_frame(std::vector<Link> links) {
  std::ranges::sort(links);
  links.erase(std::unique(links.begin(), links.end()), links.end());
  const std::uint64_t hash = hash_of(links, links.size());
  const auto same = [&](FrameId id) {
    const Frame& f = frames_[id];
    return std::ranges::equal(std::span(links_).subspan(f.first, f.n), links);
  };
  const FrameId known = frame_index_.find(hash, same);
  if (known != InternIndex::kNone) return known;
  Frame frame{.first = static_cast<std::uint32_t>(links_.size()),
              .n = static_cast<std::uint32_t>(links.size())};
  for (const Link& link : links)
    frame.depth = std::max(frame.depth, frames_[link.second].depth + 1);
  links_.insert(links_.end(), links.begin(), links.end());
  frames_.push_back(frame);
  const auto id = static_cast<FrameId>(frames_.size() - 1);
  frame_index_.insert(hash, id);
  return id;
}

/// Of found_.
GrammarLattice::ConfigId GrammarLattice::intern_config(bool complete, bool escaped) {
  if (found_.size() > kMostItems) {
    throw runtime_failure("grammar: too ambiguous: the text so far can be read in too many ways");
  }
  std::ranges::sort(found_);
  const std::uint64_t hash = hash_of(found_, (complete ? 1U : 0U) + (escaped ? 2U : 0U));
  const auto same = [&](ConfigId id) {
    const Config& c = configs_[id];
    return c.complete == complete && c.escaped == escaped &&
           std::ranges::equal(std::span(items_).subspan(c.first_item, c.n_items), found_);
  };
  const ConfigId known = config_index_.find(hash, same);
  if (known != InternIndex::kNone) return known;
  Config config{.first_item = static_cast<std::uint32_t>(items_.size()),
                .n_items = static_cast<std::uint32_t>(found_.size()),
                .complete = complete,
                .escaped = escaped};
  for (const Item& item : found_) config.depth = std::max(config.depth, frames_[item.second].depth);
  items_.insert(items_.end(), found_.begin(), found_.end());
  configs_.push_back(config);
  const auto id = static_cast<ConfigId>(configs_.size() - 1);
  config_index_.insert(hash, id);
  return id;
}

GrammarLattice::ConfigId GrammarLattice::local(ConfigId config) {
  const Config c = configs_[config];
  found_.clear();
  for (std::uint32_t i = 0; i < c.n_items; ++i) {
    found_.emplace_back(items_[c.first_item + i].first, kNobody);
  }
  std::ranges::sort(found_);
  found_.erase(std::unique(found_.begin(), found_.end()), found_.end());
  return intern_config(false, false);
}

std::size_t GrammarLattice::memory_bytes() const {
  return frames_.capacity() * sizeof(Frame) + links_.capacity() * sizeof(Link) +
         frame_index_.memory_bytes() + configs_.capacity() * sizeof(Config) +
         items_.capacity() * sizeof(Item) + config_index_.memory_bytes() +
         next_.capacity() * sizeof(ConfigId);
}

void GrammarLattice::collect(std::span<ConfigId* const> roots) {
  GrammarLattice fresh(program_);
  // Frames refer to older ones only: marked from the newest, copied from the oldest.
  std::vector<FrameId> moved(frames_.size(), kUnknown);
  constexpr FrameId kNeeded = kUnknown - 1;
  moved[kBottom] = kBottom;
  moved[kNobody] = kNobody;
  const auto need = [&](FrameId id) {
    if (moved[id] == kUnknown) moved[id] = kNeeded;
  };
  for (ConfigId* const root : roots) {
    const Config& c = configs_[*root];
    for (std::uint32_t i = 0; i < c.n_items; ++i) need(items_[c.first_item + i].second);
  }
  for (FrameId id = static_cast<FrameId>(frames_.size()); id-- > 0;) {
    if (moved[id] != kNeeded) continue;
    for (std::uint32_t i = 0; i < frames_[id].n; ++i) need(links_[frames_[id].first + i].second);
  }
  for (FrameId id = 0; id < frames_.size(); ++id) {
    if (moved[id] != kNeeded) continue;
    std::vector<Link> links;
    for (std::uint32_t i = 0; i < frames_[id].n; ++i) {
      const Link& link = links_[frames_[id].first + i];
      links.emplace_back(link.first, moved[link.second]);
    }
    moved[id] = fresh.intern_frame(std::move(links));
  }
  std::vector<ConfigId> fresh_roots;
  for (ConfigId* const root : roots) {
    const Config& c = configs_[*root];
    fresh.found_.clear();
    for (std::uint32_t i = 0; i < c.n_items; ++i) {
      const Item& item = items_[c.first_item + i];
      fresh.found_.emplace_back(item.first, moved[item.second]);
    }
    fresh_roots.push_back(fresh.intern_config(c.complete, c.escaped));
  }
  // Nothing throws from here on.
  for (std::size_t i = 0; i < roots.size(); ++i) *roots[i] = fresh_roots[i];
  frames_.swap(fresh.frames_);
  links_.swap(fresh.links_);
  std::swap(frame_index_, fresh.frame_index_);
  configs_.swap(fresh.configs_);
  items_.swap(fresh.items_);
  std::swap(config_index_, fresh.config_index_);
  next_.swap(fresh.next_);
}

}  // namespace heddle
