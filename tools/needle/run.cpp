#include "tools/needle/run.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "base/error.h"

namespace heddle::needle {
namespace {

/// One cell on its way to a row.
struct Job {
  BuiltPrompt prompt;
  bool done_before = false;
  bool leads = false;
  bool asked = false;
  bool prefilled = false;
  std::optional<Row> row;
  std::vector<std::int64_t> departures;
};

bool same_haystack(const CellGroup& a, const CellGroup& b) {
  return a.task.name == b.task.name && a.task.suite == b.task.suite &&
         a.keys.front().sample == b.keys.front().sample;
}

class GridRun {
 public:
  GridRun(const std::vector<CellGroup>& groups,
          PromptSource& prompts,
          Target& target,
          const RunOptions& options)
      : groups_(groups), prompts_(prompts), target_(target), options_(options) {}

  bool run() {
    for (;;) {
      if (options_.stop && options_.stop()) return false;
      ask_more();
      write_ready();
      if (open_.empty() && next_group_ == groups_.size()) return true;
      const bool goes_on = target_.step();
      HEDDLE_CHECK(goes_on || n_running_ == 0);  // else nobody would ever answer
      write_ready();
    }
  }

 private:
  using Jobs = std::deque<Job>;  // of one group; places do not move

  /// Builds the prompts of the next group. What cannot be built is a row with an error.
  Jobs build(const CellGroup& group) {
    Jobs jobs;
    for (const CellKey& key : group.keys) {
      Job& job = jobs.emplace_back();
      job.prompt.key = key;
      job.done_before = options_.is_done && options_.is_done(key);
      if (job.done_before) continue;
      try {
        job.prompt = prompts_.build(group.task, key);
      } catch (const Error& error) {
        job.row = row_of(job.prompt, {.error = error.what()});
      }
    }
    return jobs;
  }

  /// The group after the last open one is built ahead: states are kept where it departs.
  void open_group() {
    if (next_group_ == groups_.size()) return;
    open_.push_back(std::move(ahead_ ? *ahead_ : (ahead_ = build(groups_[next_group_])).value()));
    ahead_.reset();
    const std::size_t group = next_group_++;
    Jobs* next = nullptr;
    if (next_group_ < groups_.size()) {
      ahead_ = build(groups_[next_group_]);
      if (same_haystack(groups_[group], groups_[next_group_])) next = &*ahead_;
    }
    set_departures(open_.back(), next);
  }

  /// The first prompt of a group that is asked holds what the others begin with.
  static void set_departures(Jobs& jobs, const Jobs* next) {
    const auto is_built = [](const Job& job) { return !job.prompt.prompt.tokens.empty(); };
    const auto lead = std::find_if(jobs.begin(), jobs.end(), is_built);
    if (lead == jobs.end()) return;
    lead->leads = true;
    const std::vector<TokenId>& tokens = lead->prompt.prompt.tokens;
    std::vector<std::int64_t>& departures = lead->departures;
    const auto add = [&](const Job& other) {
      const std::size_t n = common_prefix(tokens, other.prompt.prompt.tokens);
      if (n > 0 && n < tokens.size()) departures.push_back(static_cast<std::int64_t>(n));
    };
    std::for_each(lead + 1, jobs.end(), add);
    if (next != nullptr) {
      const auto of_next = std::find_if(next->begin(), next->end(), is_built);
      if (of_next != next->end()) add(*of_next);
    }
    std::sort(departures.begin(), departures.end());
    departures.erase(std::unique(departures.begin(), departures.end()), departures.end());
  }

  /// The first prompt of a group is computed before the others, which begin with parts of it.
  void ask_more() {
    while (n_running_ < options_.concurrency) {
      if (asking_group_ == open_.size()) {
        if (next_group_ == groups_.size()) return;
        if (!open_.empty() && !lead_is_ready(open_.back())) return;
        open_group();
      }
      Jobs& jobs = open_[asking_group_];
      const auto next = std::find_if(jobs.begin(), jobs.end(), [](const Job& job) {
        return !job.done_before && !job.asked && !job.row;
      });
      if (next == jobs.end()) {
        ++asking_group_;
        continue;
      }
      if (!lead_is_ready(jobs) && is_lead_asked(jobs)) return;
      ask(*next);
    }
  }

  static bool is_lead_asked(const Jobs& jobs) {
    return std::any_of(jobs.begin(), jobs.end(), [](const Job& job) { return job.asked; });
  }
  /// Nothing is left to wait for: the first that was asked is computed, or none is to be.
  static bool lead_is_ready(const Jobs& jobs) {
    const auto lead =
        std::find_if(jobs.begin(), jobs.end(), [](const Job& job) { return job.asked; });
    return lead != jobs.end() ? lead->prefilled
                              : std::all_of(jobs.begin(), jobs.end(), [](const Job& job) {
                                  return job.done_before || job.row;
                                });
  }

  void ask(Job& job) {
    job.asked = true;
    ++n_running_;
    try {
      target_.ask(
          {.prompt = &job.prompt, .departures = job.departures, .leave = job.leads},
          [&job] { job.prefilled = true; },
          [this, &job](Reply reply) { finish(job, std::move(reply)); });
    } catch (const Error& error) {
      finish(job, {.error = error.what()});
    }
  }

  void finish(Job& job, Reply reply) {
    --n_running_;
    job.prefilled = true;
    job.row = row_of(job.prompt, std::move(reply));
  }

  Row row_of(const BuiltPrompt& prompt, Reply reply) const {
    Row row{.key = prompt.key,
            .model = options_.model,
            .attention = options_.attention,
            .answer = std::move(reply.text),
            .expected = prompt.expected,
            .prompt_tokens = reply.prompt_tokens,
            // A server that says nonsense gets no row that cannot be read back.
            .cached_tokens = std::min(reply.cached_tokens, reply.prompt_tokens),
            .prefill_s = reply.prefill_s,
            .decode_s = reply.decode_s,
            .kv_bytes = reply.kv_bytes,
            .state_bytes = reply.state_bytes,
            .error = std::move(reply.error)};
    if (!row.error.empty()) return row;
    const std::string answer = options_.skip_thoughts ? without_thoughts(row.answer) : row.answer;
    try {
      row.score = options_.judge ? options_.judge(prompt, answer)
                                 : score(options_.scorer, prompt.match, answer, prompt.expected);
    } catch (const Error& error) {
      row.error = error.what();
    }
    return row;
  }

  void write_ready() {
    while (!open_.empty()) {
      Jobs& jobs = open_.front();
      for (; written_ < jobs.size(); ++written_) {
        Job& job = jobs[written_];
        if (job.done_before) {
          if (options_.skipped) options_.skipped(job.prompt.key);
        } else if (job.row) {
          options_.write(std::move(*job.row));
        } else {
          return;
        }
      }
      if (asking_group_ == 0) return;  // its other jobs are looked at once more
      open_.pop_front();
      --asking_group_;
      written_ = 0;
    }
  }

  const std::vector<CellGroup>& groups_;
  PromptSource& prompts_;
  Target& target_;
  const RunOptions& options_;
  std::deque<Jobs> open_;  // groups that have been begun, in order
  std::optional<Jobs> ahead_;
  std::size_t next_group_ = 0;    // that is not open
  std::size_t asking_group_ = 0;  // of open_
  std::size_t written_ = 0;       // jobs of the first open one
  std::size_t n_running_ = 0;
};

}  // namespace

std::vector<CellGroup> groups_of(const Grid& grid) {
  std::vector<CellGroup> groups;
  for (const TaskSpec& task : grid.tasks) {
    for (std::int64_t sample = 0; sample < grid.samples; ++sample) {
      for (const std::int64_t length : grid.lengths) {
        CellGroup group{.task = task, .keys = {}};
        const auto add = [&](std::optional<double> depth) {
          group.keys.push_back({.suite = std::string(task.suite),
                                .task = std::string(task.name),
                                .length = length,
                                .depth = depth,
                                .seed = grid.seed,
                                .sample = sample});
        };
        if (task.has_depth) {
          for (auto depth = grid.depths.rbegin(); depth != grid.depths.rend(); ++depth) add(*depth);
        } else {
          add(std::nullopt);
        }
        groups.push_back(std::move(group));
      }
    }
  }
  return groups;
}

double expected_cost(const CellGroup& group, const CellGroup* before, std::size_t i, bool reuse) {
  const CellKey& key = group.keys.at(i);
  const auto length = static_cast<double>(key.length);
  if (!reuse || !key.depth) return length;
  if (i > 0) return length * (1.0 - *key.depth / 100.0) + 1.0;
  const bool shares = before != nullptr && same_haystack(*before, group);
  return length - (shares ? static_cast<double>(before->keys.front().length) : 0.0) + 1.0;
}

std::size_t common_prefix(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  const std::size_t n = std::min(a.size(), b.size());
  return static_cast<std::size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<long>(n), b.begin()).first - a.begin());
}

bool run_grid(const std::vector<CellGroup>& groups,
              PromptSource& prompts,
              Target& target,
              const RunOptions& options) {
  return GridRun(groups, prompts, target, options).run();
}

}  // namespace heddle::needle
