#include "tools/serve/fake_driver.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "base/error.h"

namespace heddle::serve {
namespace {

constexpr std::string_view kTemplate =
    "{% if tools %}{% for t in tools %}<tool>{{ t.function.name }}\n{% endfor %}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";
constexpr std::chrono::milliseconds kLongestWait{2};

/// FNV-1a.
std::uint64_t key_of(std::span<const std::int32_t> prompt) {
  std::uint64_t key = 0xcbf29ce484222325U;
  for (const std::int32_t token : prompt) {
    key = (key ^ static_cast<std::uint64_t>(token)) * 0x100000001b3U;
  }
  return key;
}

char letter(std::uint64_t key, std::uint32_t choice, std::int64_t at) {
  std::uint64_t x =
      key + choice * 0x9e3779b97f4a7c15U + static_cast<std::uint64_t>(at) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 31U)) * 0x94d049bb133111ebU;
  const auto n = static_cast<unsigned>((x >> 40U) % 32);
  return n < 26 ? static_cast<char>('a' + n) : ' ';
}

}  // namespace

ByteTokenizer::ByteTokenizer() {
  facts_.model = "bytes";
  facts_.bos = kBegin;
  facts_.eos = kEnd;
}

std::vector<TokenId> ByteTokenizer::encode(std::string_view text, const EncodeOptions&) const {
  std::vector<TokenId> ids;
  ids.reserve(text.size());
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

std::string ByteTokenizer::token_bytes(TokenId id, bool special) const {
  if (id < 0 || id >= vocab_size()) throw bad_input("a token id outside the vocabulary");
  if (id < kBegin) return {static_cast<char>(id)};
  if (!special) return "";
  return id == kBegin ? "<s>" : "</s>";
}

std::optional<TokenId> ByteTokenizer::find(std::string_view token) const {
  if (token.size() == 1) return static_cast<unsigned char>(token[0]);
  if (token == "<s>") return kBegin;
  if (token == "</s>") return kEnd;
  return std::nullopt;
}

FakeDriver::FakeDriver(FakeDriverOptions options)
    : options_(std::move(options)), template_(kTemplate) {
  facts_ = {.id = options_.id,
            .aliases = options_.aliases,
            .tokenizer = &tokenizer_,
            .chat_template = &template_,
            .context = options_.context,
            .vocab = tokenizer_.vocab_size(),
            .numerics_id = "fake",
            .family = "fake",
            .max_sequences = options_.max_running,
            .kv_tokens = options_.max_running * options_.context,
            .step_tokens = make_step_tokens()};
  if (!options_.text.empty()) {
    options_.natural_length = static_cast<std::int64_t>(options_.text.size());
  }
  counts_.kv_blocks = facts_.kv_tokens / facts_.block_tokens;
}

std::string FakeDriver::answer(std::span<const std::int32_t> prompt,
                               std::uint32_t choice,
                               std::int64_t n_tokens) {
  std::string text;
  const std::uint64_t key = key_of(prompt);
  for (std::int64_t i = 0; i < n_tokens; ++i) text += letter(key, choice, i);
  return text;
}

std::int64_t FakeDriver::blocks_of(const Entry& entry) const {
  const auto n_prompt = static_cast<std::int64_t>(entry.request.prompt.size());
  const std::int64_t n_tokens = n_prompt + entry.request.n * entry.n_wanted;
  return (n_tokens + facts_.block_tokens - 1) / facts_.block_tokens;
}

RequestId FakeDriver::submit(Request request, EventSink sink) {
  validate(request, facts_.vocab);
  const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
  if (n_prompt + request.max_new_tokens > options_.context) {
    throw bad_input("the request is longer than the context");
  }
  Entry entry{.request = std::move(request), .sink = std::move(sink)};
  entry.key = key_of(entry.request.prompt);
  entry.stop = StopMatcher(entry.request.stop);
  entry.n_wanted = entry.request.max_new_tokens;
  if (entry.n_wanted == 0 && !entry.request.score) entry.n_wanted = options_.context - n_prompt;
  const bool ends = !entry.request.ignore_eos && options_.natural_length > 0;
  if (ends && options_.natural_length < entry.n_wanted) {
    entry.n_wanted = std::max(options_.natural_length, entry.request.min_new_tokens);
    entry.finish = FinishReason::kStop;
  }
  if (waiting_.empty() && running_.empty()) due_ = std::max(due_, Clock::now());
  waiting_.emplace(next_, std::move(entry));
  return next_++;
}

void FakeDriver::cancel(RequestId id) {
  const bool runs = running_.contains(id);
  Entries& entries = runs ? running_ : waiting_;
  auto node = entries.extract(id);
  if (node.empty()) return;
  const Entry& entry = node.mapped();
  if (runs) {
    n_running_ -= entry.request.n;
    n_blocks_ -= blocks_of(entry);
  }
  for (int i = 0; i < entry.request.n; ++i) {
    entry.sink({.request = id,
                .choice = static_cast<std::uint32_t>(i),
                .finish = FinishReason::kCancelled});
  }
}

/// False: it is not time yet.
bool FakeDriver::wait_for_tick() {
  const Clock::time_point now = Clock::now();
  if (options_.tokens_per_second <= 0.0) {
    due_ = now;
    return true;
  }
  const auto period = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(1.0 / options_.tokens_per_second));
  if (due_ + 100 * period < now) due_ = now;  // nobody can catch up with that
  if (due_ > now) {
    std::this_thread::sleep_for(std::min<Clock::duration>(due_ - now, kLongestWait));
    if (due_ > Clock::now()) return false;
  }
  return true;
}

void FakeDriver::begin(RequestId id, Entry& entry) {
  const Request& request = entry.request;
  n_running_ += request.n;
  n_blocks_ += blocks_of(entry);
  counts_.prompt_tokens += request.n * static_cast<std::int64_t>(request.prompt.size());
  if (request.report_progress) {
    entry.sink({.request = id,
                .prompt_computed = static_cast<std::int64_t>(request.prompt.size()),
                .reuse = {.reason = "no_prefix"},
                .step_begun = Clock::now()});
  }
  if (!scores_prompt(request)) return;
  RequestEvent event{.request = id};
  event.scores.assign(request.prompt.size() - 1, -1.0F);
  const auto n_top = static_cast<std::size_t>(std::max(request.prompt_logprobs, 0));
  event.top_scores.assign(request.prompt.size() - 1, std::vector<TokenLogprob>(n_top));
  entry.sink(event);
}

void FakeDriver::admit() {
  while (!waiting_.empty()) {
    const std::int64_t n = waiting_.begin()->second.request.n;
    if (n_running_ > 0 && n_running_ + n > options_.max_running) return;
    const auto placed = running_.insert(waiting_.extract(waiting_.begin()));
    begin(placed.position->first, placed.position->second);
  }
}

bool FakeDriver::advance(RequestId id, Entry& entry) {
  std::string known;  // of FakeDriverOptions::text, which all choices say
  bool last = entry.n_done + 1 >= entry.n_wanted;
  if (entry.n_wanted > 0 && !options_.text.empty()) {
    known = entry.stop.push({&options_.text.at(static_cast<std::size_t>(entry.n_done)), 1});
    if (last && !entry.stop.stopped()) known += entry.stop.finish();
    last = last || entry.stop.stopped();
  }
  for (int i = 0; i < entry.request.n; ++i) {
    RequestEvent event{.request = id, .choice = static_cast<std::uint32_t>(i)};
    if (entry.n_wanted > 0) {
      const char c = options_.text.empty()
                         ? letter(entry.key, event.choice, entry.n_done)
                         : options_.text.at(static_cast<std::size_t>(entry.n_done));
      event.token = static_cast<unsigned char>(c);
      event.text = options_.text.empty() ? std::string(1, c) : known;
      if (options_.stamps) {
        const auto us =
            std::chrono::duration_cast<std::chrono::microseconds>(due_.time_since_epoch());
        event.text = std::to_string(us.count()) + " ";
      }
      if (entry.request.n_logprobs >= 0) event.logprob = {c, -0.5F};
      for (int t = 0; t < entry.request.n_logprobs; ++t) {
        event.top_logprobs.push_back({'a' + t, -0.5F - static_cast<float>(t)});
      }
    }
    if (last) {
      event.stop_text = entry.stop.stopped();
      event.finish = event.stop_text ? FinishReason::kStop : entry.finish;
      event.reuse.reason = "no_prefix";
    }
    entry.sink(event);
  }
  ++entry.n_done;
  return last;
}

bool FakeDriver::step() {
  if (options_.before_step) options_.before_step();
  if (waiting_.empty() && running_.empty()) return false;
  if (!wait_for_tick()) return true;
  admit();
  ++counts_.steps;
  counts_.computed_tokens += n_running_;
  if (n_running_ > 0) facts_.step_tokens->observe(static_cast<double>(n_running_));
  for (auto it = running_.begin(); it != running_.end();) {
    if (!advance(it->first, it->second)) {
      ++it;
      continue;
    }
    n_running_ -= it->second.request.n;
    n_blocks_ -= blocks_of(it->second);
    it = running_.erase(it);
  }
  if (options_.tokens_per_second > 0.0) {
    due_ += std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(1.0 / options_.tokens_per_second));
  }
  return true;
}

EngineStats FakeDriver::stats() const {
  EngineStats stats = counts_;
  stats.waiting = static_cast<std::int64_t>(waiting_.size());
  stats.running = n_running_;
  stats.kv_blocks_used = n_blocks_;
  stats.kv_blocks_free = stats.kv_blocks - n_blocks_;
  return stats;
}

SessionReport FakeDriver::save_session(const std::string&,
                                       std::span<const std::int32_t>,
                                       const std::string&) {
  throw bad_input("session: this engine keeps nothing");
}

SessionReport FakeDriver::restore_session(const std::string&, const std::string&) {
  throw bad_input("session: this engine keeps nothing");
}

}  // namespace heddle::serve
