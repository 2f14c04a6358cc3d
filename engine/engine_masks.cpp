// Which tokens a request may be given: its grammar's, and none that ends it too early.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/engine_impl.h"

namespace heddle {

std::shared_ptr<MaskJob> Engine::Impl::grammar_job(const Request& request) {
  if (!request.grammar) return nullptr;
  if (!masker) masker = std::make_unique<TokenMasker>(*tokenizer, end_ids);
  return std::make_shared<MaskJob>(*masker, request.grammar);
}

/// Of the choices of a step that go on.
void Engine::Impl::start_masks(const BatchPlan& plan) {
  const auto start = [this](SequenceId sequence) {
    const Live* entry = by_sequence(sequence);
    if (entry != nullptr && entry->grammar) mask_worker.start(entry->grammar);
  };
  for (const BatchPlan::Item& item : plan.items) {
    if (item.sample) start(item.sequence);
  }
  for (const BatchPlan::Fork& fork : plan.forks) start(fork.sequence);
}

/// Choices that a step does not wait for: their masks are not ready, and may take longer than a
/// part of the time that the step computes. Not all of it: where the model has every core, both
/// take longer.
std::vector<SequenceId> Engine::Impl::late_masks() const {
  constexpr double kLeastWait = 0.002;
  constexpr double kPart = 0.25;
  std::vector<SequenceId> pending;
  std::vector<double> expected;
  for (const auto& [sequence, entry] : live) {
    // Before the first token the prompt is computed first.
    if (entry.grammar && entry.n_generated > 0 && !entry.grammar->ready()) {
      pending.push_back(sequence);
      expected.push_back(entry.grammar->expected_s());
    }
  }
  std::vector<SequenceId> late;
  for (const std::size_t i : late_jobs(expected, std::max(kLeastWait, kPart * forward_s))) {
    late.push_back(pending[i]);
  }
  return late;
}

/// There is nothing else to do. What it throws is of the request, and is thrown when it goes on.
void Engine::Impl::wait_for_mask(const std::vector<SequenceId>& late) {
  live.at(late.front()).grammar->prepare();
}

/// Tokens that a row must not give, into the row. What fails concerns this request only.
void Engine::Impl::exclude_tokens(Live& entry, SampleRow& row) {
  const Request& request = *entry.request;
  const bool too_early = entry.n_generated < request.min_new_tokens;
  if (too_early) row.banned = entry.ends;
  if (!entry.grammar) return;
  try {
    TokenMask& mask = entry.grammar->next_mask();
    // A stop id ends the text, whatever it would add to it.
    for (const std::int32_t id : request.stop_ids) {
      entry.grammar->complete() ? mask.set(id) : mask.reset(id);
    }
    if (too_early) {
      for (const std::int32_t id : entry.ends) mask.reset(id);
      // Where nothing else may follow, the text is over.
      if (mask.none() && entry.grammar->complete()) {
        for (const std::int32_t id : entry.ends) mask.set(id);
      }
    }
    row.allowed = &mask;
    row.banned = {};
  } catch (const std::exception& e) {
    doom(entry.sequence, e.what());
  }
}

/// Goes on in the request's grammar. True: the answer is over.
bool Engine::Impl::advance_grammar(Live& entry, std::int32_t token) {
  if (!entry.grammar) return false;
  HEDDLE_CHECK(entry.grammar->accept(token));
  return entry.grammar->finished();
}

std::string Engine::Impl::describe_not_finite(std::size_t position) {
  return fmt::format("numeric_error: the logits after token {} are not finite", position);
}

std::string Engine::Impl::describe_no_token(const Live& entry, std::int32_t token) const {
  const auto position = entry.request->prompt.size() + static_cast<std::size_t>(entry.n_generated);
  if (token != kNoTokenAllowed) return describe_not_finite(position);
  if (entry.request->grammar) {
    return fmt::format(
        "grammar: no token is allowed after token {}: the vocabulary has none that goes on, its "
        "biases exclude them all, or the text is nested too deep",
        position);
  }
  return fmt::format("min_new_tokens: no token is allowed after token {} but those that end",
                     position);
}

}  // namespace heddle
